"""`python -m miad_jax.relax`: see `miad_jax.commands.relax`."""

if __name__ == "__main__":
    from miad_jax.commands.start import start

    start("relax")
else:
    from miad_jax.commands.relax import main as main
