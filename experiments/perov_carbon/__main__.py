"""Perov-5 and Carbon-24, with and without infusion: train, sample, judge (Table 6).

    python -m experiments.perov_carbon --perov5=DIR --carbon24=DIR
    python -m experiments.perov_carbon --perov5=DIR --carbon24=DIR --out=OUT --published

A data set whose folder is not given is left out. Its folder's name begins with perov or carbon, by
which the evaluation knows the cut-offs of coverage. As many training crystals are judged as if they
were samples. What OUT holds is not made again, and what was interrupted goes on; `--show` makes the
tables alone. OUT gets `tables.md` and `claims.json`. It is `experiments/perov_carbon/results`, of
which logs and reports are in the repository.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

from experiments.claims.numbers import entry_of
from experiments.mp20.work import are_drawn, draw, judge, train, write_crystals
from experiments.perov_carbon.sets import PUBLISHED, SETS, TWO_CORES, variant
from experiments.perov_carbon.show import METHODS, POINTS, TRAINING, write
from miad_jax import Crystal, load_dataset


def main() -> None:
    """Train, sample, judge, show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, title in SETS.items():
        parser.add_argument(f"--{name}", help=f"{title}, with train.csv, val.csv and test.csv")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--published", action="store_true", help="at the published size")
    parser.add_argument("--steps", type=int, help="of a training; default: by the size")
    parser.add_argument("--samples", type=int, help="of a training; default: by the size")
    parser.add_argument("--core", type=int, help="the core that all of it runs on; default: any")
    parser.add_argument("--show", action="store_true", help="make the tables alone")
    options = parser.parse_args()
    size = PUBLISHED if options.published else TWO_CORES
    given = {name: path for name in SETS if (path := getattr(options, name)) is not None}
    if not given and not options.show:
        parser.error(f"give {' or '.join(f'--{name}' for name in SETS)}")
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    samples = options.samples or size.samples
    for name, data in {} if options.show else given.items():
        for method in METHODS:
            folder = options.out / name / method
            if entry_of(folder / "report", "read") is not None:
                continue
            chosen = variant(name, size, infused=method == "miad")
            fields = {} if options.steps is None else {"num_steps": options.steps}
            if steps := fields.get("num_steps", chosen.fields().get("num_steps")):
                every = max(steps // POINTS, 1)
                fields |= {"checkpoint_every": every, "validate_every": every}
            else:
                fields |= {"validate_every": 10_000, "checkpoint_every": 10_000}
            if not are_drawn(folder / "samples"):
                train(chosen, data, folder / "run", **fields)
                draw(folder / "run", samples, folder / "samples")
            judge(folder / "samples", data, folder / "report", "--calculator=none")
        training = options.out / name / TRAINING
        if entry_of(training / "report", "read") is None:
            write_crystals(some_of(data, samples), training / "crystals.extxyz")
            judge(training / "crystals.extxyz", data, training / "report", "--calculator=none")
    print(write(options.out))


def some_of(data: str, num: int) -> Crystal:
    """A random choice of the training crystals."""
    crystals, _ = load_dataset(data, "train")
    num = min(num, len(crystals))
    chosen = np.random.default_rng(0).choice(len(crystals), num, replace=False)
    return crystals[chosen]


if __name__ == "__main__":
    main()
