"""Work outside JAX: worker processes, and what is said while it goes on."""
