"""Good and bad samples in one picture.

    python -m experiments.mp20_slice.contact_sheet SAMPLES REPORT FILE.png

SAMPLES is the --out of `python -m miad_jax.sample`, REPORT that of `python -m miad_jax.evaluate`.
Above: S.U.N. crystals, the lowest energies above the hull first, from −0.1 eV/atom on. Below:
invalid structures, then those that did not relax, then the highest energies. Cells as generated.
"""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from miad_jax.crystal import Crystal
from miad_jax.data.standard import structure_arrays
from miad_jax.evaluation.samples import SampleSet, load_samples
from miad_jax.plots.unit_cell import draw_cell
from miad_jax.storage.files import write_atomically

NUM_EACH, NUM_A_LINE = 8, 4
LOWEST_SHOWN_EV_PER_ATOM = -0.1
"""Lower energies above the hull are likelier mistakes of the potential, or gaps of the hull."""


def choose(rows: Sequence[Mapping[str, str]]) -> tuple[list[int], list[int]]:
    """Indices of the good and of the bad samples; rows are those of crystals.csv."""

    def energy(i: int) -> float:
        return float(rows[i]["e_above_hull_ev_per_atom"] or math.nan)

    def badness(i: int) -> tuple[int, float]:
        if rows[i]["valid_structure"] != "True":
            return 0, float(rows[i]["min_distance_angstrom"] or 0)
        return (1, 0.0) if rows[i]["relaxation"] == "failed" else (2, -energy(i))

    there = [i for i, row in enumerate(rows) if not row["reason"]]
    good = [i for i in there if rows[i]["sun"] == "True" and energy(i) > LOWEST_SHOWN_EV_PER_ATOM]
    bad = [i for i in there if badness(i)[0] < 2 or energy(i) > 0]
    return sorted(good, key=energy)[:NUM_EACH], sorted(bad, key=badness)[:NUM_EACH]


def draw(candidates: SampleSet, rows: Sequence[Mapping[str, str]]) -> Figure:
    """The two groups, one above the other."""
    good, bad = choose(rows)
    lines = [-(-len(group) // NUM_A_LINE) for group in (good, bad)]
    height = 0.5 * 2 + 3.1 * sum(lines) + 0.3
    figure = Figure(figsize=(12, height), dpi=100, facecolor="white")
    top = height
    titles = ("Stable by CHGNet, unique and novel", "Invalid, not relaxed, or far above the hull")
    for title, group, num_lines in zip(titles, (good, bad), lines, strict=True):
        top -= 0.5
        figure.text(0.02, (top + 0.12) / height, title, size=15, weight="bold")
        for place, i in enumerate(group):
            line, column = divmod(place, NUM_A_LINE)
            bottom = (top - 3.1 * (line + 1) + 0.35) / height
            axes = figure.add_axes((column / NUM_A_LINE + 0.02, bottom, 0.21, 2.15 / height))
            structure = candidates.structures[i]
            arrays: list[Any] = [*structure_arrays(structure), np.ones(len(structure), bool)]
            draw_cell(axes, Crystal(*arrays), candidates.rows[i])
            axes.text(0.5, -0.2, _what(rows[i]), size=9, ha="center", transform=axes.transAxes)
        top -= 3.1 * num_lines
    return figure


def _what(row: Mapping[str, str]) -> str:
    if row["valid_structure"] != "True":
        return f"sample {row['id']}: atoms {float(row['min_distance_angstrom']):.2f} Å apart"
    if row["relaxation"] == "failed":
        return f"sample {row['id']}: {row['relaxation_reason'].split(':')[0]}"
    energy = f"{float(row['e_above_hull_ev_per_atom']):+.3f}".replace("-", "−")
    return f"sample {row['id']}: {energy} eV/atom above the hull"


def main(arguments: list[str]) -> None:
    """Draw the picture of a judged folder of samples."""
    if len(arguments) != 3:
        sys.exit(f"error: three arguments are needed\n\n{__doc__}")
    samples, report, out = map(Path, arguments)
    if out.exists():
        sys.exit(f"error: {out} exists: name a new file")
    candidates = load_samples(samples)
    with (report / "crystals.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if [row["id"] for row in rows] != [row["id"] for row in candidates.rows]:
        sys.exit(f"error: {report} is no report of {samples}")
    image = io.BytesIO()
    draw(candidates, rows).savefig(image, format="png")
    write_atomically(out, image.getvalue())


if __name__ == "__main__":
    main(sys.argv[1:])
