"""Networks, processes and recipes on MP-20, each trained for equal minutes of one core.

    python -m experiments.mp20 --data=DIR [--minutes=40] [--core=0] [--only=NAME,NAME]

A training has as many steps as find room in the minutes at its own step time, which is measured
before: so other work on the machine changes no result, and OUT with the step times can be taken to
another machine to train there. Its learning rate falls to the end. What OUT
holds is not made again, and an interrupted training goes on. OUT is `experiments/mp20/results`, of
which logs and reports are in the repository. `--show` prints the table alone.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from experiments.mp20.table import markdown
from experiments.mp20.variants import VARIANTS
from experiments.mp20.work import run, step_seconds


def main() -> None:
    """Time, train, sample, judge, show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="the data set, with train.csv and val.csv")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--core", type=int, default=0, help="the core that all of it runs on")
    parser.add_argument("--only", default=",".join(VARIANTS))
    parser.add_argument("--time", action="store_true", help="measure the step times alone")
    parser.add_argument("--show", action="store_true", help="print the table alone")
    options = parser.parse_args()
    if not options.show:
        if options.data is None:
            parser.error("give --data")
        os.sched_setaffinity(0, {options.core})
        for name in options.only.split(","):
            timed = VARIANTS[name].steps_of or name
            seconds = step_seconds(VARIANTS[timed], options.data, options.out / timed)
            if not options.time:
                steps = int(60 * options.minutes / seconds)
                run(VARIANTS[name], options.data, options.out / name, steps)
    print(markdown(options.out, VARIANTS))


if __name__ == "__main__":
    main()
