"""Which trainings a table of the paper compares, and what comes out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.ablations.trainings import Size, final_losses, rescaled
from experiments.claims.claim import Claim, markdown
from experiments.claims.numbers import MISSING, Number, entry_of, is_best, mean_of, number_of

SUN, METASTABLE = "S.U.N.", "M.S.U.N."
NUMBERS = {
    "valid structure": "valid structure",
    "valid composition": "valid composition",
    "unique and novel": "unique and novel",
    "symmetry above P1 at 0.1 Å": "above P1 at 0.1 Å",
    "atoms per cell": "atoms",
    "elements a crystal": "elements",
    METASTABLE: METASTABLE,
    SUN: SUN,
}
"""Numbers of a report, and what heads their column."""


@dataclass(frozen=True)
class Study:
    """A comparison.

    Attributes:
        source: Where the paper has it.
        claim: What is tested: that the first training is the best.
        trainings: Names of trainings.
    """

    source: str
    claim: str
    trainings: tuple[str, ...]


def studies(size: Size) -> dict[str, Study]:
    """The tables that compare trainings, by the word that chooses them, the cheapest first."""
    few, usual, more, most = size.slots
    return {
        "infusion": Study(
            "Table 5",
            "Mirage atoms uniform in the cell and left out of the coordinates' loss give the most "
            f"{SUN}",
            ("miad", "uniform-nonmasked", "center-masked", "center-nonmasked"),
        ),
        "slots": Study(
            "Table 3",
            f"N_m = {usual}, 1.25 times the largest number of atoms, gives more {SUN} than {few}, "
            f"{more} and {most}, with the loss of the types rescaled",
            ("miad", *rescaled(size)),
        ),
        "baseline": Study(
            "§5", f"Infusion gives more {SUN} than the same model without, DiffCSP",
            ("miad", "diffcsp"),
        ),
        "balance": Study(
            "Table 4", f"The weight 1 of the loss of the types gives more {SUN} than 1/2 and 2",
            ("miad", "types-half", "types-double"),
        ),
    }  # fmt: skip


def reports(out: Path, name: str, seeds: Iterable[int]) -> list[Path]:
    """Folders of the reports of a training's seeds."""
    return [out / name / str(seed) / "report" for seed in seeds]


def claim_of(study: Study, out: Path, seeds: range, command: str) -> Claim:
    """Whether the paper's choice is the best by S.U.N.; M.S.U.N. is said too."""
    found = {
        kind: [number_of(reports(out, name, seeds), kind) for name in study.trainings]
        for kind in (SUN, METASTABLE)
    }
    said = []
    for kind, numbers in found.items():
        known = [f"{name} {x}" for name, x in zip(study.trainings, numbers, strict=True) if x]
        if known:
            said.append(f"{kind}: {', '.join(known)}")
    holds = is_best(found[SUN][0], found[SUN][1:])
    return Claim(study.source, study.claim, "; ".join(said) or MISSING, holds, command)


def table_of(study: Study, out: Path, seeds: range, size: Size) -> str:
    """A row for every training: what it ends with, and what its samples are like."""
    head = ["", "trainings", "samples", "lattice", "coordinates", "types", "share of the types"]
    rows: list[list[object]] = [[*head, *NUMBERS.values()]]
    for name in study.trainings:
        done = [x for x in reports(out, name, seeds) if entry_of(x, "read") is not None]
        samples = sum(_total(x) for x in done)
        numbers = [number_of(done, number) for number in NUMBERS]
        losses = _losses([x.parent / "run" for x in done], size)
        rows.append([name, len(done), samples, *losses, *numbers])
    return markdown(rows)


def _total(report: Path) -> int:
    entry = entry_of(report, "read")
    return 0 if entry is None else int(entry["total"])


def _losses(runs: Iterable[Path], size: Size) -> list[Number | None]:
    """Losses at the end, and the share that the types have in their weighted sum."""
    found = []
    for run in runs:
        losses = final_losses(run, size)
        if losses is not None:
            total = losses.pop("loss")
            share = 1 - (losses["lattice"] + losses["coords"]) / total
            found.append([*losses.values(), share])
    if not found:
        return [None] * 4
    columns = np.array(found).T
    none = float("nan")
    return [
        mean_of([Number(float(x), none, none, is_share=i == len(columns) - 1) for x in column])
        for i, column in enumerate(columns)
    ]
