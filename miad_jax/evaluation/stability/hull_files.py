"""Hulls from files: computed entries as JSON, or formation energies as a table.

A file is refused if it holds the other kind of energies: formation energies taken for total ones
make every crystal stable, total energies taken for formation energies make none.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from miad_jax.data.reading import suffix
from miad_jax.evaluation.labels import is_missing
from miad_jax.evaluation.stability.corrections import ElementalEnergies
from miad_jax.evaluation.stability.entries_file import Entry, read_entries
from miad_jax.evaluation.stability.hull import Hull, symbols_of
from miad_jax.evaluation.stability.text_table import read_text_table

if TYPE_CHECKING:
    from pymatgen.core import Composition

FORMATION_COLUMNS = (
    "e_form_hull",
    "formation_energy_per_atom",
    "formation_energy_ev_per_atom",
    "e_form_per_atom",
    "e_form_per_atom_mp2020_corrected",
)
"""Names of the column that holds formation energies in eV/atom; a table has one of them."""

LOWEST_FORMATION_EV_PER_ATOM = -6.0
"""No compound lies so far below its elements: the lowest of the Materials Project is at -4.6."""

HIGHEST_MEDIAN_EV_PER_ATOM = 1.0
"""Half of a hull's compounds never lie so far above their elements."""

ZERO_EV_PER_ATOM = 0.1
"""The total energy of an element is lower than minus this: that of mercury, the highest but for
noble gases, is -0.30 in the Materials Project."""

ZERO_OF_NOBLE_GASES_EV_PER_ATOM = 1e-3
"""The same for noble gases, where a hull has no other elements."""

UNSTABLE_EV_PER_ATOM = 0.1
"""The formation energy of an element is no lower than minus this: it is 0 by definition."""

_TABLE = "a CSV table with the columns formula and formation_energy_per_atom, and --elements"


def read_hull(path: str | os.PathLike[str], elements: str | os.PathLike[str] | None = None) -> Hull:
    """The hull of a file: a table (.csv, .csv.gz) with the elements' entries, or entries as JSON.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file cannot be read or cannot be what it is taken for, a table comes
            without the elements' entries, or entries with them.
    """
    if suffix(Path(path)) in (".csv", ".csv.gz"):
        if elements is None:
            raise ValueError(
                f"{path} is a table of formation energies, and no --elements are given: name the "
                "JSON of the elements' entries, which bring total energies to formation energies"
            )
        return hull_from_table(path, elements)
    if elements is not None:
        raise ValueError(
            f"--elements belong to a table of formation energies, and {path} is none: leave them "
            f"out, or give {_TABLE}"
        )
    return hull_from_entries(path)


def hull_from_entries(path: str | os.PathLike[str]) -> Hull:
    """The hull of computed entries in a JSON file, plain or gzipped; `entries_file` says which.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a pickle, not JSON, holds no entry, or its energies cannot be total.
    """
    path = Path(path)
    file = read_entries(path)
    elements = _lowest_of_elements(file.entries)
    if zero := _at_zero(elements):
        raise ValueError(
            f"elements in {path} are at or near 0 eV/atom ({', '.join(zero[:8])}), so it holds "
            f"formation energies, and JSON is read as total energies: give {_TABLE}"
        )
    compounds = [entry for entry in file.entries if len(entry.composition) > 1]
    formation = np.array(
        [
            entry.energy_ev_per_atom - _mean(elements, entry.composition)
            for entry in compounds
            if symbols_of(entry.composition) <= set(elements)
        ]
    )
    missing = _missing([entry.composition for entry in compounds], elements)
    if compounds and not formation.size:
        raise ValueError(
            f"{path} has no entry of {', '.join(missing)}, so that no compound in it can be "
            "compared with its elements: add the elements' entries"
        )
    if formation.size:
        _check_formation(path, formation)
    num = sum(entry.is_corrected for entry in file.entries)
    corrected = (
        f"{num} of them with an energy correction"
        if num
        else "none of them with an energy correction: unless they are corrected already, too many "
        "crystals seem stable"
    )
    version = f", Materials Project {file.database_version}" if file.database_version else ""
    return Hull(
        ((entry.composition, entry.energy_ev_per_atom) for entry in file.entries),
        "total",
        f"total energies of the {len(file.entries)} entries of {path.name}{version}, {corrected}"
        + _unused(len(compounds) - formation.size, missing),
    )


