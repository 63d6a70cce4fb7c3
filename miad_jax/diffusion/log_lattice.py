"""A diffusion of the cell on six numbers, without its orientation, whose volume stays positive.

By the polar decomposition L = exp(S) Q with S symmetric and Q orthogonal. Q says how the cell is
turned, which means nothing; S = Σ k_i B_i has six numbers. z = (k − μ)/σ is near N(0, I) on real
crystals, and N(0, I) is where its noise ends: what a sampler starts from is what training saw.

A noised cell stands in the orientation Q = I: it is the symmetric matrix exp(S). A cell is read in
any orientation, a left-handed one as its mirror image, and at t = −1 it keeps the one it has.

A network that follows rotations predicts M L_t for the lattice, where M depends on no orientation.
The six numbers that it predicts are v̂_i = ⟨B_i, M⟩, with M = (M L_t) L_t⁻¹.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from miad_jax.diffusion.axes import inverse
from miad_jax.diffusion.schedules import LogTable, lattice_log_alpha_bar, table
from miad_jax.diffusion.stretch import BASIS, Lattice, Numbers, exp_of, log_of, on_basis, product

Times = Int[Array, "*#batch"]

MEAN = (0.02, 0.03, -0.01, -0.09, -0.28, 2.95)
STD = (0.23, 0.19, 0.22, 0.16, 0.33, 0.37)
"""μ and σ of k over the training crystals of MP-20, whose cells are Niggli-reduced."""

FARTHEST = 10.0
"""No training or validation crystal of MP-20 has |z_i| beyond; predictions are cut to it."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LogLattice:
    """Variance-preserving noise on z; the network predicts v = √ᾱ_t ε − √(1−ᾱ_t) z_0.

    v is from Salimans and Ho (arXiv:2202.00512). An error of v̂ becomes one of √(1−ᾱ_t) times its
    size in ẑ_0, at most itself. An error of ε̂ would grow by 1/√ᾱ_t where there is much noise, and
    a loss of ẑ_0 would hardly see the small errors that matter where there is little.

    Attributes:
        alpha_bar: ᾱ_t of the cosine schedule, as of `LatticeDDPM`.
        one_minus_alpha_bar: 1 − ᾱ_t.
        log_alpha_bar: log ᾱ_t, of which steps take differences.
        mean: μ, subtracted from k.
        std: σ, by which it is divided.
    """

    alpha_bar: Float[Array, " time"]
    one_minus_alpha_bar: Float[Array, " time"]
    log_alpha_bar: LogTable
    mean: Float[Array, " 6"]
    std: Float[Array, " 6"]

    @classmethod
    def make(
        cls,
        num_steps: int,
        *,
        mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
    ) -> LogLattice:
        """The process of T steps.

        Args:
            num_steps: T.
            mean: Of the six numbers k of a data set. With others than its own the process is as
                exact, but z is farther from its prior.
            std: Their standard deviations.

        Example:
            >>> process = LogLattice.make(1000)
            >>> process.prior(jax.random.key(0), 5).shape, round(float(process.alpha_bar[0]), 4)
            ((3, 3), 0.9999)
        """
        log_alpha_bar = lattice_log_alpha_bar(num_steps)
        return cls(
            alpha_bar=table(np.exp(log_alpha_bar), 1.0),
            one_minus_alpha_bar=table(-np.expm1(log_alpha_bar), 0.0),
            log_alpha_bar=LogTable.of(log_alpha_bar),
            mean=jnp.asarray(mean, jnp.float32),
            std=jnp.asarray(std, jnp.float32),
        )

    @property
    def num_steps(self) -> int:
        """T."""
        return self.alpha_bar.shape[0] - 1

    def to_z(self, lattice: Lattice) -> Numbers:
        """The z = (k − μ)/σ of a cell in Å, in any orientation.

        Example:
            >>> LogLattice.make(10).to_z(4.0 * jnp.eye(3)).shape
            (6,)
        """
        return (log_of(lattice) - self.mean) / self.std

    def from_z(self, z: Numbers) -> Lattice:
        """The cell of z, in Å, symmetric.

        Example:
            >>> LogLattice.make(10, mean=(0.0,) * 6).from_z(jnp.zeros(6))[0].round(3).tolist()
            [1.0, 0.0, 0.0]
        """
        return exp_of(self.mean + self.std * z)

    def prior(self, key: PRNGKeyArray, size: int) -> Float[Array, "3 3"]:
        """The cell of a standard normal z."""
        return self.from_z(jax.random.normal(key, (6,), jnp.float32))

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
            >>> LogLattice.make(1000).add_noise(clean, jnp.int32(0), still)[0, 0].round(2).item()
            4.0
        """
        signal, spread = self._shares(t)
        noised = self.from_z(signal * self.to_z(x_0) + spread * on_basis(noise))
        return jnp.where(t[..., None, None] < 0, x_0, noised)

    def renoise(self, x_s: Lattice, s: Times, t: Times, noise: Lattice) -> Lattice:
        """The cell of z_t = √α z_s + √(1−α) ε with α = ᾱ_t/ᾱ_s: from any time to a later one.

        Example:
            >>> process, t = LogLattice.make(1000), jnp.int32(999)
            >>> process.renoise(4.0 * jnp.eye(3), t, t, jnp.ones((3, 3)))[0, 0].round(3).item()
            4.0
        """
        log_alpha = self.log_alpha_bar.difference(t, s)[..., None]
        spread = jnp.sqrt(-jnp.expm1(log_alpha))
        z_t = jnp.exp(0.5 * log_alpha) * self.to_z(x_s) + spread * on_basis(noise)
        return jnp.where((t == s)[..., None, None], x_s, self.from_z(z_t))

    def loss(
        self, said: Lattice, x_0: Lattice, x_t: Lattice, t: Times, noise: Lattice
    ) -> Float[Array, "*batch"]:
        """Mean over the six numbers of (v̂ − v)², for each crystal.

        Example:
            >>> process, t, still = LogLattice.make(10), jnp.int32(5), jnp.zeros((3, 3))
            >>> clean = process.from_z(jnp.zeros(6))
            >>> process.loss(still, clean, clean, t, still).round(3).item()
            0.0
        """
        signal, spread = self._shares(t)
        v = signal * on_basis(noise) - spread * self.to_z(x_0)
        return jnp.square(_read(said, x_t) - v).mean(-1)

    def clean(self, said: Lattice, x_t: Lattice, t: Times) -> Lattice:
        """The cell of ẑ_0 = √ᾱ_t z_t − √(1−ᾱ_t) v̂, in Å.

        Example:
            >>> process, t = LogLattice.make(1000), jnp.int32(0)
            >>> process.clean(jnp.zeros((3, 3)), 4.0 * jnp.eye(3), t)[0, 0].round(2).item()
            4.0
        """
        return self.from_z(self._clean_z(said, x_t, self.to_z(x_t), t))

    def predicting(self, x_0: Lattice, x_t: Lattice, t: Times) -> Lattice:
        """The prediction v̂ L_t of which `clean` makes x_0: v̂ = (√ᾱ_t z_t − z_0)/√(1−ᾱ_t); t ≥ 0.

        Example:
            >>> process, t, cell = LogLattice.make(1000), jnp.int32(500), 4.0 * jnp.eye(3)
            >>> said = process.predicting(cell, 3.0 * jnp.eye(3), t)
            >>> process.clean(said, 3.0 * jnp.eye(3), t)[0, 0].round(3).item()
            4.0
        """
        signal, spread = self._shares(t)
        v = (signal * self.to_z(x_t) - self.to_z(x_0)) / spread
        return product("...k,kij,...jl->...il", v, BASIS, x_t)

    def step(self, said: Lattice, x_t: Lattice, t: Times, s: Times, noise: Lattice) -> Lattice:
        """The cell of z_s ~ q(z_s | z_t, ẑ_0) (Eq. 7, arXiv:2006.11239); of ẑ_0 where s is clean.

        z_s = (√ᾱ_s β ẑ_0 + √α (1−ᾱ_s) z_t)/(1−ᾱ_t) + √(β(1−ᾱ_s)/(1−ᾱ_t)) ε with α = ᾱ_t/ᾱ_s and
        β = 1 − α.

        Example:
            >>> process, t, noise = LogLattice.make(1000), jnp.int32(0), jnp.ones((3, 3))
            >>> before = process.step(jnp.zeros((3, 3)), 4.0 * jnp.eye(3), t, t - 1, noise)
            >>> before[0, 0].round(2).item()
            4.0
        """
        z_t = self.to_z(x_t)
        z_0 = self._clean_z(said, x_t, z_t, t)
        log_alpha = self.log_alpha_bar.difference(t, s)
        alpha, beta = jnp.exp(log_alpha), -jnp.expm1(log_alpha)
        remaining, left = self.one_minus_alpha_bar[t], self.one_minus_alpha_bar[s]
        of_clean = jnp.sqrt(self.alpha_bar[s]) * beta / remaining
        of_noised = jnp.sqrt(alpha) * left / remaining
        std = jnp.sqrt(beta * left / remaining)
        mean = of_clean[..., None] * z_0 + of_noised[..., None] * z_t
        return self.from_z(mean + std[..., None] * on_basis(noise))

    def _clean_z(self, said: Lattice, x_t: Lattice, z_t: Numbers, t: Times) -> Numbers:
        """ẑ_0, cut to what a cell can be."""
        signal, spread = self._shares(t)
        return jnp.clip(signal * z_t - spread * _read(said, x_t), -FARTHEST, FARTHEST)

    def _shares(self, t: Times) -> tuple[Float[Array, "*batch 1"], Float[Array, "*batch 1"]]:
        """√ᾱ_t and √(1−ᾱ_t), one for all six numbers."""
        columns = self.alpha_bar[t], self.one_minus_alpha_bar[t]
        return jnp.sqrt(columns[0])[..., None], jnp.sqrt(columns[1])[..., None]


def _read(said: Lattice, x_t: Lattice) -> Numbers:
    """v̂_i = ⟨B_i, said L_t⁻¹⟩."""
    return on_basis(product("...ij,...jk->...ik", said, inverse(x_t)))
