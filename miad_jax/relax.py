"""`python -m miad_jax.relax`: see `miad_jax.commands.relax`."""

from miad_jax.commands.relax import main

if __name__ == "__main__":
    from miad_jax.commands import cli

    cli.run(main)
