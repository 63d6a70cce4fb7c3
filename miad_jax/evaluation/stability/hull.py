"""Energy above the convex hull of entries.

A hull is made of entries (composition and energy), of one of two kinds:

- `hull_from_entries`: computed entries of the Materials Project, from JSON, at total energies
  with their corrections. The energies of a potential that are corrected compare as they are;
  others after `corrections.corrected_energy_per_atom`.
- `hull_from_dataset`: the crystals of a dataset at their formation energies, and the elements at
  0 eV/atom. A potential's total energies compare after `corrections.fit_elemental_energies`. With
  fewer entries than the true hull it lies above it, so more crystals seem stable: numbers from it
  compare only with numbers from the same hull.

A crystal is measured against the entries, and never is one itself, so that its energy above the
hull is negative where it is more stable than all of them.
"""

from __future__ import annotations

import gzip
import json
import os
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PhaseDiagram
    from pymatgen.core import Composition

Scale = Literal["total", "formation"]

MAX_DIAGRAM_ELEMENTS = 6
"""The facets of a phase diagram multiply with its elements: at 10 it takes seconds, at 12 minutes.
Beyond this number the distance to the same hull is found without its facets."""

ROUNDING_EV_PER_ATOM = 1e-8
"""A smaller distance is none, so that rounding decides of no crystal that lies on the hull."""

_PICKLE_SUFFIXES = {".pkl", ".pickle", ".p", ".joblib"}
_GZIP_MAGIC, _PICKLE_MAGIC = b"\x1f\x8b", b"\x80"


class Hull:
    """The convex hull of entries, built for each chemical system when it is first asked for.

    Args:
        entries: Composition and energy in eV/atom of each entry.
        scale: Whether these, and the energies to be measured, are total or formation energies.
        definition: What the hull is made of, in words for a report.
    """

    def __init__(self, entries: Iterable[tuple[Composition, float]], scale: Scale, definition: str):
        self.scale = scale
        self.definition = definition
        self._lowest: dict[frozenset[str], dict[str, tuple[Composition, float]]] = {}
        self._diagrams: dict[frozenset[str], PhaseDiagram] = {}
        for composition, energy in entries:
            system = self._lowest.setdefault(symbols_of(composition), {})
            formula = composition.reduced_formula
            if formula not in system or energy < system[formula][1]:
                system[formula] = (composition, energy)

    @property
    def elements(self) -> frozenset[str]:
        """Symbols of the elements that have an entry of their own."""
        return frozenset(next(iter(system)) for system in self._lowest if len(system) == 1)

    def e_above_hull_ev_per_atom(
        self, composition: Composition, energy_ev_per_atom: float
    ) -> float | str:
        """How far an energy lies above the hull; negative below it.

        Args:
            composition: What the energy is of.
            energy_ev_per_atom: On the hull's scale.

        Returns:
            The distance in eV/atom, or the reason why there is none.
        """
        if not np.isfinite(energy_ev_per_atom):
            return f"the energy is {energy_ev_per_atom}"
        if unknown := sorted(symbols_of(composition) - self.elements):
            return f"the hull has no entry of {', '.join(unknown)}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # noble gases have no electronegativity
            composition = composition.element_composition
            if len(composition) > MAX_DIAGRAM_ELEMENTS:
                hull = self._lowest_mixture(composition)
            else:
                diagram = self._diagram(symbols_of(composition))
                hull = float(diagram.get_hull_energy_per_atom(composition))
        distance = float(energy_ev_per_atom) - hull
        return 0.0 if abs(distance) < ROUNDING_EV_PER_ATOM else distance

    def _lowest_mixture(self, composition: Composition) -> float:
        """The energy min Σ w_i E_i of a mixture of entries with the same shares of elements."""
        from scipy.optimize import linprog

        entries = self._entries(symbols_of(composition))
        shares = [[c.get_atomic_fraction(e) for c, _ in entries] for e in composition]
        target = [composition.get_atomic_fraction(e) for e in composition]
        return float(linprog([energy for _, energy in entries], A_eq=shares, b_eq=target).fun)

    def _entries(self, system: frozenset[str]) -> list[tuple[Composition, float]]:
        """The entries of some elements and no other."""
        found = (lowest.values() for elements, lowest in self._lowest.items() if elements <= system)
        return [entry for entries in found for entry in entries]

    def _diagram(self, system: frozenset[str]) -> PhaseDiagram:
        """The phase diagram of some elements."""
        from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
        from pymatgen.core import Element

        if system not in self._diagrams:
            entries = [PDEntry(c, energy * c.num_atoms) for c, energy in self._entries(system)]
            elements = sorted(map(Element, system), key=lambda element: element.Z)
            self._diagrams[system] = PhaseDiagram(entries, elements)
        return self._diagrams[system]


