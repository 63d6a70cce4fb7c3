"""`python -m miad_jax.download`: see `miad_jax.commands.download`."""

if __name__ == "__main__":
    from miad_jax.commands.start import start

    start("download")
else:
    from miad_jax.commands.download import main as main
