"""Six numbers of a cell: its stretch itself, relative to the cell in which noise ends (MatterGen).

By the polar decomposition L = P Q with P symmetric and positive, and Q orthogonal, which means
nothing. Noise leads P to a cube of the density of real crystals: to P = μ 1 with μ = (n/ρ)^{1/3} Å
and ρ = 0.0577 atoms per Å³, and a deviation of ½ n^{1/3} Å in each entry (arXiv:2312.03687; the
numbers are those of its code). z is linear in P, so a noised P may have eigenvalues below 0.

Differs from MatterGen: n is the same for all crystals, as a process of the lattice is not told how
many atoms its crystal has. With infusion none knows it before the end: n is N_m, mirage atoms too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from miad_jax.diffusion.axes import principal_axes
from miad_jax.diffusion.stretch import BASIS, Lattice, Numbers, on_basis, product

DENSITY = 0.05771451654022283
"""ρ in atoms per Å³, of MatterGen's data."""

SPREAD = 0.5
"""Deviation of each entry over n^{1/3}, in Å."""

WEIGHTS = np.array([2**0.5] * 3 + [1.0] * 3, np.float32)
"""Of the B_i, with which each of the nine entries of P has unit variance."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LimitCell:
    """The chart z_i = ⟨B_i, P − μ 1⟩/σ_i, with the σ_i that give each entry the same deviation.

    Attributes:
        edge: μ in Å.
        std: σ_i in Å.
        farthest: So many deviations from the cube: entries of P up to 90 Å at n = 12, 124 Å at 25.
    """

    farthest: ClassVar[float] = 80.0

    edge: Float[Array, ""]
    std: Float[Array, " 6"]

    @classmethod
    def make(cls, num_atoms: int) -> LimitCell:
        """The chart of n atoms.

        Example:
            >>> round(float(LimitCell.make(25).edge), 2)
            7.57
        """
        scale = num_atoms ** (1 / 3)
        edge = jnp.float32(scale / DENSITY ** (1 / 3))
        return cls(edge, jnp.asarray(SPREAD * scale * WEIGHTS))

    def to_z(self, lattice: Lattice) -> Numbers:
        """The z of a cell in Å, in any orientation: of P = (L Lᵀ)^{1/2}.

        Example:
            >>> chart, turned = LimitCell.make(25), jnp.eye(3)[jnp.array([1, 2, 0])]
            >>> bool(jnp.allclose(chart.to_z(4.0 * turned), chart.of_noised(4.0 * jnp.eye(3))))
            True
        """
        axes, rows = principal_axes(lattice)
        lengths = jnp.linalg.norm(rows, axis=-1)
        return self.of_noised(product("...ji,...j,...jk->...ik", axes, lengths, axes))

    def of_noised(self, lattice: Lattice) -> Numbers:
        """The z of a symmetric matrix, whatever the signs of its eigenvalues are.

        Example:
            >>> chart = LimitCell.make(25)
            >>> chart.of_noised(chart.edge * jnp.eye(3)).round(3).tolist()
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        """
        return on_basis(lattice - self.edge * jnp.eye(3)) / self.std

    def from_z(self, z: Numbers) -> Lattice:
        """μ 1 + Σ σ_i z_i B_i, in Å.

        Example:
            >>> [round(float(x), 2) for x in LimitCell.make(25).from_z(jnp.zeros(6))[0]]
            [7.57, 0.0, 0.0]
        """
        return self.edge * jnp.eye(3) + product("...k,kij->...ij", self.std * z, BASIS)

    def read(self, said: Lattice, x_t: Lattice) -> Numbers:
        """⟨B_i, said⟩: a noised cell stands as it was made, so what is said of it is a matrix."""
        del x_t
        return on_basis(said)

    def saying(self, numbers: Numbers, x_t: Lattice) -> Lattice:
        """Σ v_i B_i."""
        del x_t
        return product("...k,kij->...ij", numbers, BASIS)
