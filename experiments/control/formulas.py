"""How many known structures does a model find that is told the formula?

    python -m experiments.control.formulas --reference=DIR --out=OUT [--weights=mp20-transformer]

Crystals of the test split, drawn once, are predicted from their formula and number of formula
units, again and again. OUT gets a file for each round of samples, `0.json` and on, with the
normalised root mean squared distance of each sample from the known crystal, null where they do not
match, and the seconds of the round. What is there is not made again, so the rounds may be made in
pieces and on several machines. A crystal counts as found if any of its samples matches, at the
smallest of their distances (StructureMatcher, ltol 0.3, stol 0.5, angle 10°).
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pymatgen.core import Structure

from experiments.claims.numbers import Number
from experiments.control.answers import Weights, weights_of
from experiments.control.questions import Question, crystals_to_predict
from experiments.control.tables import MATCHER, Row, markdown
from miad_jax.evaluation.statistics import wilson
from miad_jax.request import Request
from miad_jax.storage.files import write_atomically

SMALL = 12
"""Atoms of the crystals that are counted apart too."""


def main() -> None:
    """Draw and compare the rounds that are missing, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", required=True, help="the data set, with test.csv")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", default="mp20-transformer")
    parser.add_argument("--num", type=int, default=500, help="crystals")
    parser.add_argument("--rounds", type=int, default=20, help="samples of each")
    parser.add_argument("--chunk_size", type=int, help="as of miad_jax.sample")
    parser.add_argument("--dtype", default="float32", help="as of miad_jax.sample")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    known = crystals_to_predict(options.reference, options.num)
    weights = weights_of(options.weights, options.chunk_size, options.dtype)
    rounds = [found(weights, known, i, options.out) for i in range(options.rounds)]
    print(markdown([row(known, rounds[:tries]) for tries in dict.fromkeys((1, len(rounds)))]))


def found(weights: Weights, known: Sequence[Structure], i: int, out: Path) -> dict:
    """Distances and seconds of a round: those that a file keeps, or new ones."""
    file = out / f"{i}.json"
    if not file.exists():
        formulas = [x.composition.formula for x in known]
        request = Request.of(formula=formulas, formula_units=1)
        question = Question(str(i), len(known), request, seed=i)
        answer = weights.answer(question, file.with_suffix(".npz"))
        pairs = zip(known, answer.structures, strict=True)
        distances = [MATCHER.get_rms_dist(one, two) for one, two in pairs]
        kept = [None if x is None else round(float(x[0]), 5) for x in distances]
        said = {"distances": kept, "seconds": round(answer.seconds, 1)}
        write_atomically(file, json.dumps(said) + "\n")
    return dict(json.loads(file.read_text()))


def row(known: Sequence[Structure], rounds: Sequence[dict]) -> Row:
    """How many are found in these rounds together."""
    distances = np.array([x["distances"] for x in rounds], float)  # None is NaN
    is_found = np.isfinite(distances).any(0)
    nearest = np.where(np.isfinite(distances), distances, np.inf).min(0)
    is_small = np.array([len(x) <= SMALL for x in known])
    return {
        "samples of a formula": len(rounds),
        "crystals": len(known),
        "matched": share(is_found),
        f"matched, of at most {SMALL} atoms": share(is_found[is_small]),
        "root mean square distance": f"{nearest[is_found].mean():.3f}" if is_found.any() else None,
        "seconds a formula": f"{sum(x['seconds'] for x in rounds) / len(known):.2f}",
    }


def share(verdicts: np.ndarray) -> str:
    """A share with its 95 % interval."""
    interval = wilson(int(verdicts.sum()), len(verdicts))
    return str(Number(float(verdicts.mean()), *interval, is_share=True))


if __name__ == "__main__":
    main()
