"""Disturb everything at random moments, and see whether anything is lost.

    python -m experiments.drill --out=OUT [--kills=50] [--signals=5] [--only=train,sample,evaluate]

Each stage runs once without a disturbance. Then it is killed (SIGKILL) at random moments and
started again until it ends, as often as it takes for so many kills; so often it gets each of
SIGTERM, SIGINT twice within 0.3 s, and SIGHUP; and its disk is full at six sizes. Every restart
must go on, and every command end with the exit code and the sentence that are documented. After
every disturbance no file under a final name may be broken and no process may be left; and what is
there in the end must equal the undisturbed run, parameters and samples bit for bit, reports value
for value.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from experiments.drill.commands import Counts, run
from experiments.drill.disturbances import full_disks, kills, signals
from experiments.drill.stages import stages, write_hull


def main() -> None:
    """Drill every stage, and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--signals", type=int, default=5)
    parser.add_argument("--only", default="train,sample,evaluate")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # What a shell ignores in the background, its commands would ignore as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    write_hull(out / "hull.json")
    every = stages(out / "whole_train", out / "whole_sample", out / "hull.json")
    faults, asked = 0, options.only.split(",")
    for name, stage in every.items():
        if not asked:
            break
        whole, folder = out / f"whole_{name}", out / name
        shutil.rmtree(whole, ignore_errors=True)
        started = time.monotonic()
        if (ended := run(stage.command(whole))).code:
            sys.exit(f"{name} fails without a disturbance: {ended.said}")
        seconds = time.monotonic() - started
        if name not in asked:
            continue
        asked.remove(name)
        every_kind: dict[str, Callable[..., Counts]] = {
            "kills": partial(kills, num=options.kills, seconds=seconds, seed=options.seed),
            "signals": partial(signals, num=options.signals, seconds=seconds, seed=options.seed),
            "full disks": full_disks,
        }
        for kind, drill in every_kind.items():
            faults += tell(name, kind, partial(drill, stage, whole, folder))
    sys.exit(1 if faults else 0)


def tell(stage: str, of: str, drill: Callable[[], Counts]) -> int:
    """Do a drill and print what happened; returns the number of faults."""
    try:
        counts = drill()
    except PermissionError as error:
        print(f"{stage}: {of} left out: {error}", flush=True)
        return 0
    faults = counts.faults
    print(
        f"{stage}: {counts.disturbances} {of} in {counts.runs} runs, {len(faults)} faults",
        flush=True,
    )
    for fault in faults:
        print(f"  {fault}", flush=True)
    return len(faults)


if __name__ == "__main__":
    main()
