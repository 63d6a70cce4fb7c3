"""Which earlier sample and which reference crystal a sample matches.

Two crystals are the same if pymatgen's StructureMatcher, with its defaults, fits them. Only
crystals of one reduced formula are compared, each is reduced to its primitive cell once, and
workers share the formulas.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int, UInt8

from miad_jax.crystal import Crystal
from miad_jax.data import to_structures
from miad_jax.evaluation.novelty.kept import KeptMatches, keys_of
from miad_jax.evaluation.reference import compositions
from miad_jax.parallel.executor import Executor, Serial, WorkerFailure
from miad_jax.parallel.pool import Pool
from miad_jax.parallel.progress import Progress, as_progress

if TYPE_CHECKING:
    from pymatgen.core import Structure

FEW_TASKS = 32
"""Below it this process compares alone: local workers take a second to start."""

PAIRS_PER_TASK = 5000
"""Large groups, such as all the crystals of one element, are shared among workers."""

SECONDS_PER_TASK = 900.0
"""A worker that takes longer is ended, and its samples are not compared."""

NUM_ELEMENTS = 120
"""Atomic numbers stay below it."""

MIN_HEIGHT_ANGSTROM = 0.1
"""Thinner cells are not compared: the matcher would look at millions of their neighbours."""


@dataclass(frozen=True)
class Matches:
    """Whom each sample matches.

    Attributes:
        duplicate_of: Index of the first earlier sample that it matches; None if there is none.
        known_as: Index of the first reference crystal that it matches; None if there is none.
        compared: False for samples that are no crystal or could not be compared; they match
            nothing.
        reasons: Why a crystal could not be compared; empty for the others.
        lost: Whether that is because of a worker that was lost.
    """

    duplicate_of: Sequence[int | None]
    known_as: Sequence[int | None]
    compared: Sequence[bool]
    reasons: Sequence[str]
    lost: Sequence[bool]


@dataclass(frozen=True)
class _Group:
    """The samples of one formula, and the reference crystals of that formula."""

    indices: Sequence[int]
    samples: Sequence[Structure]
    known_indices: Sequence[int]
    known: Sequence[Structure]
    keys: Sequence[str]


def match(
    structures: Sequence[Structure | None],
    reference: Crystal | None = None,
    *,
    as_disordered: bool = False,
    executor: Executor | None = None,
    kept: str | os.PathLike[str] | None = None,
    progress: Progress | bool = False,
) -> Matches:
    """Compare every sample with the earlier samples and with the reference crystals.

    A sample is a duplicate if it matches any earlier sample, be that a duplicate itself or not:
    matching is not transitive, so the order of the samples is part of the result.

    Args:
        structures: The samples, None where there is no crystal.
        reference: Packed crystals that count as known; None compares samples only.
        as_disordered: Whether orderings of one disordered crystal are the same crystal; see
            `comparison.disordered`.
        executor: Where crystals are compared, unless they are so few that this process does it;
            local worker processes, one for each usable core, when None.
        kept: File in which matches are kept as they come, and from which those that were found
            before are taken; None keeps none.
        progress: Where to show how far it has come.

    Raises:
        ValueError: If the file holds no matches.
    """
    reasons = ["" if x is None else _why_not(x) for x in structures]
    lost = [False] * len(structures)
    present = {i: x for i, x in enumerate(structures) if x is not None and not reasons[i]}
    groups = _groups(present, reference, as_disordered)
    matches = KeptMatches(kept)
    tasks = [(group, places) for group in groups for places in _pieces(group, matches)]
    tasks.sort(key=lambda task: -len(task[1]) * (len(task[0].samples) + len(task[0].known)))
    if len(tasks) < FEW_TASKS:
        executor = Serial()
    elif executor is None:
        executor = Pool()
    from miad_jax.evaluation.novelty.comparison import compare, compare_disordered

    requests = [(g.samples[: places[-1] + 1], places, g.known) for g, places in tasks]
    function = compare_disordered if as_disordered else compare
    found = executor.map(function, requests, seconds=SECONDS_PER_TASK)
    try:
        with (
            closing(found),
            as_progress(progress).bar("matching", len(tasks), unit="group") as bar,
        ):
            for index, result in found:
                group, places = tasks[index]
                if isinstance(result, WorkerFailure):
                    for place in places:
                        i = group.indices[place]
                        reasons[i], lost[i] = f"the comparison was lost: {result.reason}", True
                else:
                    for place, pair in zip(places, result, strict=True):
                        matches.add(group.keys[place], pair)
                bar.advance()
    finally:
        matches.write()

    duplicate_of: list[int | None] = [None] * len(structures)
    known_as: list[int | None] = [None] * len(structures)
    for group in groups:
        for i, key in zip(group.indices, group.keys, strict=True):
            duplicate, known = matches.get(key) or (None, None)
            duplicate_of[i] = None if duplicate is None else group.indices[duplicate]
            known_as[i] = None if known is None else group.known_indices[known]
    compared = [i in present and not reasons[i] for i in range(len(structures))]
    return Matches(duplicate_of, known_as, compared, reasons, lost)


def _why_not(structure: Structure) -> str:
    """Why a crystal cannot be compared, or an empty string."""
    lattice = structure.lattice.matrix
    areas = np.linalg.norm(np.cross(lattice[[1, 2, 0]], lattice[[2, 0, 1]]), axis=1)
    height = abs(np.linalg.det(lattice)) / areas.max()
    if height >= MIN_HEIGHT_ANGSTROM:
        return ""
    return (
        f"the cell is {height:.2g} Å thin; compared are cells of {MIN_HEIGHT_ANGSTROM:g} Å or more"
    )


def _groups(
    present: dict[int, Structure], reference: Crystal | None, as_disordered: bool
) -> list[_Group]:
    """The samples by reduced formula; without those that have nothing to be compared with."""
    from miad_jax.evaluation.novelty.comparison import matcher_identity

    indices: dict[str, list[int]] = defaultdict(list)
    for i, structure in present.items():
        indices[structure.composition.reduced_formula].append(i)
    known = {} if reference is None else _by_formula(reference, set(indices))
    identity, groups = matcher_identity() + " as disordered" * as_disordered, []
    for formula, those in indices.items():
        samples = [present[i] for i in those]
        known_indices, crystals = known.get(formula, ([], []))
        if len(samples) > 1 or crystals:
            keys = list(keys_of(samples, crystals, identity))
            groups.append(_Group(those, samples, known_indices, crystals, keys))
    return groups


def _pieces(group: _Group, matches: KeptMatches) -> list[list[int]]:
    """The places of a group that are still to be compared, in pieces."""
    places = [i for i, key in enumerate(group.keys) if matches.get(key) is None]
    step = max(PAIRS_PER_TASK // (len(group.samples) + len(group.known)), 1)
    return [places[i : i + step] for i in range(0, len(places), step)]


def _by_formula(
    reference: Crystal, formulas: set[str]
) -> dict[str, tuple[list[int], list[Structure]]]:
    """The reference crystals of the given reduced formulas.

    Formulas are made of those crystals alone that have the elements of one: they take a while.
    """
    from pymatgen.core import Composition

    elements = _elements(np.asarray(reference.atom_types), np.asarray(reference.mask))
    asked = {_bits([x.Z for x in Composition(formula).elements]) for formula in formulas}
    candidates = np.array([i for i, x in enumerate(elements) if x.tobytes() in asked], int)
    wanted: dict[str, list[int]] = defaultdict(list)
    for i, composition in zip(candidates, compositions(reference[candidates]), strict=True):
        if composition.reduced_formula in formulas:
            wanted[composition.reduced_formula].append(int(i))
    return {
        formula: (indices, to_structures(reference[np.array(indices)]))
        for formula, indices in wanted.items()
    }


def _elements(
    atom_types: Int[np.ndarray, "n atoms"], mask: Bool[np.ndarray, "n atoms"]
) -> UInt8[np.ndarray, "n bytes"]:
    """A bit for each element: whether a crystal has it."""
    present = np.zeros((len(mask), NUM_ELEMENTS), bool)
    rows, slots = np.nonzero(mask)
    present[rows, atom_types[rows, slots]] = True
    return np.packbits(present, axis=1)


def _bits(atomic_numbers: Sequence[int]) -> bytes:
    """The bits of these elements."""
    numbers = np.array([atomic_numbers])
    return _elements(numbers, np.ones(numbers.shape, bool)).tobytes()
