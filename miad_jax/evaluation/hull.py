"""Energy above the convex hull, and the scales on which energies can be compared.

A hull is made of entries (composition and energy), of one of two kinds:

- `hull_from_entries`: computed entries of the Materials Project, from JSON, at total energies
  with their corrections. The energies of a potential that are corrected compare as they are;
  others after `corrected_energy_per_atom`.
- `hull_from_dataset`: the crystals of a dataset at their formation energies, and the elements at
  0 eV/atom. A potential's total energies compare after `fit_elemental_energies`. With fewer
  entries than the true hull it lies above it, so more crystals seem stable: numbers from it
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from miad_jax.data.files import write_atomically

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PhaseDiagram
    from pymatgen.core import Composition, Structure

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
            system = self._lowest.setdefault(_symbols(composition), {})
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
        if unknown := sorted(_symbols(composition) - self.elements):
            return f"the hull has no entry of {', '.join(unknown)}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # noble gases have no electronegativity
            composition = composition.element_composition
            if len(composition) > MAX_DIAGRAM_ELEMENTS:
                hull = self._lowest_mixture(composition)
            else:
                diagram = self._diagram(_symbols(composition))
                hull = float(diagram.get_hull_energy_per_atom(composition))
        distance = float(energy_ev_per_atom) - hull
        return 0.0 if abs(distance) < ROUNDING_EV_PER_ATOM else distance

    def _lowest_mixture(self, composition: Composition) -> float:
        """The energy min Σ w_i E_i of a mixture of entries with the same shares of elements."""
        from scipy.optimize import linprog

        entries = self._entries(_symbols(composition))
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
        entries.append((composition, entry.energy_ev / composition.num_atoms))
    corrected = sum(entry.is_corrected for entry in found)
    of_them = f"{corrected} of them with an energy correction"
    return Hull(entries, "total", f"the {len(found)} entries of {path.name}, {of_them}")


def _read_json(path: Path) -> Any:
    """What a JSON file holds, entries reduced; a pickle is refused unread."""
    content = path.read_bytes()
    try:
        if content.startswith(_GZIP_MAGIC):
            content = gzip.decompress(content)
        if not content.startswith(_PICKLE_MAGIC) and not _PICKLE_SUFFIXES & {
            x.lower() for x in path.suffixes
        }:
            return json.loads(content, object_hook=_shrink)
    except (EOFError, OSError, UnicodeDecodeError, json.JSONDecodeError, zlib.error) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): give a .json or .json.gz of ComputedEntries"
        ) from error
    raise ValueError(
        f"{path} is a pickle, that is, code that runs when it is read. If you trust it, read it "
        "once yourself and write its entries as JSON, `monty.serialization.dumpfn("
        "diagram.all_entries, 'entries.json.gz')`, then give that file"
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

    _check_lengths(compositions=compositions, energies=formation_energies_ev_per_atom)
    pairs = zip(compositions, map(float, formation_energies_ev_per_atom), strict=True)
    entries = [(composition, energy) for composition, energy in pairs if np.isfinite(energy)]
    if not entries:
        raise ValueError(
            "no crystal of the dataset has a formation energy: give a dataset with a column "
            "formation_energy_per_atom"
        )
    symbols = sorted(set().union(*(_symbols(composition) for composition, _ in entries)))
    elements = [(Composition(symbol), 0.0) for symbol in symbols]
    return Hull(
        [*elements, *entries],
        "formation",
        f"{len(entries)} crystals of the dataset and {len(symbols)} elements; it lies above the "
        "hull of all known crystals, so more crystals seem stable",
    )


@dataclass(frozen=True)
class ElementalEnergies:
    """Energies of the elements that turn a potential's total energies to formation energies.

    Attributes:
        energies_ev: Energy of one atom by symbol.
        num_crystals: How many crystals were fitted.
        mae_ev_per_atom: Mean absolute error of the fit.
        rmse_ev_per_atom: Root of its mean square error.
    """

    energies_ev: Mapping[str, float]
    num_crystals: int
    mae_ev_per_atom: float
    rmse_ev_per_atom: float

    def formation_energy_ev_per_atom(
        self, composition: Composition, total_energy_ev_per_atom: float
    ) -> float | str:
        """The total energy less the elements', in eV/atom, or the reason why there is none."""
        if unknown := sorted(_symbols(composition) - set(self.energies_ev)):
            return f"the fitted elemental energies lack {', '.join(unknown)}"
        shares = composition.element_composition.fractional_composition
        elemental = sum(self.energies_ev[e.symbol] * share for e, share in shares.items())
        return float(total_energy_ev_per_atom - elemental)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them as JSON, whole or not at all."""
        write_atomically(Path(path), json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ElementalEnergies:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is none.
        """
        try:
            return cls(**json.loads(Path(path).read_text(encoding="utf-8")))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{os.fspath(path)} holds no elemental energies ({error}): delete it and fit again"
            ) from error


