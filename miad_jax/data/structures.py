"""Crystals to and from pymatgen Structures and ASE Atoms, as they stand.

One thing changes on the way out: a left-handed cell, as half of all generated ones are, becomes
the right-handed −a, −b, −c with coordinates −x, which is the same crystal. Lengths and angles, all
that a CIF holds, describe a right-handed cell; so do VASP and the stress of most potentials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from miad_jax.crystal import Crystal
from miad_jax.data.packing import stack
from miad_jax.data.standard import Arrays, atoms_arrays, right_handed, structure_arrays
from miad_jax.mirage import reduce

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure


def from_structures(
    structures: Structure | Iterable[Structure], size: int | None = None
) -> Crystal:
    """Pack pymatgen Structures: real atoms first, padding after.

    Args:
        structures: Structures with ordered sites; one Structure is a batch of one.
        size: Atom slots of the result; the largest structure's number of atoms when None.

    Returns:
        A numpy-backed Crystal [n], coordinates in [0, 1).

    Raises:
        ValueError: If there is none, or one is disordered, has no atoms, more than `size`
            atoms, an element beyond 99, or a cell that is not finite.

    Example:
        >>> from pymatgen.core import Lattice, Structure
        >>> cscl = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        >>> miad_jax.from_structures([cscl]).atom_types.tolist()
        [[55, 17]]
    """
    return stack(_each(structure_arrays, structures, "structure", "lattice"), size)


def from_atoms(atoms: Atoms | Iterable[Atoms], size: int | None = None) -> Crystal:
    """Pack ASE Atoms: real atoms first, padding after.

    Args:
        atoms: Atoms with a full cell; one Atoms is a batch of one.
        size: Atom slots of the result; the largest number of atoms when None.

    Returns:
        A numpy-backed Crystal [n], coordinates in [0, 1).

    Raises:
        ValueError: If there is none, or one has no full cell, no atoms, more than `size`
            atoms, an element beyond 99, or a cell that is not finite.

    Example:
        >>> from ase.build import bulk
        >>> miad_jax.from_atoms([bulk("NaCl", "rocksalt", a=5.64)]).atom_types.tolist()
        [[11, 17]]
    """
    return stack(_each(atoms_arrays, atoms, "atoms", "cell"), size)


def to_structures(crystals: Crystal | Iterable[Crystal]) -> list[Structure]:
    """The pymatgen Structure of every crystal, without mirage atoms and padding.

    Args:
        crystals: One crystal, a batch, or several of either.

    Raises:
        ValueError: If a crystal has no real atoms or is not finite.

    Example:
        >>> crystals, _ = miad_jax.load_dataset("prototypes", "val")
        >>> len(miad_jax.to_structures(crystals[:3]))
        3
    """
    from pymatgen.core import Element, Structure

    return [
        Structure(lattice, [Element.from_Z(int(z)) for z in numbers], frac_coords)
        for lattice, frac_coords, numbers in _real_arrays(crystals)
    ]


def to_atoms(crystals: Crystal | Iterable[Crystal]) -> list[Atoms]:
    """The ASE Atoms of every crystal, periodic, without mirage atoms and padding.

    Args:
        crystals: One crystal, a batch, or several of either.

    Raises:
        ValueError: If a crystal has no real atoms or is not finite.

    Example:
        >>> crystals, _ = miad_jax.load_dataset("prototypes", "val")
        >>> bool(miad_jax.to_atoms(crystals[:1])[0].pbc.all())
        True
    """
    from ase import Atoms

    return [
        Atoms(numbers=numbers, scaled_positions=frac_coords, cell=lattice, pbc=True)
        for lattice, frac_coords, numbers in _real_arrays(crystals)
    ]


def _each(
    arrays_of: Callable[[Any], Arrays], values: Any, noun: str, attribute: str
) -> list[Arrays]:
    """The arrays of every value; an error names the value's index.

    Structure and Atoms iterate over their sites: `attribute` tells one from a list of them.
    """
    results = []
    for index, value in enumerate([values] if hasattr(values, attribute) else values):
        try:
            results.append(arrays_of(value))
        except ValueError as error:
            raise ValueError(f"{noun} {index} {error}: leave it out or mend it") from error
    return results


def _real_arrays(crystals: Crystal | Iterable[Crystal]) -> list[Arrays]:
    """Lattice, coordinates (float64) and types of every crystal's real atoms."""
    batches = [crystals] if isinstance(crystals, Crystal) else list(crystals)
    reduced = [crystal for batch in batches for crystal in reduce(batch)]
    results = []
    for index, crystal in enumerate(reduced):
        if not crystal.size:
            raise ValueError(
                f"crystal {index} of {len(reduced)} has no real atoms: drop crystals that are "
                f"mirage atoms only, as real_atom_mask(crystals).any(-1) tells"
            )
        lattice = np.asarray(crystal.lattice, np.float64)
        frac_coords = np.asarray(crystal.frac_coords, np.float64)
        if not (np.isfinite(lattice).all() and np.isfinite(frac_coords).all()):
            raise ValueError(
                f"crystal {index} of {len(reduced)} has a lattice or coordinates that are not "
                f"finite: drop it before it is converted"
            )
        results.append((*right_handed(lattice, frac_coords), np.asarray(crystal.atom_types)))
    return results
