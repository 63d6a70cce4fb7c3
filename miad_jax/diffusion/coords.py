"""Score matching on the torus for the fractional coordinates (DiffCSP, arXiv:2309.04475).

The noise is a wrapped normal of width σ_t. The network predicts the *negative* score of it,
divided by its root mean square √λ_t, so that targets have unit variance at every t.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from miad_jax.crystal import wrap
from miad_jax.diffusion.schedules import geometric_sigma, score_sq_mean, table

NUM_IMAGES = 10

SIGMA_MIN = 0.005
"""σ at t = 0 as published, in fractions of the cell."""

FEW_HARMONICS = 0.75
"""From this σ on one harmonic tells the score, to 1e-9; and images would be too many."""

SMALLEST_SCORE_SQ_MEAN = 1e-12
"""λ_t is at least so large: from σ = 0.9 on noise is uniform to 1e-6, and tells nothing."""

Coords = Float[Array, "*batch atoms 3"]
Times = Int[Array, "*#batch #atoms"]


def negative_score(
    displacement: Float[Array, "*shape"], sigma: Float[Array, "*#shape"]
) -> Float[Array, "*shape"]:
    """s(d, σ) = −∇_d log Σ_k exp(−(d+k)²/2σ²), k = −10 … 10.

    s has period 1, so d is wrapped to [−½, ½] first. With the weight of every image taken
    relative to the nearest, exp(−k(k+2d)/2σ²) ≤ 1, the result is finite for every d and keeps
    its digits at the jump d = ½. Where σ ≥ ¾ the sum is the Fourier series that it equals, cut
    after the first harmonic: 4πq sin 2πd/(1 + 2q cos 2πd) with q = exp(−2π²σ²).

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
    near = (nearest + (weight * image).sum(-1) / weight.sum(-1)) / variance
    angle = 2 * jnp.pi * nearest
    q = jnp.exp(-2 * jnp.pi**2 * jnp.square(jnp.maximum(sigma, FEW_HARMONICS)))
    wide = 4 * jnp.pi * q * jnp.sin(angle) / (1 + 2 * q * jnp.cos(angle))
    return jnp.where(sigma < FEW_HARMONICS, near, wide)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class WrappedNormal:
    """Normal noise of growing width, modulo 1.

    Attributes:
        sigma: σ_t, in fractions of the cell; 0 in the clean row.
        score_sq_mean: λ_t = E[s²], the mean square of the target at t, from 1e-12 on; 1 in the
            clean row.
    """

    sigma: Float[Array, " time"]
    score_sq_mean: Float[Array, " time"]

    @classmethod
    def make(
        cls, num_steps: int, *, sigma_min: float = SIGMA_MIN, sigma_max: float = 0.5
    ) -> WrappedNormal:
        """The published process of T steps.

        Args:
            num_steps: T.
            sigma_min: σ at t = 0, in fractions of the cell.
            sigma_max: σ at t = T−1. With ½ as published, coordinates are uniform but for 1.4 %
                of a cosine; MatterGen (arXiv:2312.03687) goes on to 5 over the cube root of the
                number of atoms.

        Example:
            >>> [round(float(sigma), 3) for sigma in WrappedNormal.make(3).sigma]
            [0.005, 0.05, 0.5, 0.0]
        """
        sigma, mean_square = _columns(num_steps, sigma_min, sigma_max)
        return cls(table(sigma, 0.0), table(mean_square, 1.0))

    @property
    def num_steps(self) -> int:
        """T."""
        return self.sigma.shape[0] - 1

    def prior(self, key: PRNGKeyArray, size: int) -> Float[Array, "atoms 3"]:
        """Coordinates uniform in the cell."""
        return jax.random.uniform(key, (size, 3), jnp.float32)

    def draw_noise(self, key: PRNGKeyArray, size: int) -> Float[Array, "atoms 3"]:
        """ε, standard normal."""
        return jax.random.normal(key, (size, 3), jnp.float32)

    def draw_step_noise(self, key: PRNGKeyArray, size: int) -> Float[Array, "atoms 3"]:
        """z, standard normal."""
        return jax.random.normal(key, (size, 3), jnp.float32)

    def add_noise(self, x_0: Coords, t: Times, noise: Coords) -> Coords:
        """F_t = (F_0 + σ_t ε) mod 1, with ε standard normal.

        Example:
            >>> process, noise = WrappedNormal.make(1000), jnp.ones((1, 3))
            >>> noised = process.add_noise(jnp.full((1, 3), 0.75), jnp.array([999]), noise)
            >>> noised.round(2).tolist()
            [[0.25, 0.25, 0.25]]
        """
        return wrap(x_0 + self.sigma[t][..., None] * noise)

    def renoise(self, x_s: Coords, s: Times, t: Times, noise: Coords) -> Coords:
        """F_t = (F_s + √(σ_t² − σ_s²) ε) mod 1: from any time to a later one.

        Example:
            >>> process, t = WrappedNormal.make(1000), jnp.array([999])
            >>> process.renoise(jnp.full((1, 3), 0.75), t, t, jnp.ones((1, 3))).tolist()
            [[0.75, 0.75, 0.75]]
        """
        sigma, sigma_s = self.sigma[t], self.sigma[s]
        spread = jnp.sqrt((sigma - sigma_s) * (sigma + sigma_s))
        return wrap(x_s + spread[..., None] * noise)

    def target(self, t: Times, noise: Coords) -> Coords:
        """What the network has to predict: s(σ_t ε, σ_t)/√λ_t; 0 where t is clean.

        Example:
            >>> WrappedNormal.make(1000).target(jnp.array([0]), jnp.ones((1, 3))).round(3).tolist()
            [[1.0, 1.0, 1.0]]
        """
        noisy = t[..., None] >= 0
        sigma = jnp.where(noisy, self.sigma[t][..., None], 1)
        scale = jax.lax.rsqrt(self.score_sq_mean[t])[..., None]
        score = negative_score(sigma * noise, jnp.broadcast_to(sigma, noise.shape))
        return jnp.where(noisy, score * scale, 0)

    def score(self, said: Coords, t: Times) -> Coords:
        """∇ log q of the noised coordinates: −√λ_t times the prediction.

        Example:
            >>> WrappedNormal.make(1000).score(jnp.ones((1, 3)), jnp.array([0])).round().tolist()
            [[-200.0, -200.0, -200.0]]
        """
        return -jnp.sqrt(self.score_sq_mean[t])[..., None] * said

    def loss(
        self, said: Coords, x_0: Coords, x_t: Coords, t: Times, noise: Coords
    ) -> Float[Array, "*batch atoms"]:
        """Mean over the three directions of (prediction − target)², for each atom.

        Example:
            >>> process, t, still = WrappedNormal.make(10), jnp.array([5]), jnp.zeros((1, 3))
            >>> process.loss(still + 1, still, still, t, still).tolist()
            [1.0]
        """
        del x_0, x_t
        return jnp.square(said - self.target(t, noise)).mean(-1)

    def clean(self, said: Coords, x_t: Coords, t: Times) -> Coords:
        """F̂_0 = (F_t + σ_t² ∇ log q) mod 1: Tweedie's formula, exact while σ_t is small.

        Example:
            >>> process, t, noise = WrappedNormal.make(1000), jnp.array([100]), jnp.ones((1, 3))
            >>> noised = process.add_noise(jnp.full((1, 3), 0.5), t, noise)
            >>> process.clean(process.target(t, noise), noised, t).round(3).tolist()
            [[0.5, 0.5, 0.5]]
        """
        return wrap(x_t + jnp.square(self.sigma[t])[..., None] * self.score(said, t))

    def predicting(self, x_0: Coords, x_t: Coords, t: Times) -> Coords:
        """The prediction of which `clean` makes F̂_0: it moves by the shortest way; t ≥ 0.

        Example:
            >>> process, t = WrappedNormal.make(1000), jnp.array([0])
            >>> process.predicting(jnp.zeros((1, 3)), jnp.full((1, 3), 0.995), t).round(3).tolist()
            [[-1.0, -1.0, -1.0]]
        """
        way = x_0 - x_t
        way = way - jnp.round(way)
        scale = jnp.square(self.sigma[t]) * jnp.sqrt(self.score_sq_mean[t])
        return -way / scale[..., None]

    def progress(self, t: Int[Array, "*times"], s: Int[Array, "*times"]) -> Float[Array, "*times"]:
        """1 − σ_s²/σ_t²: which share of the way to F̂_0 a step goes, but for its noise; t ≥ 0.

        Example:
            >>> t, s = jnp.array([2, 0]), jnp.array([1, -1])
            >>> [round(float(x), 3) for x in WrappedNormal.make(3).progress(t, s)]
            [0.99, 1.0]
        """
        return 1 - jnp.square(self.sigma[s] / self.sigma[t])

    def step(self, said: Coords, x_t: Coords, t: Times, s: Times, noise: Coords) -> Coords:
        """Ancestral step, with g = σ_t² − σ_s²: F_s = (F_t − g √λ_t p + √(σ_s² g/σ_t²) z) mod 1.

        With s = t the coordinates stay where they are.

        Example:
            >>> process, still = WrappedNormal.make(1000), jnp.zeros((1, 3))
            >>> t, s = jnp.array([500]), jnp.array([499])
            >>> process.step(still, still + 1.25, t, s, still).tolist()
            [[0.25, 0.25, 0.25]]
        """
        sigma, sigma_s = self.sigma[t], self.sigma[s]
        gap = (sigma - sigma_s) * (sigma + sigma_s)
        spread = sigma_s / sigma * jnp.sqrt(gap)
        return wrap(x_t + gap[..., None] * self.score(said, t) + spread[..., None] * noise)


@functools.cache
def _columns(num_steps: int, sigma_min: float, sigma_max: float) -> tuple[np.ndarray, np.ndarray]:
    """σ and λ, whose quadrature takes most of a second."""
    sigma = geometric_sigma(num_steps, sigma_min, sigma_max)
    return sigma, np.maximum(score_sq_mean(sigma), SMALLEST_SCORE_SQ_MEAN)
