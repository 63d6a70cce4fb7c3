"""Correctors of the coordinates: they move at one noise level, and renew part of their noise."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from miad_jax.diffusion.process import ScoreProcess


def langevin_step(
    process: ScoreProcess,
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


def renewal_step(
    process: ScoreProcess,
    frac_coords_t: Float[Array, "*batch atoms 3"],
    said: Float[Array, "*batch atoms 3"],
    t: Int[Array, "*#batch #atoms"],
    noise: Float[Array, "*batch atoms 3"],
    *,
    gamma: float | Float[Array, ""],
) -> Float[Array, "*batch atoms 3"]:
    """F' = D + c (F_t − D) + √(1−c²) σ_t z with D = F_t + σ_t² ∇ log q, not wrapped.

    It keeps the share c = 1 − γ/σ_0² of the noise, as `langevin_step` does, and draws as much anew
    as that lacks: where an atom's clean place is certain, the noise is what it was.

    Args:
        process: The process of the coordinates.
        frac_coords_t: Coordinates at t.
        said: The network's prediction for them.
        t: Time of each atom.
        noise: z, standard normal.
        gamma: γ, at most σ_0².

    Example:
        >>> from miad_jax.diffusion.coords import WrappedNormal
        >>> process, t, noise = WrappedNormal.make(1000), jnp.array([500]), jnp.ones((1, 3))
        >>> said = process.target(t, noise)
        >>> noised = process.add_noise(jnp.full((1, 3), 0.5), t, noise)
        >>> kept = renewal_step(process, noised, said, t, 0 * noise, gamma=1e-5)
        >>> [round(float(x), 3) for x in (kept - 0.5)[0] / (noised - 0.5)[0]]
        [0.6, 0.6, 0.6]
    """
    share = jnp.clip(gamma / jnp.square(process.sigma[0]), 0, 1)
    variance = jnp.square(process.sigma[t])[..., None]
    towards = share * variance * process.score(said, t)
    return frac_coords_t + towards + jnp.sqrt(share * (2 - share) * variance) * noise
