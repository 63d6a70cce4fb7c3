"""Score matching on the torus for the fractional coordinates (DiffCSP, arXiv:2309.04475).

The noise is a wrapped normal of width σ_t. The network predicts the *negative* score of it,
divided by its root mean square √λ_t, so that targets have unit variance at every t.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from miad_jax.crystal import wrap
from miad_jax.diffusion.schedules import CoordsSchedule

NUM_IMAGES = 10


def negative_score(
    displacement: Float[Array, "*shape"], sigma: Float[Array, "*#shape"]
) -> Float[Array, "*shape"]:
    """s(d, σ) = −∇_d log Σ_k exp(−(d+k)²/2σ²), k = −10 … 10.

    s has period 1, so d is wrapped to [−½, ½] first. With the weight of every image taken
    relative to the nearest, exp(−k(k+2d)/2σ²) ≤ 1, the result is finite for every d and keeps
    its digits at the jump d = ½.

    Args:
        displacement: d = σ ε, in fractions of the cell.
        sigma: Width of the normal, in the same unit.
    """
    nearest = displacement - jnp.round(displacement)
    variance = jnp.square(sigma)
    image = jnp.arange(-NUM_IMAGES, NUM_IMAGES + 1, dtype=nearest.dtype)
    weight = jnp.exp(-0.5 * image * (image + 2 * nearest[..., None]) / variance[..., None])
    return (nearest + (weight * image).sum(-1) / weight.sum(-1)) / variance


def add_noise(
    schedule: CoordsSchedule,
    frac_coords_0: Float[Array, "*batch atoms 3"],
    t: Int[Array, "*#batch"],
    noise: Float[Array, "*batch atoms 3"],
) -> Float[Array, "*batch atoms 3"]:
    """F_t = (F_0 + σ_t ε) mod 1, with ε standard normal."""
    return wrap(frac_coords_0 + _row(schedule.sigma, t) * noise)


def target(
    schedule: CoordsSchedule, t: Int[Array, "*#batch"], noise: Float[Array, "*batch atoms 3"]
) -> Float[Array, "*batch atoms 3"]:
    """What the network has to predict: s(σ_t ε, σ_t)/√λ_t."""
    sigma = _row(schedule.sigma, t)
    scale = jax.lax.rsqrt(_row(schedule.score_sq_mean, t))
    return negative_score(sigma * noise, jnp.broadcast_to(sigma, noise.shape)) * scale


def corrector_step(
    schedule: CoordsSchedule,
    frac_coords_t: Float[Array, "*batch atoms 3"],
    prediction: Float[Array, "*batch atoms 3"],
    t: Int[Array, "*#batch"],
    noise: Float[Array, "*batch atoms 3"],
) -> Float[Array, "*batch atoms 3"]:
    """Langevin step at the noise level of t: F' = F_t − h √λ_t p + √(2h) z, not wrapped."""
    size = _row(schedule.corrector_size, t)
    spread = _row(schedule.corrector_noise, t) * jnp.sqrt(2 * size)
    drift = size * jnp.sqrt(_row(schedule.score_sq_mean, t)) * prediction
    return frac_coords_t - drift + spread * noise


def predictor_step(
    schedule: CoordsSchedule,
    frac_coords: Float[Array, "*batch atoms 3"],
    prediction: Float[Array, "*batch atoms 3"],
    t: Int[Array, "*#batch"],
    noise: Float[Array, "*batch atoms 3"],
) -> Float[Array, "*batch atoms 3"]:
    """Ancestral step to the row before s, with g = σ_t² − σ_s².

    F_s = (F' − g √λ_t p' + √(σ_s² g/σ_t²) z') mod 1.
    """
    sigma, sigma_prev = _row(schedule.sigma, t), _row(schedule.sigma_prev, t)
    gap = (sigma - sigma_prev) * (sigma + sigma_prev)
    drift = gap * jnp.sqrt(_row(schedule.score_sq_mean, t)) * prediction
    return wrap(frac_coords - drift + sigma_prev / sigma * jnp.sqrt(gap) * noise)


def loss(
    prediction: Float[Array, "*batch atoms 3"],
    target: Float[Array, "*batch atoms 3"],
    mask: Bool[Array, "*batch atoms"],
) -> Float[Array, "*batch atoms"]:
    """Mean over the three directions of (prediction − target)², 0 where `mask` is False."""
    return jnp.where(mask, jnp.square(prediction - target).mean(-1), 0)


def _row(column: Float[Array, " time"], t: Int[Array, "*batch"]) -> Float[Array, "*batch 1 1"]:
    return jnp.asarray(column)[t][..., None, None]
