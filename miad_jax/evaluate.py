"""`python -m miad_jax.evaluate`: see `miad_jax.commands.evaluate`."""

if __name__ == "__main__":
    from miad_jax.commands.start import start

    start("evaluate")
else:
    from miad_jax.commands.evaluate import main as main
