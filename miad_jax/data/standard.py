"""From whatever describes one crystal to the arrays of its standard cell.

The standard cell is the primitive cell, Niggli-reduced, with the lattice rebuilt from lengths
and angles in pymatgen's orientation: the form that the field's models are trained on. What
cannot be trained on is refused with a reason.

This module imports nothing of miad_jax but the files that lie `BESIDE` it, so that worker
processes run it as a script and start without JAX: they read pickled lists of sources from
standard input and answer each with the list of results on standard output.
"""

from __future__ import annotations

import itertools
import re
import sys
import textwrap
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

BESIDE = ("cif.py", "cif_contents.py", "cif_symmetry.py")
"""The files that this one needs beside it; they import nothing of miad_jax either."""

if TYPE_CHECKING or __package__:
    from miad_jax.data import cif, cif_contents, cif_symmetry
else:  # in a worker process, which runs this file by its path
    sys.path.insert(0, str(Path(__file__).parent))
    import cif
    import cif_contents
    import cif_symmetry

    sys.path.pop(0)

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

    Source: TypeAlias = str | tuple[str, str] | Structure | Atoms
    """CIF text, the text of a POSCAR with "poscar", a pymatgen Structure or an ASE Atoms."""

Arrays: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Lattice float32 [3, 3] in Å, fractional coordinates float32 [n, 3], atom types int32 [n]."""

MAX_ATOMIC_NUMBER = 99

_LONGEST_REASON = 500


def checked_arrays(
    lattice: np.ndarray, frac_coords: np.ndarray, atomic_numbers: np.ndarray
) -> Arrays:
    """Refuse what is no crystal, and wrap the coordinates to [0, 1), also after rounding.

    Args:
        lattice: Cell vectors as rows [3, 3], in Å.
        frac_coords: Fractional coordinates [n, 3].
        atomic_numbers: Atomic numbers [n].

    Raises:
        ValueError: If there is no atom, a value is not finite, the cell has no volume, or an
            element is not one of 1 to 99.
    """
    lattice, numbers = np.asarray(lattice, np.float64), np.asarray(atomic_numbers)
    if not len(numbers):
        raise ValueError("has no atoms")
    if not np.isfinite(lattice).all():
        raise ValueError("has a lattice that is not finite")
    if not abs(np.linalg.det(lattice)) > 0:
        raise ValueError("has a cell of zero volume")
    if not np.isfinite(frac_coords).all():
        raise ValueError("has coordinates that are not finite")
    if numbers.min() < 1 or numbers.max() > MAX_ATOMIC_NUMBER:
        wrong = sorted({int(z) for z in numbers if not 1 <= z <= MAX_ATOMIC_NUMBER})
        raise ValueError(
            f"has atomic numbers {wrong}; allowed are 1 (H) to {MAX_ATOMIC_NUMBER} (Es)"
        )
    wrapped = (frac_coords - np.floor(frac_coords)).astype(np.float32)
    wrapped[wrapped >= 1] = 0
    return lattice.astype(np.float32), wrapped, numbers.astype(np.int32)


def right_handed(lattice: np.ndarray, frac_coords: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same crystal in a right-handed cell: a left-handed one becomes −a, −b, −c with −x.

    Args:
        lattice: Cell vectors as rows [3, 3].
        frac_coords: Fractional coordinates [n, 3]; those of −x are in [0, 1].
    """
    if np.linalg.det(lattice) < 0:
        return -lattice, -frac_coords % 1
    return lattice, frac_coords


def structure_arrays(structure: Structure) -> Arrays:
    """The arrays of a pymatgen Structure, as it stands.

    Raises:
        ValueError: If a site is partially occupied or shared, or as `checked_arrays` does.
    """
    if not structure.is_ordered:
        raise ValueError("is disordered: a site is shared or partially occupied")
    numbers = np.array([site.specie.Z for site in structure], dtype=object)
    return checked_arrays(structure.lattice.matrix, structure.frac_coords, numbers)


def atoms_arrays(atoms: Atoms) -> Arrays:
    """The arrays of an ASE Atoms, as it stands.

    Raises:
        ValueError: If it has no cell, or as `checked_arrays` does.
    """
    if atoms.cell.rank < 3:
        raise ValueError(f"has a cell of {atoms.cell.rank} vectors; a crystal has 3")
    return checked_arrays(atoms.cell.array, atoms.get_scaled_positions(wrap=False), atoms.numbers)


def structure_of(source: Source) -> Structure:
    """A crystal as a pymatgen Structure, in the cell in which it comes.

    Raises:
        ValueError: If there is no text, or no such crystal.
    """
    from pymatgen.core import Element, Structure

    if isinstance(source, str):
        return _of_cif(source)
    if isinstance(source, tuple):
        return _of_poscar(source[0])
    if isinstance(source, Structure):
        return source
    _, _, numbers = atoms_arrays(source)
    species = [Element.from_Z(int(z)) for z in numbers]
    return Structure(source.cell.array, species, source.get_scaled_positions(wrap=False))


