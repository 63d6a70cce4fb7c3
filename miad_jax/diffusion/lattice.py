"""DDPM on the lattice (Ho et al., arXiv:2006.11239): the noise is an argument everywhere."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from miad_jax.diffusion.schedules import LatticeSchedule


def add_noise(
    schedule: LatticeSchedule,
    lattice_0: Float[Array, "*batch 3 3"],
    t: Int[Array, "*#batch"],
    noise: Float[Array, "*batch 3 3"],
) -> Float[Array, "*batch 3 3"]:
    """L_t = √ᾱ_t L_0 + √(1−ᾱ_t) ε (Eq. 4, arXiv:2006.11239).

    Args:
        schedule: The noise schedule.
        lattice_0: Clean cell vectors as rows, in Å.
        t: Row of the schedule.
        noise: ε, standard normal.

    Example:
        >>> schedule = miad_jax.make_diffusion().lattice
        >>> clean = 4.0 * jnp.eye(3)
        >>> add_noise(schedule, clean, jnp.int32(0), jnp.zeros((3, 3)))[0, 0].round(3).item()
        4.0
    """
    signal = _row(jnp.sqrt(schedule.alpha_bar), t)
    spread = _row(jnp.sqrt(schedule.one_minus_alpha_bar), t)
    return signal * lattice_0 + spread * noise


def reverse_step(
    schedule: LatticeSchedule,
    lattice_t: Float[Array, "*batch 3 3"],
    eps_hat: Float[Array, "*batch 3 3"],
    t: Int[Array, "*#batch"],
    noise: Float[Array, "*batch 3 3"],
) -> Float[Array, "*batch 3 3"]:
    """One step back (Algorithm 2, arXiv:2006.11239); no noise in the first row.

    L_s = (L_t − (1−α_t)/√(1−ᾱ_t) ε̂)/√α_t + √(β_t(1−ᾱ_s)/(1−ᾱ_t)) z.

    Example:
        >>> schedule = miad_jax.make_diffusion().lattice
        >>> t, eps = jnp.int32(0), jnp.ones((3, 3))
        >>> noised = add_noise(schedule, 4.0 * jnp.eye(3), t, eps)
        >>> reverse_step(schedule, noised, eps, t, eps).round(2)[0].tolist()
        [4.0, 0.0, 0.0]
    """
    beta = _row(schedule.beta, t)
    one_minus_alpha_bar = _row(schedule.one_minus_alpha_bar, t)
    mean = (lattice_t - beta / jnp.sqrt(one_minus_alpha_bar) * eps_hat) / jnp.sqrt(
        _row(schedule.alpha, t)
    )
    return mean + _row(schedule.reverse_std, t) * noise


def loss(
    eps_hat: Float[Array, "*batch 3 3"], noise: Float[Array, "*batch 3 3"]
) -> Float[Array, "*batch"]:
    """Mean over the nine entries of (ε̂ − ε)², for each crystal.

    Example:
        >>> loss(jnp.ones((2, 3, 3)), jnp.zeros((2, 3, 3))).tolist()
        [1.0, 1.0]
    """
    return jnp.square(eps_hat - noise).mean((-2, -1))


def _row(column: Float[Array, " time"], t: Int[Array, "*batch"]) -> Float[Array, "*batch 1 1"]:
    return jnp.asarray(column)[t][..., None, None]
