"""Energy above the convex hull of competing phases.

A hull is made of entries (composition and energy), of one of three kinds:

- computed entries of the Materials Project, from JSON, at total energies with their corrections
  (`hull_files.hull_from_entries`);
- formation energies by formula, from a table, with the elements' entries that bring corrected
  total energies to formation energies (`hull_files.hull_from_table`);
- the crystals of a dataset at their formation energies, and the elements at 0 eV/atom
  (`hull_from_dataset`). A potential's total energies compare after
  `corrections.fit_elemental_energies`. With fewer entries than the true hull it lies above it, so
  more crystals seem stable: numbers from it compare only with numbers from the same hull.

The energies of a potential that are corrected compare as they are; others after
`corrections.corrected_energy_per_atom`. A crystal is measured against the entries, and never is
one itself, so that its energy above the hull is negative where it is more stable than all of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence, Sized
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PhaseDiagram
    from pymatgen.core import Composition

    from miad_jax.evaluation.stability.corrections import ElementalEnergies

Scale = Literal["total", "formation"]

MAX_DIAGRAM_ELEMENTS = 6
"""The facets of a phase diagram multiply with its elements: at 10 it takes seconds, at 12 minutes.
Beyond this number the distance to the same hull is found without its facets."""

ROUNDING_EV_PER_ATOM = 1e-8
"""A smaller distance is none, so that rounding decides of no crystal that lies on the hull."""


class Hull:
    """The convex hull of entries, built for each chemical system when it is first asked for.

    Args:
        entries: Composition and energy in eV/atom of each entry.
        scale: Whether these energies are total or formation energies.
        definition: What the hull is made of, in words for a report.
        elemental: Energies of the elements, which turn corrected total energies into formation
            energies; None for a hull of total energies, or if they are fitted for each potential.
    """

    def __init__(
        self,
        entries: Iterable[tuple[Composition, float]],
        scale: Scale,
        definition: str,
        elemental: ElementalEnergies | None = None,
    ):
        self.scale = scale
        self.definition = definition
        self.elemental = elemental
        self._entries: dict[frozenset[str], list[tuple[Composition, float]]] = {}
        self._phases: dict[frozenset[str], list[tuple[Composition, float]]] = {}
        self._diagrams: dict[frozenset[str], PhaseDiagram] = {}
        for composition, energy in entries:
            self._entries.setdefault(symbols_of(composition), []).append((composition, energy))

    @property
    def elements(self) -> frozenset[str]:
        """Symbols of the elements that have an entry of their own."""
        return frozenset(next(iter(system)) for system in self._entries if len(system) == 1)

    def num_competing_phases(self, composition: Composition) -> int:
        """Number of compounds in the hull that hold no other elements than a composition.

        Compounds of one formula count once, and the elements not at all.
        """
        phases = self._phases_of(symbols_of(composition))
        return sum(len(symbols_of(phase)) > 1 for phase, _ in phases)

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

        phases = self._phases_of(symbols_of(composition))
        shares = [[c.get_atomic_fraction(e) for c, _ in phases] for e in composition]
        target = [composition.get_atomic_fraction(e) for e in composition]
        return float(linprog([energy for _, energy in phases], A_eq=shares, b_eq=target).fun)

    def _phases_of(self, system: frozenset[str]) -> list[tuple[Composition, float]]:
        """The lowest entry of each formula of some elements and no other."""
        if system not in self._phases:
            lowest: dict[str, tuple[Composition, float]] = {}
            most = min(len(system), max(map(len, self._entries), default=0))
            parts = (x for n in range(1, most + 1) for x in combinations(sorted(system), n))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                for composition, energy in (
                    entry for part in parts for entry in self._entries.get(frozenset(part), ())
                ):
                    formula = composition.reduced_formula
                    if formula not in lowest or energy < lowest[formula][1]:
                        lowest[formula] = (composition, energy)
            self._phases[system] = list(lowest.values())
        return self._phases[system]

    def _diagram(self, system: frozenset[str]) -> PhaseDiagram:
        """The phase diagram of some elements."""
        from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
        from pymatgen.core import Element

        if system not in self._diagrams:
            entries = [PDEntry(c, energy * c.num_atoms) for c, energy in self._phases_of(system)]
            elements = sorted(map(Element, system), key=lambda element: element.Z)
            self._diagrams[system] = PhaseDiagram(entries, elements)
        return self._diagrams[system]


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
        f"the reference's own, of the formation energies of {len(entries)} crystals of the dataset "
        f"and {len(symbols)} elements; it lies above the hull of all known crystals, so more "
        "crystals seem stable",
    )


def symbols_of(composition: Composition) -> frozenset[str]:
    """Symbols of the elements in a composition."""
    return frozenset(element.symbol for element in composition)


def check_lengths(**values: Sized) -> None:
    """Refuse columns that do not belong together."""
    lengths = {name: len(value) for name, value in values.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(f"there are {counts}: give one of each for each crystal")
