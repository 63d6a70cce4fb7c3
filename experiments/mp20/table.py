"""The table of the comparison, from the files that its trainings left."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LOSSES = ("lattice", "coords", "cross_entropy")
SHARES = {
    "valid_structure": "valid",
    "valid_composition": "compositions",
    "plausible": "plausible",
}


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; none where there is no log."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def markdown(out: Path, names: Iterable[str]) -> str:
    """A row for every one of these whose step has been timed; numbers where it has ended."""
    head = ["", "ms a step", "steps", *LOSSES, *SHARES.values(), "above P1", "elements", "atoms"]
    rows = [head, ["---"] * len(head)]
    for name in names:
        logged = lines(out / name / "run" / "metrics.jsonl")
        ended = [line for line in logged if "validation_loss" in line]
        step = out / name / "step.json"
        if not step.exists():
            continue
        milliseconds = f"{1000 * json.loads(step.read_text())['seconds']:.0f}"
        if not ended:
            rows.append([name, milliseconds, *["–"] * (len(head) - 2)])
            continue
        losses = [f"{ended[-1][f'validation_{loss}']:.3f}" for loss in LOSSES]
        judged = crystals(out / name / "report" / "crystals.csv")
        rows.append([name, milliseconds, str(ended[-1]["step"]), *losses, *judged])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def crystals(path: Path) -> list[str]:
    """What the samples are like."""
    import pandas as pd

    if not path.exists():
        return ["–"] * (len(SHARES) + 3)
    table = pd.read_csv(path)
    shares = [table[name].fillna(False).astype(bool).mean() for name in SHARES]
    above = (table["spacegroup_number_0.1"] > 1).sum() / len(table)
    elements = table["chemical_system"].str.count("-") + 1
    means = [elements.mean(), table["num_atoms"].mean()]
    return [f"{100 * x:.1f} %" for x in [*shares, above]] + [f"{x:.2f}" for x in means]
