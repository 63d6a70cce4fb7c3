"""`python -m miad_jax.train`: see `miad_jax.commands.train`."""

if __name__ == "__main__":
    from miad_jax.commands.start import start

    start("train")
else:
    from miad_jax.commands.train import main as main
