"""Kill everything at random moments, and see whether anything is lost.

    python -m experiments.drill --out=OUT [--kills=50] [--only=train,sample,evaluate] [--seed=0]

Each stage runs once without a disturbance. Then it is killed (SIGKILL) at random moments and
started again until it ends, as often as it takes for so many kills. Every restart must go on; after
every kill no file under a final name may be broken and no process may be left; and what is there in
the end must equal the undisturbed run, parameters and samples bit for bit, reports value for value.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from experiments.drill.stages import Stage, broken, stages, write_hull

ROOT = Path(__file__).parents[2]


@dataclass
class Counts:
    """What happened to a stage.

    Attributes:
        kills: Times it was killed.
        runs: Times it came to its end.
        faults: What went wrong, in words.
    """

    kills: int = 0
    runs: int = 0
    faults: list[str] = field(default_factory=list)


def main() -> None:
    """Drill every stage, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--only", default="train,sample,evaluate")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    write_hull(out / "hull.json")
    every = stages(out / "whole_train", out / "whole_sample", out / "hull.json")
    faults = 0
    for name, stage in every.items():
        whole = out / f"whole_{name}"
        seconds = finish(stage, whole)
        if name not in options.only.split(","):
            continue
        counts = drill(stage, whole, out / name, options.kills, seconds, options.seed)
        faults += len(counts.faults)
        print(
            f"{name}: {counts.kills} kills in {counts.runs} runs of {seconds:.0f} s, "
            f"{len(counts.faults)} faults",
            flush=True,
        )
        for fault in counts.faults:
            print(f"  {fault}", flush=True)
    sys.exit(1 if faults else 0)


def finish(stage: Stage, folder: Path) -> float:
    """Run a stage without a disturbance; seconds it took."""
    started = time.monotonic()
    subprocess.run(stage.command(folder), cwd=ROOT, check=True, capture_output=True)
    return time.monotonic() - started


def drill(stage: Stage, whole: Path, folder: Path, kills: int, seconds: float, seed: int) -> Counts:
    """Kill a stage so often, in as many runs as that takes, and compare each with the whole."""
    counts, rng = Counts(), random.Random(f"{stage.name} {seed}")
    expected = stage.outcome(whole)
    while counts.kills < kills:
        shutil.rmtree(folder, ignore_errors=True)
        while counts.kills < kills:
            wait = rng.uniform(0, seconds)
            ended, said = run_for(stage.command(folder), wait)
            counts.faults += [f"left alive: {line}" for line in left_alive(str(folder))]
            if ended is None:
                counts.kills += 1
                counts.faults += broken(folder)
            elif ended == 0:
                break
            else:
                counts.faults.append(f"refused to go on ({ended}): {said.strip()[-300:]}")
                break
        else:
            finish(stage, folder)
        counts.runs += 1
        counts.faults += differing(expected, stage.outcome(folder))
    return counts


def run_for(command: list[str], seconds: float) -> tuple[int | None, str]:
    """Run a command for so long, then kill it: its exit code, None if killed, and its words."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _, said = process.communicate(timeout=seconds)
        return process.returncode, said
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return None, ""


def left_alive(word: str, patience_seconds: float = 10) -> list[str]:
    """Command lines of processes that name the folder even after a while."""
    for _ in range(int(patience_seconds / 0.5)):
        found = [
            line
            for pid in filter(str.isdigit, os.listdir("/proc"))
            if int(pid) != os.getpid() and word in (line := _command_line(pid))
        ]
        if not found:
            break
        time.sleep(0.5)
    return found


def differing(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """What is missing, too much, or other than in the undisturbed run."""
    names = sorted(expected.keys() | found.keys())
    return [
        f"{name}: {found.get(name, 'missing')[:20]}, undisturbed {expected.get(name, 'none')[:20]}"
        for name in names
        if expected.get(name) != found.get(name)
    ]


def _command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


if __name__ == "__main__":
    main()
