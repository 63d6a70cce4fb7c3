"""The table of the comparison, from the files that its trainings left."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experiments.claims.numbers import number_of

LOSSES = ("lattice", "coords", "cross_entropy")
NUMBERS = {
    "valid structure": "valid",
    "valid composition": "compositions",
    "plausible structure": "plausible",
    "symmetry above P1 at 0.1 Å": "above P1",
    "elements a crystal": "elements",
    "atoms per cell": "atoms",
}
"""Numbers of a report, and what heads their column."""


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; none where there is no log."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def markdown(out: Path, names: Iterable[str]) -> str:
    """A row for every one of these that was timed or trained; numbers where it has ended."""
    head = ["", "ms a step", "steps", *LOSSES, *NUMBERS.values()]
    rows = [head, ["---"] * len(head)]
    for name in names:
        step = out / name / "step.json"
        logged = lines(out / name / "run" / "metrics.jsonl")
        if not step.exists() and not logged:
            continue
        milliseconds = "–"
        if step.exists():
            milliseconds = f"{1000 * json.loads(step.read_text())['seconds']:.0f}"
        ended = [line for line in logged if "validation_loss" in line]
        if not ended:
            rows.append([name, milliseconds, *["–"] * (len(head) - 2)])
            continue
        losses = [f"{ended[-1][f'validation_{loss}']:.3f}" for loss in LOSSES]
        judged = [number_of([out / name / "report"], number) for number in NUMBERS]
        shown = ["–" if number is None else str(number) for number in judged]
        rows.append([name, milliseconds, str(ended[-1]["step"]), *losses, *shown])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
