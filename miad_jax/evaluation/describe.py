"""One row of facts for each crystal: what it is, or why it is no crystal.

A generated array need not be a crystal: it may hold NaN, no atom, or a cell without volume.
`describe` looks for that first, never raises for it, and says it in the row's `reason`; a
row with an empty `reason` belongs to a crystal that can be written to a file and read back.
Such a row describes the crystal as it is written: in its Niggli cell, and refined if asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from miad_jax.crystal import MIRAGE, Crystal
from miad_jax.data.properties import density_g_per_cm3
from miad_jax.data.symmetry import (
    MIN_IMAGE_DISTANCE_ANGSTROM,
    PYMATGEN_ANGLE_TOLERANCE_DEGREES,
    SPGLIB_ANGLE_TOLERANCE,
    find_symmetry,
)
from miad_jax.data.written import as_written
from miad_jax.evaluation.validity.plausible import why_implausible
from miad_jax.evaluation.validity.structure import (
    NOT_AN_ELEMENT,
    NOT_FINITE,
    distances,
    is_valid_structure,
    smallest_off_diagonal,
    why_no_crystal,
)

Row = dict[str, Any]
"""A crystal's facts by column name; None where there is none."""

SYMPREC_ANGSTROM = (0.1, 0.01)
"""Tolerances of the two space groups."""

FIRST_CUBIC_GROUP = 195

COLUMNS = (
    *("reduced_formula", "formula", "chemical_system", "num_atoms"),
    *("a", "b", "c", "alpha", "beta", "gamma", "volume_angstrom3", "density_g_per_cm3"),
    *(f"{name}_{s:g}" for s in SYMPREC_ANGSTROM for name in ("spacegroup", "spacegroup_number")),
    *(f"spacegroup_number_pymatgen_{s:g}" for s in SYMPREC_ANGSTROM),
    "spacegroup_reason",
    *("min_distance_angstrom", "valid_structure", "plausible", "implausible_because"),
    *("refined", "reason"),
)
"""Keys of every row, in the order in which tables show them; edges in Å, angles in degrees.

Edges and angles are those of the Niggli cell. `spacegroup_…` are spglib's with its own rule for
angles, `spacegroup_number_pymatgen_…` spglib's with pymatgen's angle tolerance of 5°, which papers
print; the number that ends a name is the tolerance in Å. Where spglib finds none, the group is not
known, which is not P1: the columns are empty, and `spacegroup_reason` says why.
"""


def no_crystal_row(reason: str) -> Row:
    """The row of a sample that is no crystal, for this reason."""
    outcomes = {"valid_structure": False, "plausible": False, "refined": False}
    return dict.fromkeys(COLUMNS) | outcomes | {"reason": reason}


def describe(
    crystal: Crystal, *, infused: bool = True, refine_angstrom: float | None = None
) -> Row:
    """Describe one crystal as it is written; never raises for what the crystal holds.

    `validity.structure` decides whether the arrays are a crystal and its structure is valid,
    `validity.plausible` whether it is plausible, `data.written` what is written of it.

    Args:
        crystal: One crystal, with or without its mirage atoms and padding.
        infused: Whether mirage atoms are allowed. They are dropped where they are; in a sample
            of a model without infusion an atom of type 0 makes the sample a failed one.
        refine_angstrom: Describe the crystal moved onto its symmetry, if no atom moves by more
            than this; `refined` says whether it was. None leaves it.

    Returns:
        A row with the keys `COLUMNS`. `implausible_because` is empty for a plausible crystal, and
        `spacegroup_reason` for one whose space groups are all known. Where
        `reason` is not empty, `valid_structure` and `plausible` are False, what cannot be known
        is None, and edges and angles are those of the cell as it is.

    Raises:
        ValueError: If `crystal` is a batch, or `refine_angstrom` is not a positive, finite number.
    """
    if crystal.batch_shape:
        raise ValueError(
            f"describe takes one crystal, got a batch of shape {crystal.batch_shape}: "
            "use describe_all"
        )
    mask = np.asarray(crystal.mask)
    lattice = np.asarray(crystal.lattice, np.float64)
    frac_coords = np.asarray(crystal.frac_coords, np.float64)[mask]
    atom_types = np.asarray(crystal.atom_types, int)[mask]
    real = atom_types != MIRAGE

    row = no_crystal_row(why_no_crystal(lattice, frac_coords, atom_types, infused=infused))
    row["num_atoms"] = int(real.sum())
    if row["reason"] not in (NOT_FINITE, NOT_AN_ELEMENT):
        row |= _composition(atom_types[real]) | _cell(lattice)
    if not row["reason"]:
        written, row["refined"] = as_written(crystal, refine_angstrom)
        lattice = np.asarray(written.lattice)
        row |= _cell(lattice)
        row |= _structure(lattice, np.asarray(written.frac_coords), np.asarray(written.atom_types))
    return row


