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

    Example:
        >>> negative_score(jnp.array([0.25, 1.25]), jnp.array([0.1, 0.1])).round(2).tolist()
        [25.0, 25.0]
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
    """F_t = (F_0 + σ_t ε) mod 1, with ε standard normal.

    Example:
        >>> schedule = miad_jax.make_diffusion().coords
        >>> noised = add_noise(schedule, jnp.full((1, 3), 0.75), jnp.int32(999), jnp.ones((1, 3)))
        >>> noised.round(2).tolist()
        [[0.25, 0.25, 0.25]]
    """
    return wrap(frac_coords_0 + _row(schedule.sigma, t) * noise)


def target(
    schedule: CoordsSchedule, t: Int[Array, "*#batch"], noise: Float[Array, "*batch atoms 3"]
) -> Float[Array, "*batch atoms 3"]:
    """What the network has to predict: s(σ_t ε, σ_t)/√λ_t.

    Example:
        >>> schedule = miad_jax.make_diffusion().coords
        >>> target(schedule, jnp.int32(0), jnp.ones((1, 3))).round(3).tolist()
        [[1.0, 1.0, 1.0]]
    """
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
    """Langevin step at the noise level of t: F' = F_t − h √λ_t p + √(2h) z, not wrapped.

    Example:
        >>> schedule = miad_jax.make_diffusion().coords
        >>> still = jnp.zeros((1, 3))
        >>> corrector_step(schedule, still, still, jnp.int32(500), still).tolist()
        [[0.0, 0.0, 0.0]]
    """
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

    Example:
        >>> schedule = miad_jax.make_diffusion().coords
        >>> still = jnp.zeros((1, 3))
        >>> predictor_step(schedule, still + 1.25, still, jnp.int32(500), still).tolist()
        [[0.25, 0.25, 0.25]]
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
    """Mean over the three directions of (prediction − target)², 0 where `mask` is False.

    Example:
        >>> loss(jnp.ones((2, 3)), jnp.zeros((2, 3)), jnp.array([True, False])).tolist()
        [1.0, 0.0]
    """
    return jnp.where(mask, jnp.square(prediction - target).mean(-1), 0)


def _row(column: Float[Array, " time"], t: Int[Array, "*batch"]) -> Float[Array, "*batch 1 1"]:
    return jnp.asarray(column)[t][..., None, None]
