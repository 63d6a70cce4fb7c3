"""A diffusion of the cell on six numbers, without its orientation.

What the six are is the chart's: of `LogStretch` the volume stays positive, and z is near N(0, I) on
real crystals; of `LimitCell` it is MatterGen's. N(0, I) is where the noise of z ends: what a
sampler starts from is what training saw. At t = −1 a cell keeps the orientation that it has.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from miad_jax.diffusion.cell_numbers import CellNumbers, z_at
from miad_jax.diffusion.limit_cell import LimitCell
from miad_jax.diffusion.log_stretch import LogStretch
from miad_jax.diffusion.schedules import (
    LogTable,
    lattice_log_alpha_bar,
    linear_log_alpha_bar,
    table,
)
from miad_jax.diffusion.stretch import Lattice, Numbers, on_basis

Times = Int[Array, "*#batch"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LatticeVP:
    """Variance-preserving noise on z; the network predicts v = √ᾱ_t ε − √(1−ᾱ_t) z_0.

    v is from Salimans and Ho (arXiv:2202.00512). An error of v̂ becomes one of √(1−ᾱ_t) times its
    size in ẑ_0, at most itself. An error of ε̂ would grow by 1/√ᾱ_t where there is much noise, and
    a loss of ẑ_0 would hardly see the small errors that matter where there is little.

    Attributes:
        alpha_bar: ᾱ_t.
        one_minus_alpha_bar: 1 − ᾱ_t.
        log_alpha_bar: log ᾱ_t, of which steps take differences.
        numbers: The chart of cells, which says what z is.
    """

    alpha_bar: Float[Array, " time"]
    one_minus_alpha_bar: Float[Array, " time"]
    log_alpha_bar: LogTable
    numbers: CellNumbers

    @classmethod
    def make(cls, num_steps: int, *, numbers: LogStretch | None = None) -> LatticeVP:
        """The process of T steps on `LogStretch`, with the cosine schedule as of `LatticeDDPM`.

        Args:
            num_steps: T.
            numbers: The chart of a data set; None for that of MP-20.

        Example:
            >>> process = LatticeVP.make(1000)
            >>> process.prior(jax.random.key(0), 5).shape, round(float(process.alpha_bar[0]), 4)
            ((3, 3), 0.9999)
        """
        return cls._of(lattice_log_alpha_bar(num_steps), numbers or LogStretch.make())

    @classmethod
    def limit(cls, num_steps: int, *, limit_num_atoms: int) -> LatticeVP:
        """MatterGen's lattice: the process of T steps on `LimitCell`, with β linear in time.

        Differs from MatterGen (arXiv:2312.03687), whose network predicts the score of P, that is ε.

        Args:
            num_steps: T.
            limit_num_atoms: n of the cell in which the noise ends; N_m with infusion.

        Example:
            >>> process = LatticeVP.limit(1000, limit_num_atoms=25)
            >>> [round(float(process.alpha_bar[t]), 4) for t in (-1, 0, 499, 999)]
            [1.0, 0.9999, 0.0791, 0.0]
        """
        return cls._of(linear_log_alpha_bar(num_steps), LimitCell.make(limit_num_atoms))

    @classmethod
    def _of(cls, log_alpha_bar: Float[np.ndarray, " time"], numbers: CellNumbers) -> LatticeVP:
        return cls(
            alpha_bar=table(np.exp(log_alpha_bar), 1.0),
            one_minus_alpha_bar=table(-np.expm1(log_alpha_bar), 0.0),
            log_alpha_bar=LogTable.of(log_alpha_bar),
            numbers=numbers,
        )

    @property
    def num_steps(self) -> int:
        """T."""
        return self.alpha_bar.shape[0] - 1

    def prior(self, key: PRNGKeyArray, size: int) -> Float[Array, "3 3"]:
        """The cell of a standard normal z."""
        return self.numbers.from_z(jax.random.normal(key, (6,), jnp.float32))

    def draw_noise(self, key: PRNGKeyArray, size: int) -> Float[Array, "3 3"]:
        """Nine standard normal numbers E; the six ε_i = ⟨B_i, E⟩ are so too, and count."""
        return jax.random.normal(key, (3, 3), jnp.float32)

    def draw_step_noise(self, key: PRNGKeyArray, size: int) -> Float[Array, "3 3"]:
        """As `draw_noise`."""
        return self.draw_noise(key, size)

    def add_noise(self, x_0: Lattice, t: Times, noise: Lattice) -> Lattice:
        """The cell of z_t = √ᾱ_t z_0 + √(1−ᾱ_t) ε; x_0 itself, as it is turned, where t is clean.

        Example:
            >>> clean, still = 4.0 * jnp.eye(3), jnp.zeros((3, 3))
            >>> LatticeVP.make(1000).add_noise(clean, jnp.int32(0), still)[0, 0].round(2).item()
            4.0
        """
        signal, spread = self._shares(t)
        z_t = signal * self.numbers.to_z(x_0) + spread * on_basis(noise)
        return jnp.where(t[..., None, None] < 0, x_0, self.numbers.from_z(z_t))

    def renoise(self, x_s: Lattice, s: Times, t: Times, noise: Lattice) -> Lattice:
        """The cell of z_t = √α z_s + √(1−α) ε with α = ᾱ_t/ᾱ_s: from any time to a later one.

        Example:
            >>> process, t = LatticeVP.make(1000), jnp.int32(999)
            >>> process.renoise(4.0 * jnp.eye(3), t, t, jnp.ones((3, 3)))[0, 0].round(3).item()
            4.0
        """
        log_alpha = self.log_alpha_bar.difference(t, s)[..., None]
        spread = jnp.sqrt(-jnp.expm1(log_alpha))
        z_s = z_at(self.numbers, x_s, s)
        z_t = jnp.exp(0.5 * log_alpha) * z_s + spread * on_basis(noise)
        return jnp.where((t == s)[..., None, None], x_s, self.numbers.from_z(z_t))

    def loss(
        self, said: Lattice, x_0: Lattice, x_t: Lattice, t: Times, noise: Lattice
    ) -> Float[Array, "*batch"]:
        """Mean over the six numbers of (v̂ − v)², for each crystal.

        Example:
            >>> process, t, still = LatticeVP.make(10), jnp.int32(5), jnp.zeros((3, 3))
            >>> clean = process.numbers.from_z(jnp.zeros(6))
            >>> process.loss(still, clean, clean, t, still).round(3).item()
            0.0
        """
        signal, spread = self._shares(t)
        v = signal * on_basis(noise) - spread * self.numbers.to_z(x_0)
        return jnp.square(self.numbers.read(said, x_t) - v).mean(-1)

    def clean(self, said: Lattice, x_t: Lattice, t: Times) -> Lattice:
        """The cell of ẑ_0 = √ᾱ_t z_t − √(1−ᾱ_t) v̂, in Å.

        Example:
            >>> process, t = LatticeVP.make(1000), jnp.int32(0)
            >>> process.clean(jnp.zeros((3, 3)), 4.0 * jnp.eye(3), t)[0, 0].round(2).item()
            4.0
        """
        return self.numbers.from_z(self._clean_z(said, x_t, self.numbers.of_noised(x_t), t))

    def predicting(self, x_0: Lattice, x_t: Lattice, t: Times) -> Lattice:
        """The prediction v̂ L_t of which `clean` makes x_0: v̂ = (√ᾱ_t z_t − z_0)/√(1−ᾱ_t); t ≥ 0.

        Example:
            >>> process, t, cell = LatticeVP.make(1000), jnp.int32(500), 4.0 * jnp.eye(3)
            >>> said = process.predicting(cell, 3.0 * jnp.eye(3), t)
            >>> process.clean(said, 3.0 * jnp.eye(3), t)[0, 0].round(3).item()
            4.0
        """
        signal, spread = self._shares(t)
        z_t, z_0 = self.numbers.of_noised(x_t), self.numbers.to_z(x_0)
        return self.numbers.saying((signal * z_t - z_0) / spread, x_t)

    def step(self, said: Lattice, x_t: Lattice, t: Times, s: Times, noise: Lattice) -> Lattice:
        """The cell of z_s ~ q(z_s | z_t, ẑ_0) (Eq. 7, arXiv:2006.11239); of ẑ_0 where s is clean.

        z_s = (√ᾱ_s β ẑ_0 + √α (1−ᾱ_s) z_t)/(1−ᾱ_t) + √(β(1−ᾱ_s)/(1−ᾱ_t)) ε with α = ᾱ_t/ᾱ_s and
        β = 1 − α.

        Example:
            >>> process, t, noise = LatticeVP.make(1000), jnp.int32(0), jnp.ones((3, 3))
            >>> before = process.step(jnp.zeros((3, 3)), 4.0 * jnp.eye(3), t, t - 1, noise)
            >>> before[0, 0].round(2).item()
            4.0
        """
        z_t = self.numbers.of_noised(x_t)
        z_0 = self._clean_z(said, x_t, z_t, t)
        log_alpha = self.log_alpha_bar.difference(t, s)
        alpha, beta = jnp.exp(log_alpha), -jnp.expm1(log_alpha)
        remaining, left = self.one_minus_alpha_bar[t], self.one_minus_alpha_bar[s]
        of_clean = jnp.sqrt(self.alpha_bar[s]) * beta / remaining
        of_noised = jnp.sqrt(alpha) * left / remaining
        std = jnp.sqrt(beta * left / remaining)
        mean = of_clean[..., None] * z_0 + of_noised[..., None] * z_t
        return self.numbers.from_z(mean + std[..., None] * on_basis(noise))

    def _clean_z(self, said: Lattice, x_t: Lattice, z_t: Numbers, t: Times) -> Numbers:
        """ẑ_0, cut to what a cell can be."""
        signal, spread = self._shares(t)
        z_0 = signal * z_t - spread * self.numbers.read(said, x_t)
        return jnp.clip(z_0, -self.numbers.farthest, self.numbers.farthest)

    def _shares(self, t: Times) -> tuple[Float[Array, "*batch 1"], Float[Array, "*batch 1"]]:
        """√ᾱ_t and √(1−ᾱ_t), one for all six numbers."""
        columns = self.alpha_bar[t], self.one_minus_alpha_bar[t]
        return jnp.sqrt(columns[0])[..., None], jnp.sqrt(columns[1])[..., None]
