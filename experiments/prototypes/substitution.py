"""Which ions and elements take each other's place in a crystal, and how readily.

Ions that the data-mined model of Hautier et al. knows (doi:10.1021/ic102031h) have its
conditional probabilities. Everything else is compared on Pettifor's chemical scale: metals,
uncharged, with metals; nonmetals with their own or the next group; ions with those of their
own charge.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings

from ase.data import covalent_radii
from pymatgen.core import Element, Species
from pymatgen.core.structure_prediction.substitution_probability import SubstitutionProbability

EXCLUDED = frozenset("He Ne Ar Kr Xe Rn Po At Fr Ra Ac Pm Pa".split())
"""Never put in (a prototype made of them stays): noble gases, the intensely radioactive."""
ELEMENTS = tuple(e for e in map(Element.from_Z, range(1, 93)) if e.symbol not in EXCLUDED)
NONMETALS = frozenset("H B C N O F Si P S Cl Ge As Se Br Te I".split())
GASES = frozenset("H N O F Cl".split())
"""Never put in as the only element: their solids are molecular."""
ANION_STATES = {
    -1: ("H", "F", "Cl", "Br", "I"),
    -2: ("O", "S", "Se", "Te"),
    -3: ("N", "P", "As"),
    -4: ("C",),
}
ANIONS = frozenset(itertools.chain.from_iterable(ANION_STATES.values())) - {"H"}
"""Elements whose presence as an anion makes neutrality a condition."""

Ion = tuple[Element, float]
PETTIFOR_SCALE = 5.0
"""Steps on Pettifor's scale over which similarity falls by e."""
RADIUS_SIGMA = 0.2
"""Width of the penalty on ln(r_new / r_old), where the data-mined model does not apply."""


@functools.cache
def allowed_ions(sign: int) -> tuple[Ion, ...]:
    """Cations in the states found in the ICSD or called common, or the anions."""
    if sign < 0:
        return tuple((Element(e), float(q)) for q, group in ANION_STATES.items() for e in group)
    return tuple(
        (element, float(state))
        for element in ELEMENTS
        for state in sorted({*element.common_oxidation_states, *element.icsd_oxidation_states})
        if state > 0
    )


def replacements(old: Ion) -> list[tuple[float, Ion]]:
    """The ions that may take the place of `old`, with the logarithm of how readily; best first."""
    element, state = old
    pool = set(allowed_ions(1 if state > 0 else -1)) if state else {(e, 0.0) for e in ELEMENTS}
    pool |= {(e, state) for e in ELEMENTS if state < 0 and e.group == element.group} | {old}
    scored = [(round(log_similarity(old, new), 6), new) for new in pool]
    scored = [x for x in scored if x[0] > -math.inf]
    return sorted(scored, key=lambda x: (-x[0], x[1][0].Z, x[1][1]))


@functools.cache
def log_similarity(old: Ion, new: Ion) -> float:
    """Logarithm of how readily the ion `new` takes the place of `old`; -inf for never.

    The model of Hautier et al. where it knows both ions, else Pettifor's scale, on which only
    ions of equal charge are exchanged, and metals only for metals or within a group.
    """
    (old_element, old_state), (new_element, new_state) = old, new
    if old == new:
        return math.log(0.3)
    if old_state and old_state == round(old_state):
        old_species, new_species = (Species(e.symbol, q) for e, q in (old, new))
        model = _substitution_model()
        if old_species in model.species and new_species in model.species:
            return math.log(model.cond_prob(new_species, old_species))
    kinds = {e.symbol in NONMETALS for e in (old_element, new_element)}
    groups = abs(old_element.group - new_element.group)
    if old_state != new_state or (groups and len(kinds) > 1) or (groups > 1 and kinds == {True}):
        return -math.inf
    distance = abs(old_element.mendeleev_no - new_element.mendeleev_no) / PETTIFOR_SCALE
    size = log_radius(old, new) ** 2 / (2 * RADIUS_SIGMA**2)
    return math.log(0.1) - distance - size


@functools.cache
def _substitution_model() -> SubstitutionProbability:
    return SubstitutionProbability()


@functools.cache
def log_radius(old: Ion, new: Ion) -> float:
    """ln(r_new / r_old) of the ionic radii, or of the covalent ones where one is unknown."""
    radii = [ionic_radius(*ion) for ion in (old, new)]
    if None in radii:
        radii = [float(covalent_radii[e.Z]) for e, _ in (old, new)]
    return math.log(radii[1] / radii[0])


@functools.cache
def ionic_radius(element: Element, state: float) -> float | None:
    """Shannon's radius in Å, or None; of several coordinations pymatgen's choice."""
    if not state or state != round(state):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        radius = Species(element.symbol, state).ionic_radius
    return float(radius) if radius and radius > 0 else None
