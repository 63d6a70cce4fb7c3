"""Flow matching of the cell on six numbers, from a Gaussian that is fitted to real crystals.

A straight way leads from the z of a clean cell to one of N(0, I), in the chart's numbers: those of
`LogStretch` for CrystalFlow (arXiv:2412.11693), of `LengthsAngles` for FlowMM (arXiv:2406.04713).
The network predicts the velocity (Lipman et al., arXiv:2210.02747), and sampling follows it back,
without noise. Given the clean cell z_t is Gaussian, so there is a way up in time too.

Differs from CrystalFlow, whose base has one deviation for all numbers, which is not fitted. Differs
from FlowMM, whose angles begin uniform between 59.9° and 120.1°: their logits are then of a
logistic distribution with a deviation of 1.8; those of MP-20 have 2.7 to 3.6.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from miad_jax.diffusion.cell_numbers import CellNumbers, z_at
from miad_jax.diffusion.lengths_angles import LengthsAngles
from miad_jax.diffusion.log_stretch import LogStretch
from miad_jax.diffusion.schedules import linear_share, share, table
from miad_jax.diffusion.stretch import Lattice, Numbers, on_basis

Times = Int[Array, "*#batch"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LatticeFlow:
    """Straight ways z_t = (1−τ_t) z_0 + τ_t ε; the network predicts the velocity v = ε − z_0.

    Attributes:
        tau: τ_t, which share of the way is gone at t; 0 in the clean row.
        numbers: The chart of cells, which says what z is.
    """

    tau: Float[Array, " time"]
    numbers: CellNumbers

    @classmethod
    def make(cls, num_steps: int, *, numbers: CellNumbers | None = None) -> LatticeFlow:
        """The process of T steps, with τ_t = (t + 1)/T: at T−1 nothing is left of the cell.

        Args:
            num_steps: T.
            numbers: The chart of cells; None for `LogStretch` of MP-20.

        Example:
            >>> [round(float(LatticeFlow.make(1000).tau[t]), 3) for t in (-1, 0, 499, 999)]
            [0.0, 0.001, 0.5, 1.0]
        """
        return cls(table(linear_share(num_steps), 0.0), numbers or LogStretch.make())

    @classmethod
    def lengths_angles(cls, num_steps: int) -> LatticeFlow:
        """The process of T steps on `LengthsAngles` of MP-20.

        Example:
            >>> LatticeFlow.lengths_angles(10).prior(jax.random.key(0), 5).shape
            (3, 3)
        """
        return cls.make(num_steps, numbers=LengthsAngles.make())

    @property
    def num_steps(self) -> int:
        """T."""
        return self.tau.shape[0] - 1

    @property
    def alpha_bar(self) -> Float[Array, " time"]:
        """(1−τ_t)²/((1−τ_t)² + τ_t²), the share of the signal's variance at t."""
        signal, noise = jnp.square(1 - self.tau), jnp.square(self.tau)
        return signal / (signal + noise)

    def prior(self, key: PRNGKeyArray, size: int) -> Float[Array, "3 3"]:
        """The cell of a standard normal z."""
        return self.numbers.from_z(jax.random.normal(key, (6,), jnp.float32))

    def draw_noise(self, key: PRNGKeyArray, size: int) -> Float[Array, "3 3"]:
        """Nine standard normal numbers E; the six ε_i = ⟨B_i, E⟩ are so too, and count."""
        return jax.random.normal(key, (3, 3), jnp.float32)

    def draw_step_noise(self, key: PRNGKeyArray, size: int) -> Float[Array, "3 3"]:
        """As `draw_noise`; steps do not read it."""
        return self.draw_noise(key, size)

    def add_noise(self, x_0: Lattice, t: Times, noise: Lattice) -> Lattice:
        """The cell of z_t = (1−τ_t) z_0 + τ_t ε; x_0 itself, as it is turned, where t is clean.

        Example:
            >>> clean, still = 4.0 * jnp.eye(3), jnp.zeros((3, 3))
            >>> LatticeFlow.make(1000).add_noise(clean, jnp.int32(0), still)[0, 0].round(2).item()
            4.0
        """
        tau = self.tau[t][..., None]
        z_t = (1 - tau) * self.numbers.to_z(x_0) + tau * on_basis(noise)
        return jnp.where(t[..., None, None] < 0, x_0, self.numbers.from_z(z_t))

    def renoise(self, x_s: Lattice, s: Times, t: Times, noise: Lattice) -> Lattice:
        """The cell of z_t = r z_s + √(τ_t² − r² τ_s²) ε with r = (1−τ_t)/(1−τ_s).

        Example:
            >>> process, t = LatticeFlow.make(1000), jnp.int32(999)
            >>> process.renoise(4.0 * jnp.eye(3), t, t, jnp.ones((3, 3)))[0, 0].round(3).item()
            4.0
        """
        tau, tau_s = self.tau[t][..., None], self.tau[s][..., None]
        kept = share(1 - tau, 1 - tau_s)
        spread = jnp.sqrt(jnp.maximum(jnp.square(tau) - jnp.square(kept * tau_s), 0))
        z_t = kept * z_at(self.numbers, x_s, s) + spread * on_basis(noise)
        return jnp.where((t == s)[..., None, None], x_s, self.numbers.from_z(z_t))

    def loss(
        self, said: Lattice, x_0: Lattice, x_t: Lattice, t: Times, noise: Lattice
    ) -> Float[Array, "*batch"]:
        """Mean over the six numbers of (v̂ − v)², for each crystal.

        Example:
            >>> process, t, still = LatticeFlow.make(10), jnp.int32(5), jnp.zeros((3, 3))
            >>> clean = process.numbers.from_z(jnp.ones(6))
            >>> process.loss(still, clean, clean, t, still).round(3).item()
            1.0
        """
        del t
        v = on_basis(noise) - self.numbers.to_z(x_0)
        return jnp.square(self.numbers.read(said, x_t) - v).mean(-1)

    def clean(self, said: Lattice, x_t: Lattice, t: Times) -> Lattice:
        """The cell of ẑ_0 = z_t − τ_t v̂, in Å.

        Example:
            >>> process, t = LatticeFlow.make(1000), jnp.int32(0)
            >>> process.clean(jnp.zeros((3, 3)), 4.0 * jnp.eye(3), t)[0, 0].round(2).item()
            4.0
        """
        return self.numbers.from_z(self._clean_z(said, x_t, self.numbers.of_noised(x_t), t))

    def predicting(self, x_0: Lattice, x_t: Lattice, t: Times) -> Lattice:
        """The prediction of which `clean` makes x_0: v̂ = (z_t − z_0)/τ_t; t ≥ 0.

        Example:
            >>> process, t, cell = LatticeFlow.make(1000), jnp.int32(500), 4.0 * jnp.eye(3)
            >>> said = process.predicting(cell, 3.0 * jnp.eye(3), t)
            >>> process.clean(said, 3.0 * jnp.eye(3), t)[0, 0].round(3).item()
            4.0
        """
        way = self.numbers.of_noised(x_t) - self.numbers.to_z(x_0)
        return self.numbers.saying(way / self.tau[t][..., None], x_t)

    def step(self, said: Lattice, x_t: Lattice, t: Times, s: Times, noise: Lattice) -> Lattice:
        """The cell of z_s = ẑ_0 + (τ_s/τ_t) (z_t − ẑ_0): a step of Euler's, without noise.

        Example:
            >>> process, t, still = LatticeFlow.make(1000), jnp.int32(499), jnp.zeros((3, 3))
            >>> process.step(still, 4.0 * jnp.eye(3), t, t - 250, still)[0, 0].round(2).item()
            4.0
        """
        del noise
        z_t = self.numbers.of_noised(x_t)
        z_0 = self._clean_z(said, x_t, z_t, t)
        left = share(self.tau[s], self.tau[t])[..., None]
        return self.numbers.from_z(z_0 + left * (z_t - z_0))

    def _clean_z(self, said: Lattice, x_t: Lattice, z_t: Numbers, t: Times) -> Numbers:
        """ẑ_0, cut to what a cell can be."""
        z_0 = z_t - self.tau[t][..., None] * self.numbers.read(said, x_t)
        return jnp.clip(z_0, -self.numbers.farthest, self.numbers.farthest)