def hull_from_entries(path: str | os.PathLike[str]) -> Hull:
    """The hull of computed entries in a JSON file, plain or gzipped.

    Any JSON will do in which entries are found as pymatgen writes them (`ComputedEntry`,
    `ComputedStructureEntry` or `PDEntry`), in a list or in a table's column. An entry's energy is
    its `energy` and its `correction`, as they stand; nothing in the file is executed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a pickle, or not JSON, or holds no entry.
    """
    from pymatgen.core import Composition

    path = Path(path)
    found = list(_collect(_read_json(path)))
    if not found or not all(np.isfinite(entry.energy_ev) for entry in found):
        raise ValueError(
            f"{path} holds {len(found)} computed entries, or some of no finite energy: write a "
            "list of ComputedEntries with `monty.serialization.dumpfn(entries, 'entries.json.gz')`"
        )
    entries = []
    for entry in found:
        composition = Composition(entry.composition)
        if not composition:
            raise ValueError(f"{path} holds an entry without a composition: leave it out")
        entries.append((composition, entry.energy_ev / composition.num_atoms))
    corrected = sum(entry.is_corrected for entry in found)
    of_them = f"{corrected} of them with an energy correction"
    return Hull(entries, "total", f"the {len(found)} entries of {path.name}, {of_them}")


def check_hull_file(path: str | os.PathLike[str]) -> None:
    """Refuse early, without reading it, a file that is missing or is no JSON.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a pickle, or its compression cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        beginning = file.read(len(_GZIP_MAGIC))
    if beginning == _GZIP_MAGIC:
        try:
            with gzip.open(path) as file:
                beginning = file.read(1)
        except (EOFError, OSError, zlib.error) as error:
            raise _unreadable(path, error) from error
    if beginning.startswith(_PICKLE_MAGIC) or _PICKLE_SUFFIXES & {x.lower() for x in path.suffixes}:
        raise ValueError(
            f"{path} is a pickle, that is, code that runs when it is read. If you trust it, read "
            "it once yourself and write its entries as JSON, `monty.serialization.dumpfn("
            "diagram.all_entries, 'entries.json.gz')`, then give that file"
        )


def _read_json(path: Path) -> Any:
    """What a JSON file holds, entries reduced; a pickle is refused unread."""
    check_hull_file(path)
    content = path.read_bytes()
    try:
        if content.startswith(_GZIP_MAGIC):
            content = gzip.decompress(content)
        return json.loads(content, object_hook=_shrink)
    except (EOFError, OSError, UnicodeDecodeError, json.JSONDecodeError, zlib.error) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} cannot be read ({error}): give a .json or .json.gz of ComputedEntries"
    )


def hull_from_dataset(
    compositions: Sequence[Composition], formation_energies_ev_per_atom: Sequence[float]
) -> Hull:
    """The hull of a dataset's crystals, and of the elements at 0 eV/atom.

    Raises:
        ValueError: If the lengths differ, or no energy is finite. Crystals whose energy is not
            finite are left out.
    """
    from pymatgen.core import Composition

    check_lengths(compositions=compositions, energies=formation_energies_ev_per_atom)
    pairs = zip(compositions, map(float, formation_energies_ev_per_atom), strict=True)
    entries = [(composition, energy) for composition, energy in pairs if np.isfinite(energy)]
    if not entries:
        raise ValueError(
            "no crystal of the dataset has a formation energy: give a dataset with a column "
            "formation_energy_per_atom"
        )
    symbols = sorted(set().union(*(symbols_of(composition) for composition, _ in entries)))
    elements = [(Composition(symbol), 0.0) for symbol in symbols]
    return Hull(
        [*elements, *entries],
        "formation",
        f"{len(entries)} crystals of the dataset and {len(symbols)} elements; it lies above the "
        "hull of all known crystals, so more crystals seem stable",
    )


@dataclass(frozen=True)
class _Entry:
    """What a hull needs of a computed entry."""

    composition: Mapping[str, float] | str
    energy_ev: float
    is_corrected: bool


def _shrink(value: dict[str, Any]) -> dict[str, Any] | _Entry:
    """Reduce an entry to what a hull needs, while the rest of a large file is still read."""
    energy, composition = value.get("energy"), value.get("composition")
    if not isinstance(energy, int | float) or not isinstance(composition, dict | str):
        return value
    correction = value.get("correction") or 0.0
    return _Entry(composition, energy + correction, correction != 0)


def _collect(value: Any) -> Iterator[_Entry]:
    """All entries within a value that JSON gave."""
    if isinstance(value, _Entry):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _collect(part)


def symbols_of(composition: Composition) -> frozenset[str]:
    """Symbols of the elements in a composition."""
    return frozenset(element.symbol for element in composition)


def check_lengths(**values: Sized) -> None:
    """Refuse columns that do not belong together."""
    lengths = {name: len(value) for name, value in values.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(f"there are {counts}: give one of each for each crystal")
