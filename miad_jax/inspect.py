"""`python -m miad_jax.inspect`: see `miad_jax.commands.inspect`."""

if __name__ == "__main__":
    from miad_jax.commands.start import start

    start("inspect")
else:
    from miad_jax.commands.inspect import main as main
