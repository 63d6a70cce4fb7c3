"""Neighbours of a crystal that moves: found once, and valid as long as that is certain.

A search takes longer than measuring known pairs, so all pairs within the cutoff and a skin are
kept. With the deformation G = cell_0⁻¹ cell since the search, and u_i = x_i − x_i,0 G, a pair that
was d_0 apart is now at least (1 − ‖G − 1‖) d_0 − 2 max‖u‖ apart: the list holds every neighbour
while that is no less than the cutoff for d_0 = cutoff + skin.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

SKIN_ANGSTROM = 1.0


class Pairs(NamedTuple):
    """Pairs of atoms: the image of `senders` that is `shifts` cells away, seen from `receivers`."""

    senders: Int[np.ndarray, " pairs"]
    receivers: Int[np.ndarray, " pairs"]
    shifts: Int[np.ndarray, "pairs 3"]


class Neighbours:
    """The neighbours within a cutoff of the atoms of one crystal, wherever it moves.

    Args:
        cutoff_angstrom: The largest distance of a neighbour.
    """

    def __init__(self, cutoff_angstrom: float):
        self._cutoff = cutoff_angstrom
        self._found: tuple[Pairs, np.ndarray, np.ndarray] | None = None

    def at(self, positions: Float[np.ndarray, "n 3"], cell: Float[np.ndarray, "3 3"]) -> Pairs:
        """The pairs closer than the cutoff.

        Args:
            positions: Cartesian, in Å; they may lie outside of the cell.
            cell: Cell vectors as rows, in Å.
        """
        if self._found is None or not self._holds_all(positions, cell):
            reach = self._cutoff + SKIN_ANGSTROM
            self._found = pairs_within(positions, cell, reach), positions.copy(), cell.copy()
        pairs, _, _ = self._found
        apart = positions[pairs.senders] - positions[pairs.receivers] + pairs.shifts @ cell
        close = (apart**2).sum(1) < self._cutoff**2
        return Pairs(pairs.senders[close], pairs.receivers[close], pairs.shifts[close])

    def _holds_all(self, positions: np.ndarray, cell: np.ndarray) -> bool:
        """Whether no pair that was left out can have come within the cutoff."""
        assert self._found is not None
        _, old_positions, old_cell = self._found
        deformation = np.linalg.solve(old_cell, cell)
        strain = np.linalg.norm(deformation - np.eye(3))
        moved = np.linalg.norm(positions - old_positions @ deformation, axis=1).max()
        closest = (1 - strain) * (self._cutoff + SKIN_ANGSTROM) - 2 * moved
        return bool(closest >= self._cutoff)


def pairs_within(
    positions: Float[np.ndarray, "n 3"], cell: Float[np.ndarray, "3 3"], distance_angstrom: float
) -> Pairs:
    """All pairs of atoms, images included, that are no farther apart than a distance."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    frac_coords = np.linalg.solve(cell.T, positions.T).T
    cells = np.floor(frac_coords).astype(int)
    inside = np.ascontiguousarray((frac_coords - cells) @ cell)
    receivers, senders, offsets, _ = find_points_in_spheres(
        inside,
        inside,
        r=float(distance_angstrom),
        pbc=np.ones(3, np.int64),
        lattice=np.ascontiguousarray(cell),
        tol=1e-8,
    )
    is_other = (receivers != senders) | (offsets != 0).any(1)
    receivers, senders = receivers[is_other], senders[is_other]
    shifts = offsets[is_other].astype(int) - cells[senders] + cells[receivers]
    return Pairs(senders, receivers, shifts)
