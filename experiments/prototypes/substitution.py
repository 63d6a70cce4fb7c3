"""Which ions and elements take each other's place in a crystal, and how readily.

Ions that the data-mined model of Hautier et al. knows (doi:10.1021/ic102031h) have its
conditional probabilities. Everything else is compared on Pettifor's chemical scale: metals,
uncharged, with metals; nonmetals with their own or the next group; ions with those of their
own charge.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence

import numpy as np
from ase.data import covalent_radii
from pymatgen.analysis.structure_prediction.substitution_probability import SubstitutionProbability
from pymatgen.core import Composition, Element, Species

from experiments.prototypes.library import ANION_STATES, Ion, Prototype

EXCLUDED = frozenset("He Ne Ar Kr Xe Rn Po At Fr Ra Ac Pm Pa".split())
"""Never put in (a prototype made of them stays): noble gases, the intensely radioactive."""
ELEMENTS = tuple(e for e in map(Element.from_Z, range(1, 93)) if e.symbol not in EXCLUDED)
NONMETALS = frozenset("H B C N O F Si P S Cl Ge As Se Br Te I".split())
GASES = frozenset("H N O F Cl".split())
"""Never put in as the only element: their solids are molecular."""
MAX_CANDIDATES = {1: 90, 2: 60, 3: 40, 4: 24}
"""Most replacements tried for each element, by the number of elements."""
MAX_RANKED = 400
"""Formulas ranked for a prototype, before those are taken out that make no sound crystal."""
MIN_LOG_SCORE = -10.0
PETTIFOR_SCALE = 5.0
"""Steps on Pettifor's scale over which similarity falls by e."""
RADIUS_SIGMA = 0.2
"""Width of the penalty on ln(r_new / r_old), where the data-mined model does not apply."""
RADIUS_RATIO_SIGMA = 0.15
"""Width of the penalty on the spread of ln(r_new / r_old) over the ions of a crystal."""


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


@functools.cache
def candidates(prototype: Prototype) -> dict[str, tuple[float, tuple[Ion, ...]]]:
    """Score every substitution.

    Returns:
        For each reduced formula the best score and the new ions in the order of
        `prototype.elements`, uncharged where charges are unknown; the best first.
    """
    old_ions = prototype.ions
    options = [replacements(old)[: MAX_CANDIDATES[len(old_ions)]] for old in old_ions]
    counts = np.bincount(prototype.sites)
    stretch = [
        np.array([log_radius(old, new) for _, new in x])
        for old, x in zip(old_ions, options, strict=True)
    ]
    score = _outer_sum([np.array([s for s, _ in x]) for x in options])
    charge = _outer_sum(
        [n * np.array([q for _, (_, q) in x]) for n, x in zip(counts, options, strict=True)]
    )
    spread = _outer_sum([s**2 for s in stretch]) - _outer_sum(stretch) ** 2 / len(stretch)
    score = score - spread / (2 * RADIUS_RATIO_SIGMA**2)
    keep = (score > MIN_LOG_SCORE) & (charge == 0)
    indices = np.argwhere(keep)
    order = np.argsort(-np.round(score[keep], 6), kind="stable")

    best: dict[str, tuple[float, tuple[Ion, ...]]] = {}
    for index in indices[order]:
        new_ions = tuple(x[i][1] for x, i in zip(options, index, strict=True))
        if _plausible(old_ions, new_ions) and _can_be_neutral(prototype, new_ions):
            counted = {e: int(n) for (e, _), n in zip(new_ions, counts, strict=True)}
            formula = Composition(counted).reduced_formula
            best.setdefault(formula, (round(float(score[tuple(index)]), 6), new_ions))
        if len(best) == MAX_RANKED:
            break
    return best


def _outer_sum(terms: Sequence[np.ndarray]) -> np.ndarray:
    """Sum of one value of each term, for all combinations."""
    return functools.reduce(np.add.outer, terms)


def _plausible(old: Sequence[Ion], new: Sequence[Ion]) -> bool:
    """Rule out what no score sees: an element twice, a solid gas, a nonmetal as a metal's ion."""
    symbols = [e.symbol for e, _ in new]
    if len(set(symbols)) < len(symbols) or (len(symbols) == 1 and symbols[0] in GASES):
        return [e for e, _ in old] == [e for e, _ in new]
    weakest_anion = min((e.X for e, q in new if q < 0), default=math.inf)
    return all(
        weakest_anion - element.X > 0.35 and (element.X < 2.25 or replaced.symbol in NONMETALS)
        for (replaced, _), (element, state) in zip(old, new, strict=True)
        if state > 0 and element.symbol in NONMETALS and element.group != replaced.group
    )


def _can_be_neutral(prototype: Prototype, new: Sequence[Ion]) -> bool:
    """Whether charges can cancel in place of mixed valences, which `ions` leaves uncharged."""
    if not prototype.mean_states or any(state for _, state in new):
        return True
    low = high = 0.0
    for old, state, (element, _), count in zip(
        prototype.elements, prototype.mean_states, new, np.bincount(prototype.sites), strict=True
    ):
        states = [q for e, q in allowed_ions(1 if state > 0 else -1) if e == element]
        states += [state] if element.group == old.group and state < 0 else []
        if not states:
            return False
        low, high = low + count * min(states), high + count * max(states)
    return low <= 0 <= high
