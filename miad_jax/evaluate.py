"""`python -m miad_jax.evaluate`: see `miad_jax.commands.evaluate`."""

from miad_jax.commands.evaluate import main

if __name__ == "__main__":
    from miad_jax.commands import cli

    cli.run(main)