def describe_all(
    crystals: Crystal | Iterable[Crystal],
    *,
    infused: bool = True,
    refine_angstrom: float | None = None,
) -> list[Row]:
    """Describe every crystal of a batch, or of a list such as `reduce` returns."""
    if isinstance(crystals, Crystal):
        on_host = jax.tree.map(np.asarray, crystals)
        crystals = [on_host[i] for i in range(len(on_host))]
    return [
        describe(crystal, infused=infused, refine_angstrom=refine_angstrom) for crystal in crystals
    ]


def spacegroup(
    lattice: Float[np.ndarray, "3 3"],
    frac_coords: Float[np.ndarray, "n 3"],
    atom_types: Int[np.ndarray, " n"],
    symprec_angstrom: float,
    angle_tolerance_degrees: float = SPGLIB_ANGLE_TOLERANCE,
) -> tuple[str | None, int | None]:
    """Hermann-Mauguin symbol and number; (None, None) where spglib finds none.

    It finds none where atoms are closer than the tolerance. Arguments are those of
    `symmetry.find_symmetry`: the cell is a reduced one.
    """
    found = find_symmetry(
        lattice, frac_coords, atom_types, symprec_angstrom, angle_tolerance_degrees
    )
    return (None, None) if found is None else (found.international, int(found.number))


def _composition(atom_types: np.ndarray) -> Row:
    """Formulas and the elements, alphabetically; None without atoms."""
    from pymatgen.core import Composition, Element

    if not atom_types.size:
        return {}
    numbers, counts = np.unique(atom_types, return_counts=True)
    with warnings.catch_warnings():
        # pymatgen orders elements by electronegativity and warns of noble gases, which have none.
        warnings.simplefilter("ignore", UserWarning)
        composition = Composition(
            {Element.from_Z(int(z)): int(n) for z, n in zip(numbers, counts, strict=True)}
        )
        return {
            "reduced_formula": composition.reduced_formula,
            "formula": composition.formula,
            "chemical_system": composition.chemical_system,
        }


def _cell(lattice: np.ndarray) -> Row:
    """Edges, angles and volume; angles are None beside an edge of zero length."""
    edges = np.linalg.norm(lattice, axis=-1)
    row: Row = dict(zip("abc", edges.tolist(), strict=True))
    row["volume_angstrom3"] = float(abs(np.linalg.det(lattice)))
    if (edges > 0).all():
        unit = lattice / edges[:, None]
        cosines = [unit[1] @ unit[2], unit[2] @ unit[0], unit[0] @ unit[1]]
        angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
        row |= dict(zip(("alpha", "beta", "gamma"), angles.tolist(), strict=True))
    return row


def _structure(lattice: np.ndarray, frac_coords: np.ndarray, atom_types: np.ndarray) -> Row:
    """What takes a cell with volume: density, space groups, smallest distance, validity."""
    volume = float(abs(np.linalg.det(lattice)))
    apart = distances(lattice, frac_coords)
    closest = smallest_off_diagonal(apart)
    because = why_implausible(lattice, apart, atom_types)
    row: Row = {
        "density_g_per_cm3": density_g_per_cm3(lattice, atom_types),
        "min_distance_angstrom": closest if np.isfinite(closest) else None,
        "valid_structure": is_valid_structure(closest, volume),
        "plausible": not because,
        "implausible_because": because,
    }
    for symprec in SYMPREC_ANGSTROM:
        row |= _spacegroups(lattice, frac_coords, atom_types, symprec)
    row["spacegroup_reason"] = _why_no_spacegroup(row, lattice)
    return row


def _why_no_spacegroup(row: Row, lattice: np.ndarray) -> str:
    """Why spglib found no space group at some tolerance, or an empty string."""
    missing = [
        f"{s:g}"
        for s in SYMPREC_ANGSTROM
        if None in (row[f"spacegroup_number_{s:g}"], row[f"spacegroup_number_pymatgen_{s:g}"])
    ]
    if not missing:
        return ""
    image = float(np.linalg.norm(lattice, axis=-1).min())
    if image < MIN_IMAGE_DISTANCE_ANGSTROM:
        return f"spglib is not asked: an atom and its own image are {image:.2g} Å apart"
    closest = row["min_distance_angstrom"]
    apart = "" if closest is None else f"; two atoms are {closest:.2g} Å apart"
    return f"spglib finds none at {' and '.join(missing)} Å{apart}"


def _spacegroups(
    lattice: np.ndarray, frac_coords: np.ndarray, atom_types: np.ndarray, symprec: float
) -> Row:
    """The space group by both rules for angles.

    Where spglib finds a cubic group its search, the slowest by far, is not repeated: at 5° too
    the lattice has the 48 rotations of a cube, and no lattice has more.
    """
    crystal = lattice, frac_coords, atom_types
    symbol, number = spacegroup(*crystal, symprec)
    by_pymatgen = number
    if (number or 0) < FIRST_CUBIC_GROUP:
        _, by_pymatgen = spacegroup(*crystal, symprec, PYMATGEN_ANGLE_TOLERANCE_DEGREES)
    return {
        f"spacegroup_{symprec:g}": symbol,
        f"spacegroup_number_{symprec:g}": number,
        f"spacegroup_number_pymatgen_{symprec:g}": by_pymatgen,
    }