def hull_from_table(path: str | os.PathLike[str], elements: str | os.PathLike[str]) -> Hull:
    """The hull of formation energies in a table, and of the elements at 0 eV/atom.

    Args:
        path: A CSV, plain or gzipped, with a column `formula` and one of `FORMATION_COLUMNS`, in
            eV/atom. Rows of one formula compete; a row without an energy is left out and counted.
        elements: JSON of computed entries, those of elements among them: a crystal's formation
            energy is its corrected total energy less that of its elements.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file cannot be read, a column is missing or there are several, a formula
            or an energy is none, or the energies cannot be formation energies.
    """
    from pymatgen.core import Composition

    path, elements = Path(path), Path(elements)
    elemental = read_elemental_energies(elements)
    column, entries, num_empty = _read_table(path)
    for composition, energy in entries:
        if len(composition) == 1 and energy < -UNSTABLE_EV_PER_ATOM:
            raise ValueError(
                f"{composition.formula} is at {energy:g} eV/atom in {path}, and the formation "
                "energy of an element is 0: give formation energies, or JSON with total ones"
            )
    _check_formation(path, np.array([energy for _, energy in entries]), column)
    known = elemental.energies_ev
    missing = _missing([composition for composition, _ in entries], known)
    unused = sum(not symbols_of(composition) <= set(known) for composition, _ in entries)
    empty = f", {num_empty} rows without an energy left out" if num_empty else ""
    return Hull(
        [*((Composition(symbol), 0.0) for symbol in known), *entries],
        "formation",
        f"formation energies ({column}) of the {len(entries)} rows of {path.name}{empty}"
        f"{_unused(unused, missing)}; those of the samples are corrected total energies less the "
        f"entries of {len(known)} elements in {elements.name}",
        elemental,
    )


def read_elemental_energies(path: str | os.PathLike[str]) -> ElementalEnergies:
    """The lowest total energy of each element among the computed entries of a JSON file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or holds no element, or elements at 0 eV/atom.
    """
    lowest = _lowest_of_elements(read_entries(Path(path)).entries)
    if not lowest or _at_zero(lowest):
        found = "elements at or near 0 eV/atom" if lowest else "no entry of an element"
        raise ValueError(
            f"{path} holds {found}: give the elements' entries with their total energies, as JSON"
        )
    return ElementalEnergies(lowest)


def _read_table(path: Path) -> tuple[str, list[tuple[Composition, float]], int]:
    """The column's name, composition and energy of each row, and how many rows have no energy."""
    from pymatgen.core import Composition

    table = read_text_table(path)
    found = [name for name in FORMATION_COLUMNS if name in table]
    if "formula" not in table or len(found) != 1:
        raise ValueError(
            f"{path} has the columns {', '.join(table) or 'none'}; needed are formula and exactly "
            f"one of {', '.join(FORMATION_COLUMNS)}: rename or drop columns"
        )
    entries, num_empty = [], 0
    for line, (formula, text) in enumerate(
        zip(table["formula"], table[found[0]], strict=True), start=2
    ):
        if is_missing(text):
            num_empty += bool(formula)  # a blank line is no row
            continue
        try:
            energy, composition = float(text), Composition(formula).element_composition
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}, line {line}: {error}; allowed: a row as NaCl,-2.1"
            ) from error
        if not composition or not math.isfinite(energy):
            raise ValueError(f"{path}, line {line}: {formula!r} is at {energy} eV/atom")
        entries.append((composition, energy))
    if not entries:
        raise ValueError(f"{path} holds no row with an energy: give a table of formation energies")
    return found[0], entries, num_empty


def _check_formation(path: Path, energies: np.ndarray, column: str = "") -> None:
    """Refuse energies that no compounds have, measured from their elements."""
    what = f"{column} in {path}" if column else f"{path}, measured from its elements' entries,"
    if energies.min() < LOWEST_FORMATION_EV_PER_ATOM:
        raise ValueError(
            f"the lowest energy of {what} is {energies.min():.3g} eV/atom, and no formation energy "
            f"is below {LOWEST_FORMATION_EV_PER_ATOM:g}: give one kind of energies, total ones "
            "with the elements' entries as JSON or formation energies as a table"
        )
    if np.median(energies) > HIGHEST_MEDIAN_EV_PER_ATOM:
        raise ValueError(
            f"half the energies of {what} are above {np.median(energies):.3g} eV/atom, so they are "
            "no hull's: give one kind of energies, total ones with the elements' entries as JSON "
            "or formation energies as a table"
        )


def _lowest_of_elements(entries: Sequence[Entry]) -> dict[str, float]:
    """The lowest energy of each element that has an entry."""
    lowest: dict[str, float] = {}
    for entry in entries:
        if len(entry.composition) == 1:
            (symbol,) = symbols_of(entry.composition)
            lowest[symbol] = min(entry.energy_ev_per_atom, lowest.get(symbol, math.inf))
    return lowest


def _at_zero(energies: Mapping[str, float]) -> list[str]:
    """Elements whose energy is none that is total: all of them, or some that are no noble gas."""
    from pymatgen.core import Element

    noble = {x for x in energies if Element(x).is_noble_gas}
    if noble == set(energies):
        return [x for x in noble if energies[x] >= -ZERO_OF_NOBLE_GASES_EV_PER_ATOM]
    return [x for x in energies if x not in noble and energies[x] >= -ZERO_EV_PER_ATOM]


def _mean(energies: Mapping[str, float], composition: Composition) -> float:
    """The mean energy of the atoms of a composition."""
    total = sum(energies[element.symbol] * num for element, num in composition.items())
    return float(total / composition.num_atoms)


def _missing(compositions: Sequence[Composition], known: Mapping[str, float]) -> list[str]:
    """Elements of the compositions that have no energy."""
    return sorted(set().union(*map(symbols_of, compositions)) - set(known))


def _unused(num: int, missing: Sequence[str]) -> str:
    """What to say of compounds that hold elements without an entry."""
    return f"; {num} of them hold {', '.join(missing)}, of which is no entry" if num else ""
