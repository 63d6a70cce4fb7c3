"""The systems that the paper names, with and without infusion, each trained for equal minutes.

    python -m experiments.systems --data=DIR [--minutes=20] [--core=0] [--only=NAME,NAME]

Each trains the same network on crystals of at most 10 atoms, for as many steps as find room in the
minutes at its own step time, which is measured before; it samples with its own solver and number of
steps, and is judged. What OUT holds is not made again. `--show` prints the table alone. OUT gets
`claims.json`, what it says of the paper's claims. It is `experiments/systems/results`, of which
logs and reports are in the repository.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from experiments.claims.claim import write_claims
from experiments.mp20.table import markdown
from experiments.mp20.work import SAMPLES, run, step_seconds
from experiments.systems.systems import SYSTEMS, claims


def main() -> None:
    """Time, train, sample, judge, show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="the data set, with train.csv and val.csv")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--core", type=int, default=0, help="the core that all of it runs on")
    parser.add_argument("--only", default=",".join(SYSTEMS), help="names of systems")
    parser.add_argument("--show", action="store_true", help="print the table alone")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := set(names) - set(SYSTEMS):
        parser.error(f"no system is called {min(unknown)}; allowed: {', '.join(SYSTEMS)}")
    if not options.show:
        if options.data is None:
            parser.error("give --data")
        os.sched_setaffinity(0, {options.core})
        for name in names:
            folder = options.out / name
            seconds = step_seconds(SYSTEMS[name], options.data, folder)
            steps = max(1, int(60 * options.minutes / seconds))
            run(SYSTEMS[name], options.data, folder, steps, options.samples)
    options.out.mkdir(parents=True, exist_ok=True)
    write_claims(options.out / "claims.json", claims(options.out))
    print(markdown(options.out, SYSTEMS))


if __name__ == "__main__":
    main()
