"""What is asked of the weights: each part is a list of questions, each for some samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from pymatgen.core import Structure

from miad_jax import from_structures, load_dataset, to_structures
from miad_jax.crystal import Crystal
from miad_jax.request import Request

SYSTEMS = 10
RANGES = ("6", "12", "4..8", "8..12")
REMOVED = (1, 2, 4)
NUMBERS_OF_ELEMENTS = (2, 3, 4)
DENSITIES = (3.0, 5.0, 8.0, 12.0)
SPACE_GROUPS = (225, 221, 194, 139, 123, 166, 62, 12)
WEIGHTS_OF_GUIDANCE = (1.0, 2.0, 4.0)
UNASKED = 1000
"""Samples of which those are counted that happen to be what could have been asked."""

ANYTHING = Request()
STRENGTHS = (0.1, 0.3, 0.5, 0.7)
VARIED = 8
"""Crystals of which variations are made."""


@dataclass(frozen=True)
class Question:
    """Samples that are asked for.

    Attributes:
        label: Names the file of its samples.
        num: How many there are.
        request: What each is to be.
        guidance: Weight of the properties.
        parts: Crystals to complete, one a sample.
        keeps_cell: Whether their cells are kept.
        seed: Of the samples.
    """

    label: str
    num: int
    request: Request = ANYTHING
    guidance: float = 1.0
    parts: Crystal | None = None
    keeps_cell: bool = False
    seed: int = 0


def elements(reference: str, num: int) -> Iterator[Question]:
    """Chemical systems of three or four elements that crystals of the test split have."""
    for system in systems(reference):
        yield Question(system, num, Request.of(chemical_system=system))


def neutral(reference: str, num: int) -> Iterator[Question]:
    """The same systems, in compositions that can be neutral; without those of metals alone."""
    for system in systems(reference):
        try:
            request = Request.of(chemical_system=system, neutral=True)
        except ValueError:
            continue
        yield Question(system, num, request)


def rejection(reference: str, num: int) -> Iterator[Question]:
    """What nobody need ask who draws long enough, and many samples of nothing."""
    yield Question("nothing", UNASKED)
    yield Question("an oxide", num, Request.of(contain=["O"]))
    yield Question("no lanthanide", num, Request.of(without=["lanthanides"]))
    yield Question("12 atoms", num, Request.of(num_atoms="12"))
    yield Question("of Li, Fe, P, O", num, Request.of(elements=["Li", "Fe", "P", "O"]))
    yield from elements(reference, num)


def numbers(reference: str, num: int) -> Iterator[Question]:
    """Numbers of atoms, exact and in a range."""
    for text in RANGES:
        yield Question(text, num, Request.of(num_atoms=text))


def completion(reference: str, num: int) -> Iterator[Question]:
    """Test crystals of which some atoms were taken away; how many is not said."""
    whole = crystals_to_complete(reference, num)
    for removed in REMOVED:
        parts = from_structures([without(x, removed, i) for i, x in enumerate(whole)])
        for keeps_cell in (True, False):
            label = f"{removed}-{'cell' if keeps_cell else 'free'}"
            yield Question(label, len(whole), parts=parts, keeps_cell=keeps_cell)


def properties(reference: str, num: int) -> Iterator[Question]:
    """Numbers of elements, densities and space groups, with more and more guidance."""
    for weight in WEIGHTS_OF_GUIDANCE:
        for name, values in (
            ("num_elements", NUMBERS_OF_ELEMENTS),
            ("density", DENSITIES),
            ("spacegroup_number", SPACE_GROUPS),
        ):
            for value in values:
                request = Request.of(properties={name: value})
                yield Question(f"{name}-{value:g}-{weight:g}", num, request, weight)


def stability(reference: str, num: int) -> Iterator[Question]:
    """Nothing, and energies above the hull of 0 with more and more guidance."""
    yield Question("nothing", num)
    for weight in WEIGHTS_OF_GUIDANCE:
        request = Request.of(properties={"e_above_hull": 0.0})
        yield Question(f"e_above_hull-0-{weight:g}", num, request, weight)


def variations(reference: str, num: int) -> Iterator[Question]:
    """Variations of test crystals."""
    for i, crystal in enumerate(crystals_to_vary(reference)):
        for strength in STRENGTHS:
            request = Request.of(like=crystal, strength=strength)
            yield Question(f"{i}-{strength:g}", max(num // VARIED, 1), request)


PARTS: dict[str, Callable[[str, int], Iterator[Question]]] = {
    "elements": elements,
    "neutral": neutral,
    "rejection": rejection,
    "numbers": numbers,
    "completion": completion,
    "properties": properties,
    "stability": stability,
    "variations": variations,
}
"""By name: of the data set and a number of samples, questions."""


def systems(reference: str) -> list[str]:
    """Chemical systems of three or four elements in the test split, drawn once."""
    found = {}
    for structure in test_crystals(reference):
        symbols = sorted(structure.composition.get_el_amt_dict())
        if len(symbols) in (3, 4):
            found["-".join(symbols)] = None
    chosen = np.random.default_rng(0).permutation(sorted(found))[:SYSTEMS]
    return sorted(map(str, chosen))


def crystals_to_complete(reference: str, num: int) -> list[Structure]:
    """Test crystals of 6 to 12 atoms."""
    return _drawn([x for x in test_crystals(reference) if 6 <= len(x) <= 12], num, 1)


def crystals_to_predict(reference: str, num: int) -> list[Structure]:
    """Test crystals of any size."""
    return _drawn(test_crystals(reference), num, 2)


def crystals_to_vary(reference: str) -> list[Structure]:
    """Test crystals of 4 to 12 atoms."""
    return _drawn([x for x in test_crystals(reference) if 4 <= len(x) <= 12], VARIED, 3)


def without(crystal: Structure, num: int, seed: int) -> Structure:
    """A crystal without some of its atoms, in its own cell."""
    gone = np.random.default_rng(seed).permutation(len(crystal))[:num]
    part = crystal.copy()
    part.remove_sites(sorted(gone.tolist()))
    return part


@cache
def test_crystals(reference: str) -> list[Structure]:
    """The test split."""
    return to_structures(list(load_dataset(reference, "test", progress=True)[0]))


def _drawn(structures: list[Structure], num: int, seed: int) -> list[Structure]:
    chosen = np.random.default_rng(seed).permutation(len(structures))[:num]
    return [structures[i] for i in chosen]
