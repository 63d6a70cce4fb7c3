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
from pymatgen.core import Structure

Request = tuple[Sequence[Structure], Sequence[int], Sequence[Structure]]
"""Samples of one formula in their order, places of those to be compared, reference crystals."""

Match = tuple[int | None, int | None]
"""Place of the first earlier sample, and of the first reference crystal, that a sample matches."""

_VERSION = 1
"""To be raised when `compare` says something else of the same crystals."""


def compare(request: Request) -> list[Match]:
    """Compare each of the samples at some places with the earlier samples and the reference.

    A structure is reduced once instead of once a pair, by the matcher's own reduction, repeated
    until the cell gets no smaller: once is not always enough, and a crystal must match its own
    primitive cell.
    """
    samples, places, reference = request
    matcher = StructureMatcher()
    sample = functools.cache(lambda i: _reduced(samples[i]))
    known = functools.cache(lambda i: _reduced(reference[i]))

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


def matcher_identity() -> str:
    """What the result of a comparison depends on besides the crystals."""
    settings = json.dumps(StructureMatcher().as_dict(), sort_keys=True, default=str)
    return f"{_VERSION} pymatgen {version('pymatgen')} {settings}"


def _reduced(structure: Structure) -> Structure:
    reduced = StructureMatcher._get_reduced_structure(structure, primitive_cell=True, niggli=True)
    return reduced if len(reduced) == len(structure) else _reduced(reduced)
