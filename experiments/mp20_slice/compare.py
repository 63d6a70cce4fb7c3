"""Several reports side by side: `python -m experiments.mp20_slice.compare NAME=REPORT …`.

REPORT is the --out of `python -m miad_jax.evaluate`; NAME heads its column. Prints a Markdown
table of every number with its 95 % interval.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

LEFT_OUT = ("S.U.N. by every definition",)


def table(reports: dict[str, dict[str, Any]]) -> str:
    """A row a number, a column a report, in the order of the first."""
    columns = {name: _entries(report) for name, report in reports.items()}
    names = list(dict.fromkeys(entry for column in columns.values() for entry in column))
    counts = [f"{name} ({report['num_samples']})" for name, report in reports.items()]
    rows = [["", *counts], ["---"] * (len(columns) + 1)]
    rows += [[name, *(_shown(column.get(name)) for column in columns.values())] for name in names]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _entries(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The numbers of a report by name; every definition of S.U.N. is left to the report."""
    return {
        entry["name"]: entry
        for group in report["tables"]
        if group["title"] not in LEFT_OUT
        for entry in group["entries"]
    }


def _shown(entry: dict[str, Any] | None) -> str:
    """Value and interval, shares in per cent."""
    if entry is None or entry["value"] is None:
        return "not known"
    share = entry["unit"] == "share"
    scale, form = (100, ".1f") if share else (1, ".3g")
    value = format(scale * entry["value"], form) + " %" * share
    if entry["interval_95"] is None:
        return value
    low, high = (format(scale * x, form) for x in entry["interval_95"])
    return f"{value} ({low}–{high})"


def main(arguments: list[str]) -> None:
    """Read the reports, print the table."""
    pairs = [argument.partition("=") for argument in arguments]
    if not pairs or not all(name and path for name, _, path in pairs):
        sys.exit(f"error: give NAME=REPORT for each report\n\n{__doc__}")
    files = {name: Path(path) / "report.json" for name, _, path in pairs}
    if missing := [file for file in files.values() if not file.exists()]:
        sys.exit(f"error: {missing[0]} does not exist: give the --out of miad_jax.evaluate")
    print(table({name: json.loads(file.read_text()) for name, file in files.items()}))


if __name__ == "__main__":
    main(sys.argv[1:])
