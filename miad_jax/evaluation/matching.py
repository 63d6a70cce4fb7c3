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
from miad_jax.data.workers import Lost, answers, usable_cores
from miad_jax.evaluation.reference import compositions

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from miad_jax.evaluation.comparing import Compared, Group

FEW_GROUPS = 32
"""Below it this process compares alone: workers take a second to start."""


@dataclass(frozen=True)
class Matches:
    """Whom each sample matches.

    Attributes:
        duplicate_of: Index of the first earlier sample that it matches; None if there is none.
        known_as: Index of the first reference crystal that it matches; None if there is none.
        judged: False for samples that are no crystal; they match nothing.
    """

    duplicate_of: Sequence[int | None]
    known_as: Sequence[int | None]
    judged: Sequence[bool]


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
    present = {i: structure for i, structure in enumerate(structures) if structure is not None}
    for i, structure in present.items():
        groups[structure.composition.reduced_formula].append(i)
    known = {} if reference is None else _by_formula(reference, set(groups))

    duplicate_of: list[int | None] = [None] * len(structures)
    known_as: list[int | None] = [None] * len(structures)
    tasks: list[Group] = [
        (indices, [present[i] for i in indices], *known.get(formula, ([], [])))
        for formula, indices in groups.items()
    ]
    # A sample alone in its formula has nothing to be compared with.
    tasks = [task for task in tasks if len(task[0]) > 1 or task[2]]
    tasks.sort(key=lambda task: -len(task[0]) * (len(task[0]) + len(task[2])))
    bar = tqdm(total=len(tasks), unit="formula", desc="matching", disable=not progress)
    for indices, duplicates, matches in _compared(tasks, num_workers):
        for i, duplicate, found in zip(indices, duplicates, matches, strict=True):
            duplicate_of[i], known_as[i] = duplicate, found
        bar.update()
    bar.close()
    return Matches(duplicate_of, known_as, [structure is not None for structure in structures])


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


def _compared(tasks: Sequence[Group], num_workers: int | None) -> Iterator[Compared]:
    """The results of all groups, in any order."""
    from miad_jax.evaluation import comparing

    if num_workers is None:
        num_workers = usable_cores()
    if num_workers < 2 or len(tasks) < FEW_GROUPS:
        yield from map(comparing.compare, tasks)
        return
    found = answers(comparing.__file__, "compare", tasks, num_workers=num_workers)
    for index, answer in found:
        if isinstance(answer, Lost):
            formula = tasks[index][1][0].composition.reduced_formula
            raise RuntimeError(f"the crystals of {formula} could not be compared: {answer.reason}")
        yield answer
