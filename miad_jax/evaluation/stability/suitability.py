"""Which crystals a potential can relax, and in which cell it gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from miad_jax.data.standard import right_handed, structure_arrays
from miad_jax.evaluation.validity.structure import FLAT, MIN_RELATIVE_VOLUME, min_distance

if TYPE_CHECKING:
    from pymatgen.core import Structure

OVERLAP_ANGSTROM = 0.1
"""Atoms closer than this lie upon each other: no potential says where they should go."""


def request_of(structure: Structure) -> dict[str, list]:
    """What a worker needs of a crystal, in a right-handed cell.

    In a left-handed one CHGNet's volume is negative, and with it the sign of its stress: the
    cell would fly apart or collapse.
    """
    lattice, frac_coords = right_handed(structure.lattice.matrix, structure.frac_coords)
    return {
        "lattice": lattice.tolist(),
        "frac_coords": frac_coords.tolist(),
        "atomic_numbers": [int(site.specie.Z) for site in structure],
    }


def why_not(structure: Structure | None) -> str:
    """Why a crystal cannot be relaxed, or an empty string."""
    if structure is None:
        return "there is no crystal"
    try:
        structure_arrays(structure)
    except ValueError as error:
        return str(error)
    lattice = structure.lattice.matrix
    if abs(np.linalg.det(lattice)) <= MIN_RELATIVE_VOLUME * np.prod(structure.lattice.abc):
        return FLAT
    if (distance := min_distance(lattice, structure.frac_coords)) < OVERLAP_ANGSTROM:
        return f"two atoms overlap: they are {distance:.3g} Å apart"
    return ""
