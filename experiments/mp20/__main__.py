"""Networks, processes and recipes on MP-20, each trained for equal minutes of one core.

    python -m experiments.mp20 --data=DIR --out=OUT [--minutes=40] [--core=0] [--only=NAME,NAME]

A training has as many steps as find room in the minutes at its own step time, which is measured
before: so other work on the machine changes no result. Its learning rate falls to the end. What OUT
holds is not made again, and an interrupted training goes on. `--show` prints the table alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from experiments.mp20.table import lines, markdown
from experiments.mp20.variants import VARIANTS, Variant
from miad_jax.storage.files import write_atomically

TIMED_MINUTES = 1.5
SAMPLES = 256


def main() -> None:
    """Time, train, sample, judge, show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="the data set, with train.csv and val.csv")
    parser.add_argument("--out", type=Path, required=True)
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
            seconds = step_seconds(name, options.data, options.out)
            if not options.time:
                same = VARIANTS[name].steps_of
                if same is not None:
                    seconds = step_seconds(same, options.data, options.out)
                steps = int(60 * options.minutes / seconds)
                run(VARIANTS[name], options.data, options.out / name, steps)
    print(markdown(options.out))


def step_seconds(name: str, data: str, out: Path) -> float:
    """Seconds of a training step on the core: the median of what the log says; kept."""
    file = out / name / "step.json"
    if not file.exists():
        folder = out / name / "timing"
        train(VARIANTS[name], data, folder, max_minutes=TIMED_MINUTES, log_every=5)
        logged = [line.get("steps_per_second") for line in lines(folder / "metrics.jsonl")]
        rates = [rate for rate in logged if rate is not None][1:]  # the first holds compilation
        write_atomically(file, json.dumps({"seconds": 1 / float(np.median(rates))}) + "\n")
    return float(json.loads(file.read_text())["seconds"])


def run(variant: Variant, data: str, out: Path, steps: int) -> None:
    """Train for so many steps, sample, and judge."""
    train(variant, data, out / "run", num_steps=steps, checkpoint_every=200)
    module("sample", f"--checkpoint={out / 'run'}", f"--num={SAMPLES}", f"--out={out / 'samples'}")
    options = [
        f"--reference={data}",
        f"--out={out / 'report'}",
        "--calculator=none",
        "--nocoverage",
    ]
    module("evaluate", str(out / "samples"), *options)


def train(variant: Variant, data: str, workdir: Path, **fields: Any) -> None:
    """Train, or go on; validation comes at the end alone."""
    fields = {"data.path": data, "validate_every": 10**6, **variant.fields(), **fields}
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    module("train", f"--config={variant.config}", f"--workdir={workdir}", *flags)


def module(name: str, *arguments: str) -> None:
    """Run a command of the package in a process of its own."""
    subprocess.run([sys.executable, "-m", f"miad_jax.{name}", *arguments], check=True)


if __name__ == "__main__":
    main()
