"""The paper's ablations: train, sample, judge, and compare.

    python -m experiments.ablations --data=DIR [--only=infusion,slots] [--seeds=1]
    python -m experiments.ablations --data=DIR --out=OUT --published

The parts are `infusion` (Table 5), `slots` (Table 3), `baseline` and `balance` (Table 4), which
compare trainings, `curve` (Figure 3), `crystals` (Figures 4 and 5, Appendix F) and `cost`
(Appendix C). Trainings that parts share are made once. The first seed of all comes first. With
--hull the first samples are relaxed and S.U.N. is known. What OUT holds is not made again, and what
was interrupted goes on; `--show` makes the tables alone. OUT gets `tables.md` and `claims.json`. It
is `experiments/ablations/results`, of which logs and reports are in the repository.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from experiments.ablations import cost, curve
from experiments.ablations.crystals import BOTH, keep_counts
from experiments.ablations.show import write
from experiments.ablations.studies import SUN, studies
from experiments.ablations.trainings import (
    PUBLISHED,
    TWO_CORES,
    Size,
    rescaled,
    trainings,
    types_weight,
)
from experiments.claims.numbers import entry_of
from experiments.mp20.work import (
    add_energy_options,
    are_drawn,
    draw,
    energy_flags,
    judge,
    train,
)


def main() -> None:
    """Train, sample, judge, show."""
    options = parsed()
    size = PUBLISHED if options.published else TWO_CORES
    compared = studies(size)
    parts = options.only.split(",") if options.only else [*compared, "curve", "crystals", "cost"]
    if unknown := set(parts) - {*compared, "curve", "crystals", "cost"}:
        raise SystemExit(f"error: no part is called {min(unknown)}; allowed: see --help")
    steps = options.steps or size.steps
    seeds = range(options.seeds or size.seeds)
    if not options.show:
        if options.core is not None:
            os.sched_setaffinity(0, {options.core})
        names = [name for part in parts if part in compared for name in compared[part].trainings]
        names += BOTH if {"curve", "crystals"} & set(parts) else ()
        for seed in seeds:
            for name in dict.fromkeys(names):
                variant, fields = trainings(size)[name], {"seed": seed, "num_steps": steps}
                if name in rescaled(size):
                    weight = types_weight(name, size, options.data, options.out, steps)
                    fields |= {f"loss.{size.types}": weight}
                folder = options.out / name / str(seed)
                fields |= {"keep_checkpoints": curve.KEPT if name in BOTH else 1}
                every = max(steps // (2 * curve.POINTS), 1)
                fields |= {"checkpoint_every": every, "validate_every": every}
                if not is_done(folder / "report", options) and not are_drawn(folder / "samples"):
                    train(variant, options.data, folder / "run", **fields)
                sample(folder / "run", folder, options, size)
                if "curve" in parts and name in BOTH:
                    for checkpoint, place in curve.earlier(folder):
                        sample(checkpoint, place, options, size)
        if "cost" in parts:
            cost.measure(size, options.data, options.out)
    print(write(options.out, size, seeds))


def is_done(report: Path, options: argparse.Namespace) -> bool:
    """Whether a training was sampled and judged, with energies where there is a hull."""
    return entry_of(report, "read" if options.hull is None else SUN) is not None


def sample(checkpoint: Path, folder: Path, options: argparse.Namespace, size: Size) -> None:
    """Draw samples and judge them, with energies where there is a hull, unless that is done."""
    samples, report = folder / "samples", folder / "report"
    if is_done(report, options):
        return
    if not are_drawn(samples):
        draw(checkpoint, options.samples or size.samples, samples, "--record_num_atoms")
        keep_counts(samples, folder)
    energies = energy_flags(options)
    if options.hull is not None:
        energies.append(f"--num_relaxed={options.relaxed or size.relaxed}")
    judge(samples, options.data, report, "--nocoverage", *energies)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="the data set, with train.csv, val.csv and test.csv")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--only", help="parts, joined by commas; default: all")
    parser.add_argument("--published", action="store_true", help="at the published size")
    parser.add_argument("--steps", type=int, help="of a training; default: by the size")
    parser.add_argument("--samples", type=int, help="of a training; default: by the size")
    parser.add_argument("--seeds", type=int, help="trainings of each kind; default: by the size")
    parser.add_argument("--core", type=int, help="the core that all of it runs on; default: any")
    add_energy_options(parser)
    parser.add_argument("--relaxed", type=int, help="samples relaxed; default: by the size")
    parser.add_argument("--show", action="store_true", help="make the tables alone")
    options = parser.parse_args()
    if options.data is None and not options.show:
        parser.error("give --data")
    return options


if __name__ == "__main__":
    main()
