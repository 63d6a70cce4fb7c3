"""The prototypes: the crystals whose elements are replaced, from pymatgen's AFLOW library."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import numpy as np
from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Element, Lattice, Structure

MAX_ATOMS = 20
ANION_STATES = {
    -1: ("H", "F", "Cl", "Br", "I"),
    -2: ("O", "S", "Se", "Te"),
    -3: ("N", "P", "As"),
    -4: ("C",),
}
ANIONS = frozenset(itertools.chain.from_iterable(ANION_STATES.values())) - {"H"}
"""Elements whose presence as an anion makes neutrality a condition."""

Ion = tuple[Element, float]
"""An element and its charge, which is 0 where it is unknown."""


@dataclass(frozen=True, eq=False)
class Prototype:
    """A crystal whose elements are to be replaced.

    Attributes:
        name: AFLOW label, numbered where the library has several of that label.
        label: AFLOW label.
        mineral: Name of the mineral or of the structure, or "".
        strukturbericht: Strukturbericht designation, or "".
        structure: Primitive Niggli-reduced cell.
    """

    name: str
    label: str
    mineral: str
    strukturbericht: str
    structure: Structure

    @functools.cached_property
    def elements(self) -> tuple[Element, ...]:
        """Its elements, in the order of the alphabet."""
        return tuple(sorted(self.structure.composition, key=lambda e: e.symbol))

    @functools.cached_property
    def sites(self) -> np.ndarray:
        """For each atom the index of its element in `elements`."""
        return np.array([self.elements.index(site.specie) for site in self.structure])

    @functools.cached_property
    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Atom, atom and distance in Å of all near pairs, periodic images included."""
        atomic_length = (self.structure.volume / len(self.structure)) ** (1 / 3)
        first, second, _, distance = self.structure.get_neighbor_list(3 * atomic_length)
        return first, second, distance

    @functools.cached_property
    def mean_states(self) -> tuple[float, ...] | None:
        """Mean oxidation state of each element; None where no ionic formula is neutral."""
        guesses = self.structure.composition.oxi_state_guesses()
        if not guesses or len(self.elements) == 1:
            return None
        states = tuple(round(float(guesses[0].get(e.symbol, 0)), 6) for e in self.elements)
        ionic = any(
            e.symbol in ANIONS and q < 0 for e, q in zip(self.elements, states, strict=True)
        )
        return states if ionic else None

    @functools.cached_property
    def ions(self) -> tuple[Ion, ...]:
        """Its elements with their charges, all 0 where these are unknown or mixed valences."""
        states = self.mean_states
        if states is None or any(q != round(q) for q in states):
            states = (0.0,) * len(self.elements)
        return tuple(zip(self.elements, states, strict=True))


@functools.cache
def prototypes() -> tuple[Prototype, ...]:
    """The prototypes of at most `MAX_ATOMS` atoms, ordered by number of atoms and name."""
    found = []
    for entry in AFLOW_PROTOTYPE_LIBRARY:
        primitive = entry["snl"].structure.get_primitive_structure()
        if len(primitive) <= MAX_ATOMS:
            reduced = primitive.get_reduced_structure(reduction_algo="niggli")
            lattice = Lattice.from_parameters(*reduced.lattice.parameters)
            structure = Structure(lattice, reduced.species, reduced.frac_coords)
            found.append((entry["tags"], structure))
    found.sort(key=lambda x: (len(x[1]), x[0]["aflow"], x[1].reduced_formula, str(x[0])))
    named = []
    for label, group in itertools.groupby(found, key=lambda x: (len(x[1]), x[0]["aflow"])):
        for number, (tags, structure) in enumerate(group, start=1):
            name = label[1] if number == 1 else f"{label[1]}-{number}"
            mineral, symbol = (str(tags[x] or "") for x in ("mineral", "strukturbericht"))
            symbol = "" if symbol == "None" else symbol
            named.append(Prototype(name, label[1], mineral, symbol, structure))
    return tuple(named)


@functools.cache
def alike(first: Prototype, second: Prototype) -> bool:
    """Whether two prototypes are one structure but for a distortion and the elements."""
    a, b = first.structure, second.structure
    if len(a) != len(b) or a.composition.anonymized_formula != b.composition.anonymized_formula:
        return False
    matcher = StructureMatcher(primitive_cell=False, attempt_supercell=False)
    return matcher.fit_anonymous(a, b)