def standard_arrays(source: Source, *, primitive: bool, niggli: bool) -> Arrays:
    """The arrays of a crystal's standard cell.

    Differs from the field's preprocessing: a left-handed cell is inverted together with its
    coordinates before the lattice is rebuilt, so that no crystal turns into its mirror image.

    Args:
        source: CIF text, the text of a POSCAR with "poscar", a pymatgen Structure or an ASE Atoms.
        primitive: Whether to find the primitive cell.
        niggli: Whether to Niggli-reduce the cell.

    Raises:
        ValueError: If it is not a crystal with ordered atoms of elements 1 to 99.
    """
    from pymatgen.core import Lattice

    structure = structure_of(source)
    if len(structure) > cif.MAX_ATOMS:
        raise ValueError(cif.too_large(len(structure)))
    structure_arrays(structure)
    if primitive:
        structure = structure.get_primitive_structure()
    if niggli:
        structure = structure.get_reduced_structure()
    _, _, numbers = structure_arrays(structure)
    _, frac_coords = right_handed(structure.lattice.matrix, structure.frac_coords)
    lattice = Lattice.from_parameters(*structure.lattice.parameters).matrix
    return checked_arrays(lattice, frac_coords, numbers)


def _of_cif(text: str) -> Structure:
    """The crystal of a CIF, held against what the file says of its contents and symmetry.

    Raises:
        ValueError: If there is none, or the file contradicts itself.
    """
    if not text.strip():
        raise ValueError("has no CIF text")
    read = cif.read_cif_text(text)
    structure = read.structure
    if not structure.is_ordered:  # its caller refuses it
        return structure
    try:
        if structure.site_properties.get("implicit_hydrogens"):
            raise ValueError("has hydrogen on the place of an oxygen atom")
        unclear = cif.unclear_sites(read)
        agreement = _agreement(read)
        if unclear and agreement is cif_contents.Agreement.NOTHING:
            raise ValueError(unclear)
        if not read.magnetic:
            cif_symmetry.check_symmetry(
                structure,
                read.operations,
                symbol=read.text(*cif.SYMBOLS),
                hall=read.text(*cif.HALL_SYMBOLS),
                number=read.text(*cif.NUMBERS),
                num_listed=read.num_listed,
                implied=read.implies_symmetry,
                counted=agreement >= cif_contents.Agreement.CELL,
                confirmed=agreement is cif_contents.Agreement.ATOMS,
            )
    except ValueError as error:
        said = "; ".join(x for x in read.warnings if "finite precision" not in x)
        raise ValueError(f"{error} (pymatgen: {said})" if said else str(error)) from error
    return structure


def _agreement(read: cif.Cif) -> cif_contents.Agreement:
    """How far the formula of a CIF confirms its crystal.

    Raises:
        ValueError: If they contradict each other.
    """
    counts = Counter(
        "H" if site.specie.Z == 1 else getattr(site.specie, "symbol", "?")
        for site in read.structure
    )
    formula = read.text("_chemical_formula_sum", "_chemical_formula_structural")
    units = read.text("_cell_formula_units_Z")
    return cif_contents.compare_contents(counts, formula, units)


def _of_poscar(text: str) -> Structure:
    """The crystal of a POSCAR.

    Raises:
        ValueError: If it does not name its elements, or holds no crystal.
    """
    from pymatgen.io.vasp import Poscar

    if not text.strip():
        raise ValueError("has no POSCAR text")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    _check_poscar(text)
    try:
        poscar = Poscar.from_str(text, read_velocities=False)
    except Exception as error:  # it raises all there is
        raise ValueError(f"is no POSCAR: {error}") from error
    if not poscar.true_names:  # pymatgen makes some up
        raise ValueError("does not name its elements: add a line with their symbols, as VASP 5 has")
    return poscar.structure


def _check_poscar(text: str) -> None:
    """Refuse what pymatgen passes over: names without numbers, and what stands behind the atoms.

    Raises:
        ValueError: If there is any.
    """
    rows = [re.split("[#!]", line)[0].split() for line in text.split("\n")[5:]]
    names = list(itertools.takewhile(lambda row: row and row[0][0].isalpha(), rows))
    counts = list(itertools.takewhile(_are_counts, rows[len(names) :]))
    num_names, num_counts = sum(map(len, names)), sum(map(len, counts))
    if names and counts and num_names != num_counts:
        raise ValueError(f"names {num_names} elements, but has {num_counts} numbers of atoms")
    behind = rows[len(names) + len(counts) + sum(int(x) for row in counts for x in row) :]
    for row, following in itertools.pairwise(behind):
        if row and all(x[0].isalpha() for x in row) and _are_counts(following):
            raise ValueError("holds several crystals: give each a file of its own")
    if any("configuration=" in x for row in behind for x in row):
        raise ValueError("holds several crystals: it is an XDATCAR, so give a POSCAR of each")


def _are_counts(row: Sequence[str]) -> bool:
    return bool(row) and all(re.fullmatch("[0-9]{1,9}", x) for x in row)


def standardize(request: tuple[Sequence[Source], dict[str, bool]]) -> list[Arrays | str]:
    """The standard arrays of each source, or the reason why there are none.

    Args:
        request: Sources, and the settings of `standard_arrays`.
    """
    sources, settings = request
    results: list[Arrays | str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for source in sources:
            try:
                results.append(standard_arrays(source, **settings))
            except Exception as error:  # parsers of foreign files raise all there is
                reason = textwrap.shorten(str(error), _LONGEST_REASON, placeholder=" …")
                results.append(
                    reason if type(error) is ValueError else f"{type(error).__name__}: {reason}"
                )
    return results
