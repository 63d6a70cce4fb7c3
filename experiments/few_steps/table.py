"""The numbers of all points as one table, and as a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COLUMNS = {
    "valid structure": "valid structure",
    "plausible structure": "plausible",
    "valid composition": "valid composition",
    "unique and novel": "unique and novel",
    "elements a crystal": "elements",
    "atoms per cell": "atoms",
    "symmetry above P1 at 0.1 Å": "above P1 at 0.1 Å",
    "symmetry above P1 at 0.01 Å": "at 0.01 Å",
    "COV-R": "COV-R",
    "COV-P": "COV-P",
    "density distance": "density distance",
    "M.S.U.N.": "M.S.U.N.",
}
"""Numbers of a report, and what heads their column."""

SOLVERS = {
    "published": "published",
    "predictor_corrector": "predictor–corrector",
    "ancestral": "ancestral",
}


def read(reports: Path) -> list[dict[str, Any]]:
    """The numbers of every report in a folder, with method, solver and evaluations.

    Args:
        reports: Folder of the reports, each named METHOD.SOLVER.EVALUATIONS.
    """
    found = []
    for path in reports.glob("*/report.json"):
        method, solver, evaluations = path.parent.name.split(".")
        report = json.loads(path.read_text(encoding="utf-8"))
        entries = [entry for group in report["tables"] for entry in group["entries"]]
        numbers = {
            entry["name"]: {
                "value": entry["value"],
                "interval_95": entry["interval_95"],
                "is_share": entry["unit"] == "share",
            }
            for entry in entries
            if entry["name"] in COLUMNS
        }
        found.append(
            {
                "method": method,
                "solver": solver,
                "evaluations": int(evaluations),
                "num_samples": report["num_samples"],
                "numbers": numbers,
            }
        )
    order = list(SOLVERS)
    return sorted(
        found,
        key=lambda row: (row["method"] != "MiAD", order.index(row["solver"]), -row["evaluations"]),
    )


def markdown(rows: list[dict[str, Any]], method: str) -> str:
    """A table of one method's points."""
    head = ["solver", "evaluations", *COLUMNS.values()]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        if row["method"] == method:
            cells = [_shown(row["numbers"].get(name)) for name in COLUMNS]
            lines.append([SOLVERS[row["solver"]], f"{row['evaluations']:,}", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _shown(number: dict[str, Any] | None) -> str:
    """Value and interval; shares in per cent."""
    if number is None or number["value"] is None:
        return "–"
    scale, form = (100, ".1f") if number["is_share"] else (1, ".2f")
    low, high = (format(scale * x, form) for x in number["interval_95"])
    return f"{format(scale * number['value'], form)} ({low}–{high})"
