"""`python -m miad_jax.download`: see `miad_jax.commands.download`."""

from miad_jax.commands.download import main

if __name__ == "__main__":
    from miad_jax.commands import cli

    cli.run(main)
