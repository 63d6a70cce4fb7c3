"""`python -m miad_jax.train`: see `miad_jax.commands.train`."""

from miad_jax.commands.train import main

if __name__ == "__main__":
    from miad_jax.commands import cli

    cli.run(main)
