"""The corrector of the coordinates: Langevin dynamics at one noise level."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from miad_jax.diffusion.coords import WrappedNormal


def langevin_step(
    process: WrappedNormal,
    frac_coords_t: Float[Array, "*batch atoms 3"],
    said: Float[Array, "*batch atoms 3"],
    t: Int[Array, "*#batch #atoms"],
    noise: Float[Array, "*batch atoms 3"],
    *,
    gamma: float | Float[Array, ""],
) -> Float[Array, "*batch atoms 3"]:
    """F' = F_t + h ∇ log q + √(2h) z with h = γ (σ_t/σ_0)², not wrapped (DiffCSP, Algorithm 2).

    Args:
        process: The process of the coordinates.
        frac_coords_t: Coordinates at t.
        said: The network's prediction for them.
        t: Time of each atom.
        noise: z, standard normal.
        gamma: γ, the published `step_lr`.

    Example:
        >>> from miad_jax.diffusion.coords import WrappedNormal
        >>> process, still = WrappedNormal.make(1000), jnp.zeros((1, 3))
        >>> langevin_step(process, still, still, jnp.array([500]), still, gamma=1e-5).tolist()
        [[0.0, 0.0, 0.0]]
    """
    size = gamma * jnp.square(process.sigma[t] / process.sigma[0])[..., None]
    return frac_coords_t + size * process.score(said, t) + jnp.sqrt(2 * size) * noise
