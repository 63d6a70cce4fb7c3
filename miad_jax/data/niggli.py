"""The Niggli-reduced cell of a lattice: the same crystal in its shortest, standard cell.

Only the choice of cell vectors changes. The new ones are whole-number combinations of the old
ones, so that the crystal stays where it is in space, and its handedness stays.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from miad_jax.data.spglib_calls import ask_spglib

RELATIVE_TOLERANCE = 1e-5
"""Of squared lengths: what differs by less than the rounding of float32 counts as equal."""


def niggli_reduce(
    lattice: Float[np.ndarray, "3 3"], frac_coords: Float[np.ndarray, "n 3"]
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "n 3"]]:
    """Describe the same crystal in its Niggli cell; never raises for what the lattice holds.

    spglib does the reduction (Grosse-Kunstleve et al., Acta Cryst. A60, 1, 2004). Where it fails,
    as for some needles, the cell becomes Minkowski-reduced, whose edges are as short, and where
    that fails too the cell stays. A cell with the lengths and angles of the Niggli cell stays, so
    that reducing twice is reducing once.

    Args:
        lattice: Cell vectors as rows, in Å; of either handedness, which the result keeps.
        frac_coords: Fractional coordinates.

    Returns:
        The new lattice, of the same volume, and the coordinates in it, not wrapped.
    """
    lattice, frac_coords = np.asarray(lattice, np.float64), np.asarray(frac_coords, np.float64)
    basis = _niggli_basis(lattice)
    if basis is None:
        return lattice, frac_coords
    # M L with the whole numbers M is exact; what a reduction returns carries its rounding.
    return basis @ lattice, frac_coords @ np.rint(np.linalg.inv(basis))


def is_reduced(lattice: Float[np.ndarray, "3 3"]) -> bool:
    """Whether the edges are the shortest possible, in ascending order (Minkowski's conditions)."""
    gram = lattice @ lattice.T
    a, b, c = np.diag(gram)
    if not 0 < a <= b * (1 + RELATIVE_TOLERANCE) <= c * (1 + RELATIVE_TOLERANCE) ** 2:
        return False
    room = 1 + 1e-3
    if 2 * abs(gram[0, 1]) > a * room or 2 * max(abs(gram[0, 2]), abs(gram[1, 2])) > b * room:
        return False
    if 2 * abs(gram[0, 2]) > a * room:
        return False
    signs = np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [1, -1, -1]])
    diagonals = ((signs @ lattice) ** 2).sum(-1)
    return bool(diagonals.min() * room >= c)


def _niggli_basis(lattice: np.ndarray) -> np.ndarray | None:
    """Whole numbers [3, 3] of determinant 1 that make the reduced cell; None if there are none."""
    if not (np.isfinite(lattice).all() and abs(np.linalg.det(lattice)) > 0):
        return None
    if (found := _by_spglib(lattice)) is not None:
        return found
    minkowski = _by_minkowski(lattice)
    if minkowski is None:
        return None
    again = _by_spglib(minkowski @ lattice)
    return minkowski if again is None else again @ minkowski


def _by_spglib(lattice: np.ndarray) -> np.ndarray | None:
    """The basis by spglib's reduction; None where it gives none, or one that is not reduced."""
    gram = lattice @ lattice.T
    scale = abs(np.linalg.det(lattice)) ** (1 / 3)
    found = ask_spglib("niggli_reduce", lattice / scale, eps=RELATIVE_TOLERANCE)
    if found is None:
        return None
    reduced = np.asarray(found) * scale
    if np.abs(reduced @ reduced.T - gram).max() <= RELATIVE_TOLERANCE * np.diag(gram).min():
        return np.eye(3)
    return _checked(np.rint(reduced @ np.linalg.inv(lattice)), lattice)


def _by_minkowski(lattice: np.ndarray) -> np.ndarray | None:
    """The basis by Minkowski's reduction; None where its search does not end."""
    from ase.geometry import minkowski_reduce

    try:
        _, basis = minkowski_reduce(lattice)
    except RuntimeError:
        return None
    return _checked(np.asarray(basis, np.float64), lattice)


def _checked(basis: np.ndarray, lattice: np.ndarray) -> np.ndarray | None:
    """The basis with determinant 1; None where it is none or makes no reduced cell.

    −a, −b, −c have the lengths and angles of a, b, c, so that the sign is free.
    """
    determinant = np.rint(np.linalg.det(basis))
    if abs(determinant) != 1 or not is_reduced(basis @ lattice):
        return None
    return determinant * basis
