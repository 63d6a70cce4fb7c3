"""Noise schedules as tables: one row for each kept time, from the least noisy to the noisiest.

Every table has T rows for the full process, t = 0 … T−1; row 0 is the least noisy level, not
the clean crystal, and the level before each row is a column of its own (`…_prev`). A table
with fewer rows is a *respaced* process: the same noise levels, with longer steps between them.

All columns are computed in float64 and stored as float32. Quantities such as 1 − ᾱ are stored
beside ᾱ, because their difference in float32 would have no correct digits at small t.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Ending = Literal["clean", "published"]
COSINE_OFFSET = 0.008


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LatticeSchedule:
    """DDPM with the cosine schedule (Nichol and Dhariwal, arXiv:2102.09672).

    Attributes:
        alpha_bar: ᾱ_t, the share of the signal's variance at t.
        one_minus_alpha_bar: 1 − ᾱ_t.
        alpha: α_t = ᾱ_t / ᾱ_s, with s the row before.
        beta: 1 − α_t.
        alpha_bar_prev: ᾱ_s; 1 before the first row.
        reverse_std: Standard deviation of the reverse step; 0 in the first row.
    """

    alpha_bar: Float[Array, " time"]
    one_minus_alpha_bar: Float[Array, " time"]
    alpha: Float[Array, " time"]
    beta: Float[Array, " time"]
    alpha_bar_prev: Float[Array, " time"]
    reverse_std: Float[Array, " time"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class CoordsSchedule:
    """Wrapped normal of growing width, with predictor and corrector steps (DiffCSP).

    Attributes:
        sigma: σ_t, in fractions of the cell.
        sigma_prev: σ of the row before. Before the first row: 0 ("clean" ending) or σ_0.
        score_sq_mean: λ_t = E[s²], the mean square of the target at t.
        corrector_size: h_t = γ (σ_t/σ_0)².
        corrector_noise: Factor of the corrector's noise: 1, and in the first row 0 with the
            "clean" ending.
    """

    sigma: Float[Array, " time"]
    sigma_prev: Float[Array, " time"]
    score_sq_mean: Float[Array, " time"]
    corrector_size: Float[Array, " time"]
    corrector_noise: Float[Array, " time"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TypesSchedule:
    """D3PM with uniform transitions (Austin et al., arXiv:2107.03006).

    Attributes:
        keep: Probability that a type has never been redrawn up to t: Q̄_t = a I + (1−a)/K 11ᵀ.
        one_minus_keep: 1 − a.
        beta: Probability that this step redraws the type: Q_t = (1−β) I + β/K 11ᵀ.
        keep_prev: a of the row before; 1 before the first row.
        one_minus_keep_prev: Its complement.
        temperature: What logits are divided by in the reverse process; 1 is D3PM.
    """

    keep: Float[Array, " time"]
    one_minus_keep: Float[Array, " time"]
    beta: Float[Array, " time"]
    keep_prev: Float[Array, " time"]
    one_minus_keep_prev: Float[Array, " time"]
    temperature: Float[Array, ""]


def respaced_times(num_steps: int, num_kept: int) -> Int[np.ndarray, " kept"]:
    """Times kept when `num_steps` are respaced to `num_kept`: evenly spread, both ends kept.

    Raises:
        ValueError: If `num_kept` is not between 1 and `num_steps`.
    """
    if not 1 <= num_kept <= num_steps:
        raise ValueError(
            f"cannot keep {num_kept} of {num_steps} diffusion steps: choose 1 to {num_steps}"
        )
    if num_kept == 1:
        return np.array([num_steps - 1])
    return np.round(np.linspace(0, num_steps - 1, num_kept)).astype(int)


def lattice_schedule(num_steps: int, times: Int[np.ndarray, " kept"]) -> LatticeSchedule:
    """Cosine schedule f(u) = cos²(((u/T) + s)/(1 + s) · π/2), β clipped to [1e-4, 0.9999]."""
    u = np.arange(num_steps + 1) / num_steps
    f = np.cos((u + COSINE_OFFSET) / (1 + COSINE_OFFSET) * np.pi / 2) ** 2
    log_alpha = np.log1p(-np.clip(1 - f[1:] / f[:-1], 1e-4, 0.9999))
    log_alpha_bar = np.cumsum(log_alpha)[times]
    log_alpha_bar_prev = np.concatenate([[0.0], log_alpha_bar[:-1]])
    one_minus_alpha_bar = -np.expm1(log_alpha_bar)
    beta = -np.expm1(log_alpha_bar - log_alpha_bar_prev)
    reverse_variance = beta * -np.expm1(log_alpha_bar_prev) / one_minus_alpha_bar
    return LatticeSchedule(
        alpha_bar=_float32(np.exp(log_alpha_bar)),
        one_minus_alpha_bar=_float32(one_minus_alpha_bar),
        alpha=_float32(1 - beta),
        beta=_float32(beta),
        alpha_bar_prev=_float32(np.exp(log_alpha_bar_prev)),
        reverse_std=_float32(np.sqrt(reverse_variance)),
    )


def coords_schedule(
    num_steps: int,
    times: Int[np.ndarray, " kept"],
    *,
    corrector_gamma: float,
    ending: Ending,
    sigma_min: float = 0.005,
    sigma_max: float = 0.5,
) -> CoordsSchedule:
    """Geometric schedule σ_t = σ_min (σ_max/σ_min)^{t/(T−1)}.

    Args:
        num_steps: T of the full process.
        times: The times kept, ascending.
        corrector_gamma: γ, the published `step_lr`.
        ending: "clean" ends with σ = 0 and no corrector noise (DiffCSP); "published" takes the
            σ before the first row as σ_0, so that the last predictor step does not move.
        sigma_min: σ at t = 0, in fractions of the cell.
        sigma_max: σ at t = T−1.

    Raises:
        ValueError: If `ending` is unknown.
    """
    if ending not in get_args(Ending):
        raise ValueError(f"ending is {ending!r}; allowed: {', '.join(get_args(Ending))}")
    sigma_all = sigma_min * (sigma_max / sigma_min) ** (
        np.arange(num_steps) / max(num_steps - 1, 1)
    )
    sigma = sigma_all[times]
    clean = ending == "clean"
    corrector_noise = np.ones_like(sigma)
    corrector_noise[0] = 0.0 if clean else 1.0
    return CoordsSchedule(
        sigma=_float32(sigma),
        sigma_prev=_float32(np.concatenate([[0.0 if clean else sigma[0]], sigma[:-1]])),
        score_sq_mean=_float32(score_sq_mean(sigma)),
        corrector_size=_float32(corrector_gamma * (sigma / sigma_min) ** 2),
        corrector_noise=_float32(corrector_noise),
    )


def types_schedule(
    num_steps: int, times: Int[np.ndarray, " kept"], *, temperature: float
) -> TypesSchedule:
    """a(u) = cos(((u/(T+1)) + s)/(1+s) · π/2) / cos(s/(1+s) · π/2): row t holds a(t+1).

    Args:
        num_steps: T of the full process.
        times: The times kept, ascending.
        temperature: Below 1 the reverse process trusts the likeliest clean types more than the
            model does.
    """
    u = np.arange(num_steps + 1) / (num_steps + 1)
    cosine = np.cos((u + COSINE_OFFSET) / (1 + COSINE_OFFSET) * np.pi / 2)
    keep_all = cosine / cosine[0]
    keep = keep_all[1:][times]
    keep_prev = np.concatenate([[1.0], keep[:-1]])
    return TypesSchedule(
        keep=_float32(keep),
        one_minus_keep=_float32(1 - keep),
        beta=_float32(1 - keep / keep_prev),
        keep_prev=_float32(keep_prev),
        one_minus_keep_prev=_float32(1 - keep_prev),
        temperature=jnp.float32(temperature),
    )


def score_sq_mean(sigma: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
    """λ = E_{d ~ N(0, σ²)}[s(d, σ)²] by quadrature, with s of `coords.negative_score`.

    s is periodic, so the mean is one over the wrapped density on [−½, ½]. Differs from the
    published code, which averages 100,000 random draws (up to 1.6 % off).
    """
    num_images = 6  # images farther than 6 cells weigh less than 1e-26 at σ = 0.5
    grid = np.linspace(0, 0.5, 1025)  # the integrand is even: half the period
    weight = np.full(grid.size, 2.0)  # trapezoid rule: geometric convergence, as s is periodic
    weight[[0, -1]] = 1.0
    images = grid[:, None] + np.arange(-num_images, num_images + 1)
    result = np.empty_like(sigma)
    for i, width in enumerate(sigma):
        exponent = -0.5 * (images / width) ** 2
        density = np.exp(exponent - exponent.max(-1, keepdims=True))
        score = (density * images).sum(-1) / density.sum(-1) / width**2
        probability = weight * np.exp(exponent).sum(-1)
        result[i] = (probability * score**2).sum() / probability.sum()
    return result


def _float32(x: Float[np.ndarray, " time"]) -> Float[Array, " time"]:
    return jnp.asarray(x, jnp.float32)
