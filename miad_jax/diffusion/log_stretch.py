"""Six numbers of a cell: the logarithm of its stretch, whose volume is positive whatever they are.

By the polar decomposition L = exp(S) Q with S symmetric and Q orthogonal. Q says how the cell is
turned, which means nothing; S = Σ k_i B_i has six numbers (CrystalFlow, arXiv:2412.11693; before it
DiffCSP++, arXiv:2402.03992). z = (k − μ)/σ is near N(0, I) on real crystals.

A noised cell stands in the orientation Q = I: it is the symmetric matrix exp(S). A cell is read in
any orientation, a left-handed one as its mirror image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from miad_jax.diffusion.cell_numbers import ReadsMatrix
from miad_jax.diffusion.stretch import Lattice, Numbers, exp_of, log_of

MEAN = (0.02, 0.03, -0.01, -0.09, -0.28, 2.95)
STD = (0.23, 0.19, 0.22, 0.16, 0.33, 0.37)
"""μ and σ of k over the training crystals of MP-20, whose cells are Niggli-reduced."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LogStretch(ReadsMatrix):
    """The chart z = (k − μ)/σ.

    Attributes:
        mean: μ, subtracted from k.
        std: σ, by which it is divided.
        farthest: No training or validation crystal of MP-20 has |z_i| beyond.
    """

    farthest: ClassVar[float] = 10.0

    mean: Float[Array, " 6"]
    std: Float[Array, " 6"]

    @classmethod
    def make(cls, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> LogStretch:
        """The chart of a data set; with others' numbers it is as exact, but z is not near N(0, I).

        Args:
            mean: Of the six numbers k.
            std: Their standard deviations.

        Example:
            >>> LogStretch.make().from_z(jnp.zeros(6)).shape
            (3, 3)
        """
        return cls(jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32))

    def to_z(self, lattice: Lattice) -> Numbers:
        """The z = (k − μ)/σ of a cell in Å, in any orientation.

        Example:
            >>> LogStretch.make().to_z(4.0 * jnp.eye(3)).shape
            (6,)
        """
        return (log_of(lattice) - self.mean) / self.std

    def of_noised(self, lattice: Lattice) -> Numbers:
        """The same of a noised cell.

        Example:
            >>> LogStretch.make().of_noised(4.0 * jnp.eye(3)).shape
            (6,)
        """
        return self.to_z(lattice)

    def from_z(self, z: Numbers) -> Lattice:
        """The cell of z, in Å, symmetric.

        Example:
            >>> LogStretch.make(mean=(0.0,) * 6).from_z(jnp.zeros(6))[0].round(3).tolist()
            [1.0, 0.0, 0.0]
        """
        return exp_of(self.mean + self.std * z)
