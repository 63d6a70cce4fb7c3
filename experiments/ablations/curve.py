"""S.U.N. against the length of a training (Figure 3), from the checkpoints of one training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.ablations.crystals import BOTH
from experiments.ablations.studies import SUN
from experiments.claims.claim import Claim, markdown
from experiments.claims.numbers import MISSING, is_best, number_of
from experiments.mp20.table import lines

POINTS = 4
"""So many checkpoints of a training are sampled, at equal distances; the last is its end."""

KEPT = 3 * POINTS
"""So many checkpoints are kept; each interruption adds one."""


def earlier(folder: Path) -> list[tuple[Path, Path]]:
    """Checkpoints before the end of a training, and where their samples go.

    They are the nearest to equal parts of the training; none where it has too few.
    """
    found = (folder / "run" / "checkpoints").glob("[0-9]*")
    steps = {int(x.name): x for x in found if x.name.isdecimal()}
    if len(steps) < POINTS:
        return []
    distances = np.abs(np.arange(1, POINTS + 1) * max(steps) / POINTS - np.array([*steps])[:, None])
    nearest = [[*steps.values()][i] for i in distances.argmin(0)[:-1]]
    return [(x, folder / "curve" / x.name) for x in nearest]


def points(folder: Path) -> list[tuple[int, Path]]:
    """Steps whose samples were drawn, and where they are; the last is the end of the training."""
    logged = [x["step"] for x in lines(folder / "run" / "metrics.jsonl") if "step" in x]
    found = sorted((int(x.name), x) for x in (folder / "curve").glob("[0-9]*"))
    return [*found, (max(logged), folder)] if len(found) == POINTS - 1 else []


def reports(out: Path, name: str, seeds: range, point: int) -> list[Path]:
    """Reports of all seeds at a point of the curve, counted from 0."""
    found = []
    for folder in (out / name / str(seed) for seed in seeds):
        if places := points(folder):
            found.append(places[point][1] / "report")
    return found


def table(out: Path, seeds: range) -> str:
    """A row for every checkpoint."""
    numbers = ("unique and novel", "M.S.U.N.", SUN)
    head = ["epochs", *(f"{name}: {number}" for name in BOTH for number in numbers)]
    rows: list[list[object]] = [[*head]]
    for point in range(POINTS):
        found = [
            number_of(reports(out, name, seeds, point), number)
            for name in BOTH
            for number in numbers
        ]
        if any(found):
            rows.append([_epochs(out, seeds, point), *found])
    return markdown(rows) if len(rows) > 1 else MISSING


def _epochs(out: Path, seeds: range, point: int) -> str | None:
    """Passes over the training crystals up to a checkpoint of MiAD."""
    for folder in (out / BOTH[0] / str(seed) for seed in seeds):
        if places := points(folder):
            step = places[point][0]
            logged = [x for x in lines(folder / "run" / "metrics.jsonl") if "epoch" in x]
            return f"{step * logged[-1]['epoch'] / logged[-1]['step']:.1f}"
    return None


def claim_of(out: Path, seeds: range, command: str) -> Claim:
    """Whether a longer training gives MiAD more."""
    first, last = (number_of(reports(out, BOTH[0], seeds, point), SUN) for point in (0, POINTS - 1))
    measured = MISSING
    if first is not None and last is not None:
        measured = f"{SUN}: {first} after a quarter of the steps, {last} at the end"
    holds = is_best(last, [first])
    return Claim("Figure 3", f"A longer training gives more {SUN}", measured, holds, command)
