"""Compare crystals of one reduced formula with each other and with known ones.

This module imports nothing of miad_jax, because worker processes run it without the package and
start without JAX.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Element, Structure

Request = tuple[Sequence[Structure], Sequence[int], Sequence[Structure]]
"""Samples of one formula in their order, places of those to be compared, reference crystals."""

Match = tuple[int | None, int | None]
"""Place of the first earlier sample, and of the first reference crystal, that a sample matches."""

MAX_RADIUS_DIFFERENCE, MAX_X_DIFFERENCE = 0.3, 1.0
"""Of elements that substitute each other: relative difference of the radii, and that of Pauling's
electronegativities."""

_VERSION = 2
"""To be raised when `compare` says something else of the same crystals."""


def compare(request: Request) -> list[Match]:
    """Compare each of the samples at some places with the earlier samples and the reference.

    A structure is reduced once instead of once a pair: to the primitive cell of the cell that it
    came in, as data sets are packed, and then by the matcher's own reduction, repeated until the
    cell gets no smaller. The tolerance of that reduction depends on the cell, so that without the
    first a crystal may not match its own primitive cell.
    """
    samples, places, reference = request
    matcher = StructureMatcher()
    sample = functools.cache(lambda i: _reduced(samples[i].get_primitive_structure()))
    known = functools.cache(lambda i: _reduced(reference[i].get_primitive_structure()))

    def first(place: int, other: Callable[[int], Structure], others: Iterable[int]) -> int | None:
        for i in others:
            if matcher.fit(sample(place), other(i), skip_structure_reduction=True):
                return i
        return None

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            (first(i, sample, range(i)), first(i, known, range(len(reference)))) for i in places
        ]


def compare_disordered(request: Request) -> list[Match]:
    """As `compare`, of the crystals as `disordered` makes them."""
    samples, places, reference = request
    return compare(([*map(disordered, samples)], places, [*map(disordered, reference)]))


def disordered(structure: Structure) -> Structure:
    """The crystal with one element in place of all that substitute each other in it.

    Two crystals of one formula that are the same in this form are orderings of one disordered
    crystal. Elements substitute each other by the modified Hume-Rothery rule of MatterGen
    (arXiv:2312.03687, with the limits of its code): radii differ by at most 30 % of their mean,
    electronegativities by at most 1; so do two elements that both substitute a third.

    Differs from MatterGen's code, which spreads the elements over the sites of one crystal as
    fractions and asks whether the other is a subset of it; here both are treated alike.
    """
    groups: list[set[Element]] = []
    elements = [Element(x.symbol) for x in structure.species]
    for element in set(elements):
        joined = [group for group in groups if any(_substitute(element, x) for x in group)]
        groups = [group for group in groups if group not in joined]
        groups.append({element}.union(*joined))
    first = {x: min(group, key=lambda element: element.Z) for group in groups for x in group}
    return Structure(structure.lattice, [first[x] for x in elements], structure.frac_coords)


def _substitute(one: Element, other: Element) -> bool:
    """Whether two elements substitute each other; those of unknown radius do not."""
    if one.atomic_radius is None or other.atomic_radius is None:
        return False
    radii = float(one.atomic_radius), float(other.atomic_radius)
    difference = abs(radii[0] - radii[1]) / (sum(radii) / 2)
    return difference <= MAX_RADIUS_DIFFERENCE and abs(one.X - other.X) <= MAX_X_DIFFERENCE


def matcher_identity() -> str:
    """What the result of a comparison depends on besides the crystals."""
    settings = json.dumps(StructureMatcher().as_dict(), sort_keys=True, default=str)
    return f"{_VERSION} pymatgen {version('pymatgen')} {settings}"


def _reduced(structure: Structure) -> Structure:
    reduced = StructureMatcher._get_reduced_structure(structure, primitive_cell=True, niggli=True)
    return reduced if len(reduced) == len(structure) else _reduced(reduced)
