"""One row of facts for each crystal: what it is, or why it is no crystal.

A generated array need not be a crystal: it may hold NaN, no atom, or a cell without volume.
`describe` looks for that first, never raises for it, and says it in the row's `reason`; a
row with an empty `reason` belongs to a crystal that can be written to a file and read back.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from miad_jax.crystal import MIRAGE, Crystal
from miad_jax.evaluation.validity.structure import (
    MIN_VALID_DISTANCE_ANGSTROM,
    NOT_AN_ELEMENT,
    NOT_FINITE,
    is_valid_structure,
    min_distance,
    why_no_crystal,
)

Row = dict[str, Any]
"""A crystal's facts by column name; None where there is none."""

SYMPREC_ANGSTROM = (0.1, 0.01)
"""Tolerances of the two space groups."""

AMU_PER_ANGSTROM3_IN_G_PER_CM3 = 1.66053906892

COLUMNS = (
    *("reduced_formula", "formula", "chemical_system", "num_atoms"),
    *("a", "b", "c", "alpha", "beta", "gamma", "volume_angstrom3", "density_g_per_cm3"),
    *(f"{name}_{s:g}" for s in SYMPREC_ANGSTROM for name in ("spacegroup", "spacegroup_number")),
    *("min_distance_angstrom", "valid_structure", "reason"),
)
"""Keys of every row, in the order in which tables show them; edges in Å, angles in degrees."""


def describe(crystal: Crystal, *, infused: bool = True) -> Row:
    """Describe one crystal; never raises for what the crystal holds.

    `validity.structure` decides whether the arrays are a crystal and its structure is valid.

    Args:
        crystal: One crystal, with or without its mirage atoms and padding.
        infused: Whether mirage atoms are allowed. They are dropped where they are; in a sample
            of a model without infusion an atom of type 0 makes the sample a failed one.

    Returns:
        A row with the keys `COLUMNS`. Where `reason` is not empty, `valid_structure` is False
        and what cannot be known is None.

    Raises:
        ValueError: If `crystal` is a batch.
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

    row: Row = dict.fromkeys(COLUMNS) | {"num_atoms": int(real.sum()), "valid_structure": False}
    row["reason"] = why_no_crystal(lattice, frac_coords, atom_types, infused=infused)
    if row["reason"] not in (NOT_FINITE, NOT_AN_ELEMENT):
        row |= _composition(atom_types[real]) | _cell(lattice)
    if not row["reason"]:
        row |= _structure(lattice, frac_coords[real], atom_types[real])
    return row


def describe_all(crystals: Crystal | Iterable[Crystal], *, infused: bool = True) -> list[Row]:
    """Describe every crystal of a batch, or of a list such as `reduce` returns."""
    if isinstance(crystals, Crystal):
        on_host = jax.tree.map(np.asarray, crystals)
        crystals = [on_host[i] for i in range(len(on_host))]
    return [describe(crystal, infused=infused) for crystal in crystals]


def spacegroup(
    lattice: Float[np.ndarray, "3 3"],
    frac_coords: Float[np.ndarray, "n 3"],
    atom_types: Int[np.ndarray, " n"],
    symprec_angstrom: float,
) -> tuple[str | None, int | None]:
    """Hermann-Mauguin symbol and number; (None, None) where spglib finds none.

    It finds none where atoms are closer than the tolerance. It is not asked where an atom's
    own image is closer than 0.5 Å, since its search then takes seconds and finds none.
    """
    import spglib
    from ase.geometry import minkowski_reduce

    reduced, basis = minkowski_reduce(lattice)
    if np.linalg.norm(reduced, axis=-1).min() < MIN_VALID_DISTANCE_ANGSTROM:
        return None, None
    positions = frac_coords @ np.linalg.inv(basis)
    os.environ.setdefault("SPGLIB_WARNING", "OFF")  # else its C code prints on stderr
    with warnings.catch_warnings():
        # spglib 2.8 warns that a later version raises instead of returning None; both are met.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            found = spglib.get_symmetry_dataset(
                (reduced.tolist(), positions.tolist(), atom_types.tolist()),
                symprec=symprec_angstrom,
            )
        except getattr(spglib, "SpglibError", RuntimeError):
            found = None
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
    from ase.data import atomic_masses

    volume = float(abs(np.linalg.det(lattice)))
    distance = min_distance(lattice, frac_coords)
    density = atomic_masses[atom_types].sum() * AMU_PER_ANGSTROM3_IN_G_PER_CM3 / volume
    row: Row = {
        "density_g_per_cm3": float(density),
        "min_distance_angstrom": distance if np.isfinite(distance) else None,
        "valid_structure": is_valid_structure(distance, volume),
    }
    for symprec in SYMPREC_ANGSTROM:
        symbol, number = spacegroup(lattice, frac_coords, atom_types, symprec)
        row |= {f"spacegroup_{symprec:g}": symbol, f"spacegroup_number_{symprec:g}": number}
    return row
