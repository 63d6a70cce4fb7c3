"""Compare crystals of one reduced formula with each other and with known ones.

This module imports nothing of miad_jax, so that worker processes run it as a script and start
without JAX.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

Group = tuple[Sequence[int], Sequence[Structure], int, Sequence[int], Sequence[Structure]]
"""Indices of samples; the samples, of which those from a place on are to be compared; that place;
indices of reference crystals; those crystals."""

Compared = tuple[Sequence[int], list[int | None], list[int | None]]
"""Indices of compared samples; for each the first earlier sample, and the first reference, it
matches."""


def compare(group: Group) -> Compared:
    """Compare samples with the earlier samples and with the reference crystals.

    Structures are reduced once each instead of once a pair, by the matcher's own reduction,
    repeated until the cell gets no smaller: once is not always enough, and a crystal must match
    its own primitive cell.
    """
    indices, samples, start, reference_indices, reference = group
    matcher = StructureMatcher()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples, reference = ([_reduced(x) for x in found] for found in (samples, reference))

        def first(
            structure: Structure, others: Sequence[Structure], names: Sequence[int]
        ) -> int | None:
            for other, name in zip(others, names, strict=True):
                if matcher.fit(structure, other, skip_structure_reduction=True):
                    return name
            return None

        places = range(start, len(samples))
        duplicates = [first(samples[i], samples[:i], indices[:i]) for i in places]
        known = [first(samples[i], reference, reference_indices) for i in places]
    return indices[start:], duplicates, known


def _reduced(structure: Structure) -> Structure:
    reduced = StructureMatcher._get_reduced_structure(structure, primitive_cell=True, niggli=True)
    return reduced if len(reduced) == len(structure) else _reduced(reduced)
