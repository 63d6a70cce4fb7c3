"""What the stages of an evaluation work on, and what they have found so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miad_jax.evaluation.plan import Plan
from miad_jax.evaluation.reference import Reference
from miad_jax.evaluation.results import SAMPLE_COLUMNS, EvaluationResult
from miad_jax.evaluation.samples import SampleSet
from miad_jax.evaluation.stability.corrections import ElementalEnergies
from miad_jax.evaluation.stability.hull import Hull
from miad_jax.evaluation.tables import Table
from miad_jax.parallel.executor import Executor
from miad_jax.parallel.progress import Progress

if TYPE_CHECKING:
    from pymatgen.core import Structure

TITLES = (
    "Validity",
    "Uniqueness and novelty",
    "Sizes, elements, symmetry",
    "Coverage of the test split",
    "Distances to the test split",
    "Hull",
    "Stability",
    "S.U.N. by every definition",
    "Definitions of peers",
    "Stability by DFT",
)
"""Titles of the tables, in the order in which they are shown."""


@dataclass
class Work:
    """What the stages work on, and what they have found so far.

    Attributes:
        samples: The samples.
        reference: What they are measured against.
        plan: What is asked for.
        relaxations: Folder in which relaxations are kept.
        matches: File in which matches are kept; None keeps none.
        executor: Where work outside JAX runs.
        progress: Where to show how far it has come.
        settings: What the report says of this run.
        rows: A row for each sample.
        tables: Tables by title.
        relaxed: The relaxed samples.
        lost: Indices of samples over which a worker was lost.
        hull: The hull, when it is known.
        elemental: Elemental energies, for a hull of formation energies.
        facts: What the potential says of itself.
    """

    samples: SampleSet
    reference: Reference
    plan: Plan
    relaxations: Path
    matches: Path | None
    executor: Executor
    progress: Progress
    settings: dict[str, Any]
    rows: list[dict[str, Any]] = field(init=False)
    tables: dict[str, Table] = field(default_factory=dict)
    relaxed: list[Structure | None] = field(init=False)
    lost: set[int] = field(default_factory=set)
    hull: Hull | None = None
    elemental: ElementalEnergies | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with a row and no relaxed crystal for each sample."""
        self.rows = [dict.fromkeys(SAMPLE_COLUMNS) | row for row in self.samples.rows]
        self.relaxed = [None] * len(self.rows)

    @property
    def num_relaxed(self) -> int:
        """How many of the samples are to be relaxed."""
        limit = self.plan.num_relaxed
        return len(self.rows) if limit is None else min(limit, len(self.rows))

    @property
    def ids(self) -> list[str]:
        """Names of the samples."""
        return [str(row["id"]) for row in self.rows]

    def result(self, done: Sequence[str], to_come: Sequence[str]) -> EvaluationResult:
        """What is known after some stages."""
        return EvaluationResult(
            rows=[dict(row) for row in self.rows],
            tables={title: self.tables[title] for title in TITLES if title in self.tables},
            structures=self.samples.structures,
            relaxed=list(self.relaxed),
            reference_histogram=self.reference.histogram,
            settings=dict(self.settings),
            lost=[self.ids[i] for i in sorted(self.lost)],
            done=tuple(done),
            to_come=tuple(to_come),
        )
