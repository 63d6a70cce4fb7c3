"""The points of the curve: which solver, and how often it asks the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from miad_jax.sampling import Control, Solver, make_solver

MODELS = {"MiAD": "mp20-small12", "DiffCSP": "mp20-small12-diffcsp"}
"""Weights of the package by the name of the method."""

RELAXED = [("predictor_corrector", 2000), ("ancestral", 100), ("ancestral", 50)]
"""Points whose first samples are relaxed."""


@dataclass(frozen=True)
class Point:
    """One solver with a number of steps.

    Attributes:
        name: "published" is Algorithm 2 from the last time on, without bounds of the cell;
            "predictor_corrector" the same with both; "ancestral" has churn 1 and coordinates
            ahead by 1.
        evaluations: Of the network, for one sample.
    """

    name: str
    evaluations: int

    @property
    def solver(self) -> Solver:
        """The solver, with its times."""
        if self.name == "ancestral":
            ahead: dict[str, Any] = {"churn": 1.0, "coords_ahead": 1.0}
            return make_solver("ancestral", steps=self.evaluations, **ahead)
        first = 999 if self.name == "published" else None
        steps = self.evaluations // 2
        return make_solver("predictor_corrector", steps=steps, first_time=first)

    @property
    def control(self) -> Control:
        """With or without bounds of the cell."""
        return Control(cell_bounds_angstrom=None) if self.name == "published" else Control()


POINTS = [
    *(Point("published", count) for count in (100, 500, 2000)),
    *(Point("predictor_corrector", count) for count in (24, 50, 100, 200, 500, 1000, 2000)),
    *(Point("ancestral", count) for count in (25, 50, 100, 200, 500, 979)),
]
"""The network has 979 times from the first that a solver chooses, and 1,000 in all."""
