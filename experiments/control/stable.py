"""Are the crystals that were asked for stable, unique and novel?

    python -m experiments.control.stable --reference=DIR --out=OUT --hull=HULL [--part=elements]

judges samples of a part that `experiments.control` has drawn in OUT: the first of each question are
relaxed by a potential, and their energies are held against the hull. What is judged is not judged
again. DIR is what the model was trained on, by which novelty is decided.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from experiments.claims.claim import markdown
from experiments.claims.numbers import entry_of, number_of
from experiments.control.answers import FIELDS
from experiments.mp20.work import add_energy_options, energy_flags, judge, write_crystals
from miad_jax import Crystal

NUMBERS = ("stable", "metastable", "unique", "novel", "S.U.N.", "M.S.U.N.")
"""Of a report."""


def main() -> None:
    """Judge every question, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", default="elements")
    parser.add_argument("--num", type=int, default=32, help="samples of a question")
    add_energy_options(parser, required=True)
    options = parser.parse_args()
    rows: list[list[object]] = [[options.part, "samples", *NUMBERS]]
    for file in sorted((options.out / options.part).glob("*.npz")):
        folder = options.out / "stable" / options.part / file.stem
        if entry_of(folder, "S.U.N.") is None:
            crystals = folder.with_suffix(".extxyz")
            write_crystals(first(file, options.num), crystals)
            judge(crystals, options.reference, folder, "--nocoverage", *energy_flags(options))
        rows.append([file.stem, options.num, *(number_of([folder], name) for name in NUMBERS)])
    print(markdown(rows))


def first(samples: Path, num: int) -> Crystal:
    """The first samples of a question."""
    with np.load(samples) as arrays:
        return Crystal(*(arrays[name][:num] for name in FIELDS))


if __name__ == "__main__":
    main()
