"""Which crystals are the same: duplicates among samples, and samples that are known already.

Two crystals are the same if pymatgen's StructureMatcher, with its defaults, fits them. Only
crystals of one reduced formula are compared, each is reduced to its primitive cell once, and
the work is shared among processes by formula.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from miad_jax.crystal import Crystal
from miad_jax.data import to_structures
from miad_jax.evaluation.reference import compositions
from miad_jax.parallel.pool import Lost, answers, usable_cores

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from miad_jax.evaluation.novelty.comparison import Compared, Group

FEW_TASKS = 32
"""Below it this process compares alone: workers take a second to start."""

PAIRS_PER_TASK = 5000
"""Large groups, such as all the crystals of one element, are shared among workers."""

SECONDS_PER_TASK = 900.0
"""A worker that takes longer is ended, and its samples are not compared."""

MIN_HEIGHT_ANGSTROM = 0.1
"""Thinner cells are not compared: the matcher would look at millions of their neighbours."""


@dataclass(frozen=True)
class Matches:
    """Whom each sample matches.

    Attributes:
        duplicate_of: Index of the first earlier sample that it matches; None if there is none.
        known_as: Index of the first reference crystal that it matches; None if there is none.
        judged: False for samples that are no crystal or could not be compared; they match nothing.
        reasons: Why a crystal could not be compared; empty for the others.
        lost: Whether that is because of a worker that was lost.
    """

    duplicate_of: Sequence[int | None]
    known_as: Sequence[int | None]
    judged: Sequence[bool]
    reasons: Sequence[str]
    lost: Sequence[bool]


def match(
    structures: Sequence[Structure | None],
    reference: Crystal | None = None,
    *,
    num_workers: int | None = None,
    progress: bool = False,
) -> Matches:
    """Compare every sample with the earlier samples and with the reference crystals.

    A sample is a duplicate if it matches any earlier sample, be that a duplicate itself or not:
    matching is not transitive, so the order of the samples is part of the result.

    Args:
        structures: The samples, None where there is no crystal.
        reference: Packed crystals that count as known; None compares samples only.
        num_workers: Worker processes; one for each usable core when None.
        progress: Whether to show a progress bar on standard error.
    """
    from tqdm import tqdm

    groups: dict[str, list[int]] = defaultdict(list)
    reasons = ["" if x is None else _why_not(x) for x in structures]
    lost = [False] * len(structures)
    present = {i: x for i, x in enumerate(structures) if x is not None and not reasons[i]}
    for i, structure in present.items():
        groups[structure.composition.reduced_formula].append(i)
    known = {} if reference is None else _by_formula(reference, set(groups))

    duplicate_of: list[int | None] = [None] * len(structures)
    known_as: list[int | None] = [None] * len(structures)
    tasks = [
        task
        for formula, indices in groups.items()
        for task in _tasks(indices, [present[i] for i in indices], *known.get(formula, ([], [])))
    ]
    tasks.sort(key=lambda task: -(len(task[0]) - task[2]) * (len(task[0]) + len(task[3])))
    bar = tqdm(total=len(tasks), unit="group", desc="matching", disable=not progress)
    for task, answer in _compared(tasks, num_workers):
        if isinstance(answer, Lost):
            for i in task[0][task[2] :]:
                reasons[i], lost[i] = f"the comparison was lost: {answer.reason}", True
        else:
            for i, duplicate, found in zip(*answer, strict=True):
                duplicate_of[i], known_as[i] = duplicate, found
        bar.update()
    bar.close()
    judged = [i in present and not reasons[i] for i in range(len(structures))]
    return Matches(duplicate_of, known_as, judged, reasons, lost)


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


def _tasks(
    indices: list[int],
    samples: list[Structure],
    reference_indices: list[int],
    reference: list[Structure],
) -> list[Group]:
    """The comparisons of one formula, in pieces; none for a sample that stands alone."""
    if len(indices) == 1 and not reference:
        return []
    step = max(PAIRS_PER_TASK // (len(indices) + len(reference)), 1)
    return [
        (indices[: i + step], samples[: i + step], i, reference_indices, reference)
        for i in range(0, len(indices), step)
    ]


def _by_formula(
    reference: Crystal, formulas: set[str]
) -> dict[str, tuple[list[int], list[Structure]]]:
    """The reference crystals of the given reduced formulas."""
    wanted: dict[str, list[int]] = defaultdict(list)
    for i, composition in enumerate(compositions(reference)):
        if composition.reduced_formula in formulas:
            wanted[composition.reduced_formula].append(i)
    return {
        formula: (indices, to_structures(reference[np.array(indices)]))
        for formula, indices in wanted.items()
    }


def _compared(
    tasks: Sequence[Group], num_workers: int | None
) -> Iterator[tuple[Group, Compared | Lost]]:
    """The tasks and their results, in any order."""
    from miad_jax.evaluation.novelty import comparison as comparing

    if num_workers is None:
        num_workers = usable_cores()
    if num_workers < 2 or len(tasks) < FEW_TASKS:
        yield from ((task, comparing.compare(task)) for task in tasks)
        return
    found = answers(
        comparing.__file__, "compare", tasks, num_workers=num_workers, seconds=SECONDS_PER_TASK
    )
    yield from ((tasks[index], answer) for index, answer in found)
