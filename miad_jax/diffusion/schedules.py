"""Noise schedules as tables of the full process: row t for t = 0 … T−1, and the clean row −1.

Row 0 is the least noisy level, not the clean crystal. The clean crystal has a row of its own, which
is stored last, where the index −1 finds it. Tables do not depend on the steps of a sampler: a step
goes from any time to any earlier one.

All columns are computed in float64 and stored as float32. Quantities such as 1 − ᾱ are stored
beside ᾱ, because their difference in float32 would have no correct digits at small t. Logarithms
that steps subtract are stored as two numbers, so that neighbouring rows too differ by the right
digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

COSINE_OFFSET = 0.008


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LogTable:
    """Logarithms of a falling share, 0 in the clean row, to twice the digits of float32.

    Attributes:
        high: The logarithm.
        low: What rounding took from it.
    """

    high: Float[Array, " time"]
    low: Float[Array, " time"]

    @classmethod
    def of(cls, values: Float[np.ndarray, " time"]) -> LogTable:
        """Store float64 numbers, the clean row not among them."""
        values = np.append(values, 0.0)
        high = values.astype(np.float32)
        return cls(jnp.asarray(high), jnp.asarray((values - high).astype(np.float32)))

    def difference(
        self, t: Int[Array, "*times"], s: Int[Array, "*times"]
    ) -> Float[Array, "*times"]:
        """Log x_t − log x_s, accurate also where the two are nearly equal."""
        return (self.high[t] - self.high[s]) + (self.low[t] - self.low[s])


def lattice_log_alpha_bar(num_steps: int) -> Float[np.ndarray, " time"]:
    """Log ᾱ_t of the cosine schedule (Nichol and Dhariwal, arXiv:2102.09672).

    ᾱ_t = Π_{i≤t} (1 − β_i), β_t = clip(1 − f(t+1)/f(t), 1e-4, 0.9999) and
    f(u) = cos²(((u/T) + s)/(1 + s) · π/2).
    """
    u = np.arange(num_steps + 1) / num_steps
    f = np.cos((u + COSINE_OFFSET) / (1 + COSINE_OFFSET) * np.pi / 2) ** 2
    return np.cumsum(np.log1p(-np.clip(1 - f[1:] / f[:-1], 1e-4, 0.9999)))


def linear_log_alpha_bar(num_steps: int) -> Float[np.ndarray, " time"]:
    """Log ᾱ_t = −∫₀^u β with β from 0.1 to 20, u = (t + 1)/T (Song et al., arXiv:2011.13456)."""
    u = np.arange(1, num_steps + 1) / num_steps
    return -(0.1 * u + 0.5 * (20 - 0.1) * u**2)


def linear_share(num_steps: int) -> Float[np.ndarray, " time"]:
    """(t + 1)/T, which share of a straight way is gone at t."""
    return np.arange(1, num_steps + 1) / num_steps


def geometric_sigma(
    num_steps: int, sigma_min: float, sigma_max: float
) -> Float[np.ndarray, " time"]:
    """σ_t = σ_min (σ_max/σ_min)^{t/(T−1)}."""
    return sigma_min * (sigma_max / sigma_min) ** (np.arange(num_steps) / max(num_steps - 1, 1))


def types_keep(num_steps: int) -> Float[np.ndarray, " time"]:
    """a(u) = cos(((u/(T+1)) + s)/(1+s) · π/2) / cos(s/(1+s) · π/2): row t holds a(t+1)."""
    u = np.arange(num_steps + 1) / (num_steps + 1)
    cosine = np.cos((u + COSINE_OFFSET) / (1 + COSINE_OFFSET) * np.pi / 2)
    return (cosine / cosine[0])[1:]


def score_sq_mean(sigma: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
    """λ = E_{d ~ N(0, σ²)}[s(d, σ)²] by quadrature, with s of `coords.negative_score`.

    s is periodic, so the mean is one over the wrapped density on [−½, ½]. From σ = ¾ on, it is
    8π² exp(−4π²σ²), to 1e-9 of itself. Differs from the
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
    wide = 8 * np.pi**2 * np.exp(-4 * np.pi**2 * np.square(sigma))
    return np.where(sigma < 0.75, result, wide)


def table(values: Float[np.ndarray, " time"], clean: float) -> Float[Array, " time+1"]:
    """A column in float32, with the value of the clean row."""
    return jnp.asarray(np.append(values, clean), jnp.float32)


def share(part: Float[Array, "*#shape"], whole: Float[Array, "*#shape"]) -> Float[Array, "*shape"]:
    """The one over the other; 0 of nothing."""
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1), 0)
