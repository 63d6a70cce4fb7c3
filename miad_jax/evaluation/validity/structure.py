"""Whether an array is a crystal at all, and whether a crystal's structure is valid.

A generated array need not be a crystal: it may hold NaN, no atom, or a cell without volume. The
thresholds, and the reasons that a row gives, are here.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from miad_jax.crystal import MIRAGE

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

    In a Minkowski-reduced cell the nearest image of a site is at most two cells away, so 125
    images are enough whatever the shape of the cell, and nothing grows with it. A site's own
    images do not count; a single site gives infinity.
    """
    from ase.geometry import minkowski_reduce

    reduced, _ = minkowski_reduce(lattice)
    first, second = np.triu_indices(len(frac_coords), k=1)
    shift = np.arange(-2, 3)
    images = np.stack(np.meshgrid(shift, shift, shift), -1).reshape(-1, 3) @ reduced
    smallest = np.inf
    for start in range(0, len(first), 4096):
        pair = slice(start, start + 4096)
        difference = (frac_coords[second[pair]] - frac_coords[first[pair]]) % 1
        difference = difference @ lattice @ np.linalg.inv(reduced)
        difference -= np.round(difference)
        vectors = (difference @ reduced)[:, None] + images
        smallest = min(smallest, float(np.sqrt((vectors**2).sum(-1).min())))
    return smallest