def choose_for_fit(compositions: Sequence[Composition], num_per_element: int = 30) -> list[int]:
    """Indices of the first crystals that together show each element so many times, if they can.

    They are enough to fit elemental energies without an energy of every crystal of a dataset.
    """
    seen: dict[str, int] = {}
    chosen = []
    for i, composition in enumerate(compositions):
        symbols = _symbols(composition)
        if any(seen.get(symbol, 0) < num_per_element for symbol in symbols):
            chosen.append(i)
            seen |= {symbol: seen.get(symbol, 0) + 1 for symbol in symbols}
    return chosen


def fit_elemental_energies(
    compositions: Sequence[Composition],
    total_energies_ev_per_atom: Sequence[float],
    formation_energies_ev_per_atom: Sequence[float],
) -> ElementalEnergies:
    """Fit Σ x_e E_e = total − formation energy by least squares, x_e an element's share of atoms.

    An element whose energy the crystals leave open is left out, such as two elements that are
    only met together in one ratio.

    Raises:
        ValueError: If the lengths differ, there is no crystal, or an energy is not finite.
    """
    total = np.asarray(total_energies_ev_per_atom, np.float64)
    formation = np.asarray(formation_energies_ev_per_atom, np.float64)
    _check_lengths(compositions=compositions, total=total, formation=formation)
    if not len(total) or not np.isfinite(total - formation).all():
        raise ValueError(
            f"elemental energies need finite energies of at least one crystal, got {len(total)} "
            f"crystals, {int((~np.isfinite(total - formation)).sum())} of them without: leave out "
            "those that have none"
        )
    symbols = sorted(set().union(*map(_symbols, compositions)))
    shares = np.array(
        [[c.element_composition.get_atomic_fraction(s) for s in symbols] for c in compositions]
    )
    inverse = np.linalg.pinv(shares, rcond=1e-10)
    energies = inverse @ (total - formation)
    is_settled = np.isclose(np.diag(inverse @ shares), 1)
    error = shares @ energies - (total - formation)
    return ElementalEnergies(
        energies_ev={s: float(energies[i]) for i, s in enumerate(symbols) if is_settled[i]},
        num_crystals=len(total),
        mae_ev_per_atom=float(np.abs(error).mean()),
        rmse_ev_per_atom=float(np.sqrt((error**2).mean())),
    )


def corrected_energy_per_atom(
    structure: Structure,
    energy_ev_per_atom: float,
    *,
    hubbards: Mapping[str, float] | None = None,
    potcar_symbols: Sequence[str] | None = None,
) -> float | str:
    """A GGA or GGA+U total energy with the Materials Project's 2020 corrections.

    The corrections depend on the anions, on how oxygen is bound, and on which elements carry a
    Hubbard U (Wang et al., Sci. Rep. 11, 15496, 2021).

    Args:
        structure: What the energy is of.
        energy_ev_per_atom: The uncorrected total energy.
        hubbards: The U in eV of each element that had one; the Materials Project's when None.
        potcar_symbols: Names of the pseudopotentials, which are then checked.

    Returns:
        The corrected energy in eV/atom, or the reason why the energy cannot be corrected.
    """
    from pymatgen.core.entries import ComputedStructureEntry
    from pymatgen.entries.compatibility import (
        CompatibilityError,
        MaterialsProject2020Compatibility,
    )

    scheme = MaterialsProject2020Compatibility(check_potcar=potcar_symbols is not None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noble gases have no electronegativity, oxidation states
        if hubbards is None:
            elements = sorted(structure.composition.elements, key=lambda element: element.X)
            expected = scheme.u_settings.get(elements[-1].symbol, {})
            hubbards = {e.symbol: expected[e.symbol] for e in elements if e.symbol in expected}
        parameters: dict[str, Any] = {
            "run_type": "GGA+U" if any(hubbards.values()) else "GGA",
            "hubbards": dict(hubbards),
        }
        if potcar_symbols is not None:
            parameters["potcar_symbols"] = [f"PAW_PBE {name}" for name in potcar_symbols]
        entry = ComputedStructureEntry(
            structure, energy_ev_per_atom * len(structure), parameters=parameters
        )
        try:
            scheme.process_entry(entry, on_error="raise")
        except CompatibilityError as error:
            reason = str(error).split(" for {")[0]
            return f"the energy cannot be corrected as the Materials Project's: {reason}"
    return float(entry.energy_per_atom)


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


def _symbols(composition: Composition) -> frozenset[str]:
    """Symbols of the elements in a composition."""
    return frozenset(element.symbol for element in composition)


def _check_lengths(**values: Sized) -> None:
    """Refuse columns that do not belong together."""
    lengths = {name: len(value) for name, value in values.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(f"there are {counts}: give one of each for each crystal")
