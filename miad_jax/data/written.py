"""The crystal that goes out: into CIF and extxyz files, and into the row that describes it.

A generated crystal is in any cell that the model chose, with its atoms in any order. It goes out
in its Niggli cell, right-handed, with the atoms sorted by element, and, if asked for, moved onto
its symmetry. Arrays (`batches/`, `samples.npz`) stay as generated.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from miad_jax.crystal import Crystal
from miad_jax.data.niggli import niggli_reduce
from miad_jax.data.standard import right_handed, structure_arrays
from miad_jax.data.symmetry import refine
from miad_jax.mirage import reduce

if TYPE_CHECKING:
    from pymatgen.core import Structure


class Written(NamedTuple):
    """What goes out of one crystal.

    Attributes:
        crystal: Numpy-backed, in float64, without mirage atoms and padding.
        refined: Whether it was moved onto its symmetry.
    """

    crystal: Crystal
    refined: bool


def as_written(crystal: Crystal, refine_angstrom: float | None = None) -> Written:
    """The crystal in the form in which it goes out.

    It is the same crystal, unless it is refined: the cell is the Niggli cell of the lattice (not
    the primitive cell: the number of atoms stays) and right-handed, and the atoms are sorted by
    electronegativity as in pymatgen's formulas, cations first; elements without one come last.
    Atoms of one element keep their order.

    Args:
        crystal: One crystal with a cell of finite volume and at least one atom; mirage atoms and
            padding are dropped.
        refine_angstrom: Move the crystal onto the symmetry that `symmetry.refine` finds, if
            no atom moves by more than this; None leaves it.

    Raises:
        ValueError: If `refine_angstrom` is not a positive, finite number.
    """
    (real,) = reduce(crystal)
    atom_types = np.asarray(real.atom_types, np.int32)
    lattice, frac_coords = right_handed(
        np.asarray(real.lattice, np.float64), np.asarray(real.frac_coords, np.float64)
    )
    lattice, frac_coords = niggli_reduce(lattice, frac_coords)
    moved = None
    if refine_angstrom is not None:
        moved = refine(lattice, frac_coords, atom_types, refine_angstrom)
    if moved is not None:
        lattice, frac_coords = niggli_reduce(*moved)
    places = _places()
    order = np.argsort([places[int(z)] for z in atom_types], kind="stable")
    frac_coords = frac_coords[order] % 1
    frac_coords[frac_coords >= 1] = 0  # where the remainder of a tiny negative number rounds up
    arrays: list[Any] = [lattice, frac_coords, atom_types[order], np.ones(len(order), bool)]
    return Written(Crystal(*arrays), moved is not None)


def structure_as_written(structure: Structure) -> Crystal:
    """A pymatgen Structure in the form in which a crystal goes out; see `as_written`.

    Raises:
        ValueError: If it holds what no `Crystal` can.
    """
    arrays: list[Any] = [*structure_arrays(structure), np.ones(len(structure), bool)]
    return as_written(Crystal(*arrays)).crystal


@functools.cache
def _places() -> dict[int, int]:
    """Place of every element in pymatgen's order, by atomic number."""
    from pymatgen.core import Element

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of elements without electronegativity
        elements = [Element.from_Z(z) for z in range(1, 119)]
        known = {x.Z: x.X if x.X == x.X else math.inf for x in elements}
    ordered = sorted(elements, key=lambda x: (known[x.Z], x.symbol))
    return {x.Z: place for place, x in enumerate(ordered)}
