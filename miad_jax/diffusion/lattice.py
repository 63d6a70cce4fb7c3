"""DDPM on the lattice (Ho et al., arXiv:2006.11239), with the cosine schedule."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from miad_jax.diffusion.schedules import LogTable, lattice_log_alpha_bar, table

Lattice = Float[Array, "*batch 3 3"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LatticeDDPM:
    """Gaussian noise on the nine numbers of the lattice; the network predicts ε.

    Attributes:
        alpha_bar: ᾱ_t, the share of the signal's variance at t.
        one_minus_alpha_bar: 1 − ᾱ_t.
        log_alpha_bar: log ᾱ_t, of which steps take differences.
    """

    alpha_bar: Float[Array, " time"]
    one_minus_alpha_bar: Float[Array, " time"]
    log_alpha_bar: LogTable

    @classmethod
    def make(cls, num_steps: int) -> LatticeDDPM:
        """The published process of T steps.

        Example:
            >>> [round(float(LatticeDDPM.make(1000).alpha_bar[t]), 4) for t in (-1, 0)]
            [1.0, 0.9999]
        """
        log_alpha_bar = lattice_log_alpha_bar(num_steps)
        return cls(
            alpha_bar=table(np.exp(log_alpha_bar), 1.0),
            one_minus_alpha_bar=table(-np.expm1(log_alpha_bar), 0.0),
            log_alpha_bar=LogTable.of(log_alpha_bar),
        )

    @property
    def num_steps(self) -> int:
        """T."""
        return self.alpha_bar.shape[0] - 1

    def prior(self, key: PRNGKeyArray, size: int) -> Float[Array, "3 3"]:
        """A standard normal lattice."""
        return jax.random.normal(key, (3, 3), jnp.float32)

    def draw_noise(self, key: PRNGKeyArray, size: int) -> Float[Array, "3 3"]:
        """ε, standard normal."""
        return jax.random.normal(key, (3, 3), jnp.float32)

    def draw_step_noise(self, key: PRNGKeyArray, size: int) -> Float[Array, "3 3"]:
        """z, standard normal."""
        return jax.random.normal(key, (3, 3), jnp.float32)

    def add_noise(self, x_0: Lattice, t: Int[Array, "*#batch"], noise: Lattice) -> Lattice:
        """L_t = √ᾱ_t L_0 + √(1−ᾱ_t) ε (Eq. 4, arXiv:2006.11239).

        Args:
            x_0: Clean cell vectors as rows, in Å.
            t: Time of each crystal.
            noise: ε, standard normal.

        Example:
            >>> clean, still = 4.0 * jnp.eye(3), jnp.zeros((3, 3))
            >>> LatticeDDPM.make(1000).add_noise(clean, jnp.int32(0), still)[0, 0].round(3).item()
            4.0
        """
        signal, spread = jnp.sqrt(self.alpha_bar), jnp.sqrt(self.one_minus_alpha_bar)
        return _each(signal[t]) * x_0 + _each(spread[t]) * noise

    def renoise(
        self, x_s: Lattice, s: Int[Array, "*#batch"], t: Int[Array, "*#batch"], noise: Lattice
    ) -> Lattice:
        """L_t = √α L_s + √(1−α) ε with α = ᾱ_t/ᾱ_s: from any time to a later one.

        Example:
            >>> process, t = LatticeDDPM.make(1000), jnp.int32(999)
            >>> process.renoise(4.0 * jnp.eye(3), t, t, jnp.ones((3, 3)))[0].tolist()
            [4.0, 0.0, 0.0]
        """
        log_alpha = self.log_alpha_bar.difference(t, s)
        spread = jnp.sqrt(-jnp.expm1(log_alpha))
        return _each(jnp.exp(0.5 * log_alpha)) * x_s + _each(spread) * noise

    def loss(
        self,
        said: Lattice,
        x_0: Lattice,
        x_t: Lattice,
        t: Int[Array, "*#batch"],
        noise: Lattice,
    ) -> Float[Array, "*batch"]:
        """Mean over the nine entries of (ε̂ − ε)², for each crystal.

        Example:
            >>> still = jnp.zeros((2, 3, 3))
            >>> LatticeDDPM.make(10).loss(still + 1, still, still, jnp.int32(5), still).tolist()
            [1.0, 1.0]
        """
        del x_0, x_t, t
        return jnp.square(said - noise).mean((-2, -1))

    def clean(self, said: Lattice, x_t: Lattice, t: Int[Array, "*#batch"]) -> Lattice:
        """L̂_0 = (L_t − √(1−ᾱ_t) ε̂)/√ᾱ_t, in Å.

        Example:
            >>> process, t, noise = LatticeDDPM.make(1000), jnp.int32(500), jnp.ones((3, 3))
            >>> noised = process.add_noise(4.0 * jnp.eye(3), t, noise)
            >>> process.clean(noise, noised, t).round(3)[0].tolist()
            [4.0, 0.0, 0.0]
        """
        signal, spread = jnp.sqrt(self.alpha_bar[t]), jnp.sqrt(self.one_minus_alpha_bar[t])
        return (x_t - _each(spread) * said) / _each(signal)

    def predicting(self, x_0: Lattice, x_t: Lattice, t: Int[Array, "*#batch"]) -> Lattice:
        """ε̂ = (L_t − √ᾱ_t L̂_0)/√(1−ᾱ_t), the prediction of which `clean` makes L̂_0; t ≥ 0.

        Example:
            >>> process, t, eps = LatticeDDPM.make(1000), jnp.int32(500), jnp.ones((3, 3))
            >>> noised = process.add_noise(4.0 * jnp.eye(3), t, eps)
            >>> process.predicting(4.0 * jnp.eye(3), noised, t).round(3)[0].tolist()
            [1.0, 1.0, 1.0]
        """
        signal, spread = jnp.sqrt(self.alpha_bar[t]), jnp.sqrt(self.one_minus_alpha_bar[t])
        return (x_t - _each(signal) * x_0) / _each(spread)

    def step(
        self,
        said: Lattice,
        x_t: Lattice,
        t: Int[Array, "*#batch"],
        s: Int[Array, "*#batch"],
        noise: Lattice,
    ) -> Lattice:
        """One step back (Algorithm 2, arXiv:2006.11239); without noise where s is clean.

        L_s = (L_t − β/√(1−ᾱ_t) ε̂)/√α + √(β(1−ᾱ_s)/(1−ᾱ_t)) z with α = ᾱ_t/ᾱ_s and β = 1 − α.

        Example:
            >>> process, t, noise = LatticeDDPM.make(1000), jnp.int32(0), jnp.ones((3, 3))
            >>> noised = process.add_noise(4.0 * jnp.eye(3), t, noise)
            >>> process.step(noise, noised, t, t - 1, noise).round(2)[0, 0].item()
            4.0
        """
        log_alpha = self.log_alpha_bar.difference(t, s)
        alpha, beta = jnp.exp(log_alpha), -jnp.expm1(log_alpha)
        remaining = self.one_minus_alpha_bar[t]
        std = jnp.sqrt(beta * self.one_minus_alpha_bar[s] / remaining)
        mean = (x_t - _each(beta / jnp.sqrt(remaining)) * said) / _each(jnp.sqrt(alpha))
        return mean + _each(std) * noise


def _each(x: Float[Array, "*batch"]) -> Float[Array, "*batch 1 1"]:
    """One number for all entries of a lattice."""
    return x[..., None, None]
