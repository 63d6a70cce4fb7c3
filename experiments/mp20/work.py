"""Time, train, sample, judge: each once, by the commands of the package."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ase.io import write

from experiments.claims.numbers import entry_of
from experiments.mp20.table import lines
from experiments.mp20.variants import Variant
from miad_jax import Crystal, reduce, to_structures
from miad_jax.storage.files import write_atomically

TIMED_MINUTES = 1.5
SAMPLES = 256


def step_seconds(variant: Variant, data: str, out: Path) -> float:
    """Seconds of a training step on the core: the median of what the log says; kept in OUT."""
    file = out / "step.json"
    if not file.exists():
        folder = out / "timing"
        train(variant, data, folder, max_minutes=TIMED_MINUTES, log_every=5)
        logged = [line.get("steps_per_second") for line in lines(folder / "metrics.jsonl")]
        rates = [rate for rate in logged if rate is not None][1:]  # the first holds compilation
        write_atomically(file, json.dumps({"seconds": 1 / float(np.median(rates))}) + "\n")
    return float(json.loads(file.read_text())["seconds"])


def run(variant: Variant, data: str, out: Path, steps: int, samples: int = SAMPLES) -> None:
    """Train for so many steps, sample, and judge; nothing where there is a report."""
    if entry_of(out / "report", "read") is not None:
        return
    if not are_drawn(out / "samples"):
        train(variant, data, out / "run", num_steps=steps, checkpoint_every=200)
        draw(out / "run", samples, out / "samples")
    judge(out / "samples", data, out / "report", "--calculator=none", "--nocoverage")


def train(variant: Variant, data: str, workdir: Path, **fields: Any) -> None:
    """Train, or go on; validation comes at the end alone, unless a field says otherwise.

    Raises:
        SystemExit: If a signal ended the training before its last step, with a checkpoint.
    """
    fields = {"data.path": data, "validate_every": 10**6, **variant.fields(), **fields}
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    module("train", f"--config={variant.config}", f"--workdir={workdir}", *flags)
    done = max(line.get("step", 0) for line in lines(workdir / "metrics.jsonl"))
    if done < fields.get("num_steps", 0):
        sys.exit(f"interrupted at step {done} of {workdir}; the same command continues")


def are_drawn(samples: Path) -> bool:
    """Whether a folder holds all its samples, which are judged without the checkpoint."""
    return (samples / "samples.npz").exists()


def draw(checkpoint: Path, samples: int, out: Path, *options: str) -> None:
    """Sample a run or one of its checkpoints, or go on."""
    module("sample", f"--checkpoint={checkpoint}", f"--num={samples}", f"--out={out}", *options)


def write_crystals(crystals: Crystal, file: Path) -> None:
    """A batch of crystals as a file that can be judged."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write(file, [x.to_ase_atoms() for x in to_structures(reduce(crystals))])


def judge(samples: Path, data: str, out: Path, *options: str) -> None:
    """Evaluate samples, or go on."""
    module("evaluate", str(samples), f"--reference={data}", f"--out={out}", *options)


def add_energy_options(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Flags that a study passes on to the evaluation, of which `energy_flags` makes the list."""
    without = "" if required else "; default: no energies"
    parser.add_argument("--hull", required=required, help=f"as of miad_jax.evaluate{without}")
    parser.add_argument("--elements", help="as of miad_jax.evaluate")
    parser.add_argument("--calculator", default="nequix", help="as of miad_jax.evaluate")
    parser.add_argument("--weights", help="as of miad_jax.evaluate")


def energy_flags(options: argparse.Namespace) -> list[str]:
    """What the flags of `add_energy_options` say to the evaluation; no energies without a hull."""
    if options.hull is None:
        return ["--calculator=none"]
    names = ("hull", "elements", "calculator", "weights")
    given = {name: getattr(options, name) for name in names}
    return [f"--{name}={value}" for name, value in given.items() if value is not None]


def module(name: str, *arguments: str) -> None:
    """Run a command of the package in a process of its own."""
    subprocess.run([sys.executable, "-m", f"miad_jax.{name}", *arguments], check=True)
