"""Six numbers for a cell: what a process of the lattice adds noise to, whichever process it is.

A cell has nine entries, of which three say how it is turned. A chart of cells is six numbers z that
say the rest. `LogStretch`, `LengthsAngles` and `LimitCell` are charts; `LatticeVP` and
`LatticeFlow` are processes, and work with any of them.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Int

from miad_jax.diffusion.axes import inverse
from miad_jax.diffusion.stretch import BASIS, Lattice, Numbers, on_basis, product


@runtime_checkable
class CellNumbers(Protocol):
    """A chart of cells: a frozen pytree, all of whose functions are pure."""

    @property
    def farthest(self) -> float:
        """The largest |z_i| of a clean cell; predictions are cut to it."""

    def to_z(self, lattice: Lattice) -> Numbers:
        """The z of a clean cell in Å, in any orientation."""

    def of_noised(self, lattice: Lattice) -> Numbers:
        """The z of a noised cell, as `from_z` has made it."""

    def from_z(self, z: Numbers) -> Lattice:
        """The cell of z, in Å, in the orientation of the chart."""

    def read(self, said: Lattice, x_t: Lattice) -> Numbers:
        """The six numbers of what the network predicts for the noised cell."""

    def saying(self, numbers: Numbers, x_t: Lattice) -> Lattice:
        """The prediction of which `read` makes the six numbers."""


class ReadsMatrix:
    """Numbers that a network says by a matrix, whatever the orientation of the noised cell is.

    A network that follows rotations predicts M L_t for the lattice, where M depends on no
    orientation. The six numbers are ⟨B_i, M⟩, with M = (M L_t) L_t⁻¹.
    """

    def read(self, said: Lattice, x_t: Lattice) -> Numbers:
        """⟨B_i, said L_t⁻¹⟩."""
        return on_basis(product("...ij,...jk->...ik", said, inverse(x_t)))

    def saying(self, numbers: Numbers, x_t: Lattice) -> Lattice:
        """(Σ v_i B_i) L_t."""
        return product("...k,kij,...jl->...il", numbers, BASIS, x_t)


def z_at(numbers: CellNumbers, lattice: Lattice, t: Int[Array, "*#batch"]) -> Numbers:
    """The z of a cell at time t, clean or noised.

    Example:
        >>> from miad_jax.diffusion.limit_cell import LimitCell
        >>> z_at(LimitCell.make(25), 4.0 * jnp.eye(3), jnp.int32(-1)).shape
        (6,)
    """
    is_clean = (t < 0)[..., None]
    return jnp.where(is_clean, numbers.to_z(lattice), numbers.of_noised(lattice))
