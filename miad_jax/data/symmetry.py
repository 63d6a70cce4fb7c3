"""The symmetry that spglib finds within a tolerance, and a crystal moved onto it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from miad_jax.data.spglib_calls import ask_spglib

MIN_IMAGE_DISTANCE_ANGSTROM = 0.5
"""spglib is not asked where an atom's own image is closer: it searches for seconds in vain."""

SPGLIB_ANGLE_TOLERANCE = -1.0
"""spglib's own: angles may differ by as much as moves no cell vector beyond the tolerance."""

PYMATGEN_ANGLE_TOLERANCE_DEGREES = 5.0
"""What pymatgen's SpacegroupAnalyzer gives spglib by default."""

EXACT_ANGSTROM = 1e-4
"""A crystal whose atoms are closer than this to where its symmetry puts them has it already."""


def find_symmetry(
    lattice: Float[np.ndarray, "3 3"],
    frac_coords: Float[np.ndarray, "n 3"],
    atom_types: Int[np.ndarray, " n"],
    symprec_angstrom: float,
    angle_tolerance_degrees: float = SPGLIB_ANGLE_TOLERANCE,
) -> Any | None:
    """The symmetry dataset of spglib; None where it finds none, as for atoms in one place.

    Args:
        lattice: A reduced cell, rows in Å: in a skewed one spglib takes long and may find less.
        frac_coords: Fractional coordinates.
        atom_types: Atomic numbers.
        symprec_angstrom: How far an atom may be from where a symmetry puts it.
        angle_tolerance_degrees: How far angles may differ; negative for spglib's own rule.
    """
    if np.linalg.norm(lattice, axis=-1).min() < MIN_IMAGE_DISTANCE_ANGSTROM:
        return None
    return ask_spglib(
        "get_symmetry_dataset",
        (lattice.tolist(), frac_coords.tolist(), atom_types.tolist()),
        symprec=symprec_angstrom,
        angle_tolerance=angle_tolerance_degrees,
    )


def refine(
    lattice: Float[np.ndarray, "3 3"],
    frac_coords: Float[np.ndarray, "n 3"],
    atom_types: Int[np.ndarray, " n"],
    max_move_angstrom: float,
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "n 3"]] | None:
    """Move a crystal onto the symmetry that spglib finds within `max_move_angstrom`.

    The cell stays the same cell, with the same atoms in the same order. Its metric tensor becomes
    the mean of its images under the rotations, G = ⟨Rᵀ G R⟩, and each position the mean of the
    images that the operations put there; the cell is stretched and not turned. The crystal is
    compared with what it was after both are centred at the mean of their atoms: no atom of the
    cell, and no cell vector, may have moved by more than `max_move_angstrom`. Where the moved
    crystal has more symmetry within that distance than before, it is moved onto that, and so on.

    Args:
        lattice: A reduced cell, rows in Å.
        frac_coords: Fractional coordinates.
        atom_types: Atomic numbers.
        max_move_angstrom: Tolerance of spglib, and the largest move.

    Returns:
        The new lattice and coordinates. None where the crystal stays as it is: there is no
        symmetry but translations by the cell, the crystal has its symmetry exactly, an atom would
        move too far, or the result lacks the symmetry.

    Raises:
        ValueError: If `max_move_angstrom` is not a positive, finite number.
    """
    check_max_move(max_move_angstrom)
    refined = None
    order = 1  # of the group that the crystal was moved onto, which rises
    new_lattice, new_coords = lattice, frac_coords
    while True:
        found = find_symmetry(new_lattice, new_coords, atom_types, max_move_angstrom)
        if found is None or len(found.rotations) <= order:
            return refined
        order = len(found.rotations)
        new_lattice = _mean_cell(new_lattice, found.rotations)
        moved = _mean_positions(
            new_lattice, new_coords, atom_types, found.rotations, found.translations
        )
        if moved is None:
            return refined
        new_coords = moved
        moves = new_coords @ new_lattice - frac_coords @ lattice
        moves = np.concatenate([moves - moves.mean(0), new_lattice - lattice])
        farthest = np.linalg.norm(moves, axis=-1).max()
        if farthest > max_move_angstrom:
            return refined
        now = find_symmetry(new_lattice, new_coords, atom_types, EXACT_ANGSTROM)
        if now is None or len(now.rotations) < order:
            return refined
        if farthest > EXACT_ANGSTROM:
            refined = new_lattice, new_coords


def check_max_move(max_move_angstrom: float) -> None:
    """Refuse what is no distance.

    Raises:
        ValueError: If `max_move_angstrom` is not a positive, finite number.
    """
    if not 0 < max_move_angstrom < math.inf:
        raise ValueError(
            f"the largest move of an atom is {max_move_angstrom:g} Å; allowed: a positive, finite "
            "number such as 0.1. To keep crystals as they are, leave refine out"
        )


def _mean_cell(lattice: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """The cell L S of the mean metric, with a symmetric S: stretched, not turned."""
    metric = lattice @ lattice.T
    mean = np.mean([r.T @ metric @ r for r in rotations.astype(float)], axis=0)
    inverse = np.linalg.inv(lattice)
    values, vectors = np.linalg.eigh(inverse @ mean @ inverse.T)  # S²
    return lattice @ (vectors * np.sqrt(values)) @ vectors.T


def _mean_positions(
    lattice: np.ndarray,
    frac_coords: np.ndarray,
    atom_types: np.ndarray,
    rotations: np.ndarray,
    translations: np.ndarray,
) -> np.ndarray | None:
    """The mean of the images of atoms, near the old positions; None where two atoms meet."""
    other = atom_types[:, None] != atom_types
    total = np.zeros_like(frac_coords)
    for rotation, translation in zip(rotations, translations, strict=True):
        images = frac_coords @ rotation.T + translation
        apart = images[:, None] - frac_coords
        apart -= np.round(apart)
        distances = np.linalg.norm(apart @ lattice, axis=-1)
        target = np.where(other, np.inf, distances).argmin(-1)
        if len(set(target.tolist())) < len(target):
            return None
        total[target] += apart[np.arange(len(target)), target]
    return frac_coords + total / len(rotations)
