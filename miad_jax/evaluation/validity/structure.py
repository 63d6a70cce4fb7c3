"""Whether an array is a crystal at all, and whether a crystal's structure is valid.

A generated array need not be a crystal: it may hold NaN, no atom, or a cell without volume. The
thresholds, and the reasons that a row gives, are here.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from miad_jax.crystal import MIRAGE
from miad_jax.data.niggli import niggli_reduce

MIN_VALID_DISTANCE_ANGSTROM = 0.5
MIN_VALID_VOLUME_ANGSTROM3 = 0.1
MAX_EDGE_ANGSTROM = 1e4
MIN_RELATIVE_VOLUME = 1e-5
"""Volume over the product of the edges; below it the rounding of float32 decides the cell."""

HEAVIEST_ELEMENT = 118

NO_ATOM = "has no atom"
NOT_FINITE = "holds a number that is not finite"
MIRAGE_ATOM = "holds a mirage atom"
NOT_AN_ELEMENT = "holds an atom type that is no element"
FLAT = "the cell is flat"
TOO_LARGE = f"a cell edge is longer than {MAX_EDGE_ANGSTROM:g} Å"


def is_valid_structure(min_distance_angstrom: float, volume_angstrom3: float) -> bool:
    """Whether a crystal's structure is valid by Xie et al. (arXiv:2110.06197).

    Its smallest distance must be at least 0.5 Å and its volume at least 0.1 Å³. One atom alone has
    an infinite smallest distance, and needs the volume only.
    """
    return bool(
        min_distance_angstrom >= MIN_VALID_DISTANCE_ANGSTROM
        and volume_angstrom3 >= MIN_VALID_VOLUME_ANGSTROM3
    )


def why_no_crystal(
    lattice: Float[np.ndarray, "3 3"],
    frac_coords: Float[np.ndarray, "n 3"],
    atom_types: Int[np.ndarray, " n"],
    *,
    infused: bool = False,
) -> str:
    """The first reason why the arrays are no crystal, or an empty string.

    Args:
        lattice: Rows are the cell's vectors in Å.
        frac_coords: Fractional coordinates, without padding.
        atom_types: Atomic numbers; 0 is a mirage atom.
        infused: Whether mirage atoms are allowed.
    """
    if not (np.isfinite(lattice).all() and np.isfinite(frac_coords).all()):
        return NOT_FINITE
    if ((atom_types < 0) | (atom_types > HEAVIEST_ELEMENT)).any():
        return NOT_AN_ELEMENT
    if not infused and (atom_types == MIRAGE).any():
        return MIRAGE_ATOM
    if not (atom_types != MIRAGE).any():
        return NO_ATOM
    edges = np.linalg.norm(lattice, axis=-1)
    if edges.max() > MAX_EDGE_ANGSTROM:
        return TOO_LARGE
    if abs(np.linalg.det(lattice)) <= MIN_RELATIVE_VOLUME * edges.prod():
        return FLAT
    return ""


def min_distance(lattice: Float[np.ndarray, "3 3"], frac_coords: Float[np.ndarray, "n 3"]) -> float:
    """Smallest distance in Å between two different sites, their periodic images included.

    A site's own images do not count; a single site gives infinity.
    """
    return smallest_off_diagonal(distances(*niggli_reduce(lattice, frac_coords)))


def smallest_off_diagonal(distances_angstrom: Float[np.ndarray, "n n"]) -> float:
    """Smallest entry between two different sites; infinity where there is one site."""
    different = ~np.eye(len(distances_angstrom), dtype=bool)
    return float(distances_angstrom.min(where=different, initial=np.inf))


def distances(
    lattice: Float[np.ndarray, "3 3"], frac_coords: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n n"]:
    """Distance in Å of every two sites to their nearest images; the diagonal is to a site's own.

    In a reduced cell the nearest image of a site is in the same cell or in one of its 26
    neighbours, so that nothing grows with the cell.

    Args:
        lattice: A Niggli- or Minkowski-reduced cell, rows in Å.
        frac_coords: Fractional coordinates.
    """
    first, second = np.triu_indices(len(frac_coords), k=1)
    images = _NEIGHBOURS @ lattice
    found = np.diag(np.full(len(frac_coords), np.linalg.norm(lattice, axis=-1).min()))
    for start in range(0, len(first), 4096):
        i, j = first[start : start + 4096], second[start : start + 4096]
        difference = frac_coords[j] - frac_coords[i]
        vectors = ((difference - np.round(difference)) @ lattice)[:, None] + images
        found[i, j] = found[j, i] = np.sqrt((vectors**2).sum(-1).min(-1))
    return found


_NEIGHBOURS = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3), -1).reshape(-1, 3)
