"""`python -m miad_jax.sample`: see `miad_jax.commands.sample`."""

from miad_jax.commands.sample import main

if __name__ == "__main__":
    from miad_jax.commands import cli

    cli.run(main)
