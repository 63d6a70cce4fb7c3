"""`python -m miad_jax.sample`: see `miad_jax.commands.sample`."""

if __name__ == "__main__":
    from miad_jax.commands.start import start

    start("sample")
else:
    from miad_jax.commands.sample import main as main
