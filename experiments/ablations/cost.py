"""What infusion costs: a training step and a sample, beside the baseline's (Appendix C).

On a CPU the time is that of the processor, all cores together, so other work on the machine counts
little; on an accelerator it is that of the clock. Compilation is not in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from experiments.ablations.crystals import BOTH, SHOWN
from experiments.ablations.trainings import Size, trainings
from experiments.claims.claim import Claim, markdown
from experiments.claims.numbers import MISSING
from experiments.mp20.work import train
from miad_jax.build import network_from
from miad_jax.diffusion.keys import sample_keys
from miad_jax.generation.drawing import sampler_of
from miad_jax.model import TrainedModel, load_model
from miad_jax.parallel.progress import Bar
from miad_jax.request import Request
from miad_jax.sampling import draw_num_atoms
from miad_jax.storage.files import write_atomically
from miad_jax.training import load_training_data
from miad_jax.training import loop as training

STEPS = 12
SAMPLES = 64
REPEATS = 3
STEP, SAMPLE = "seconds a training step", "seconds a sample"


def measure(size: Size, data: str, out: Path) -> None:
    """Time both, each in a process of its own; a file that is there stays."""
    file = out / "cost.json"
    if file.exists():
        return
    found = {}
    for name in BOTH:
        run = out / "cost" / name
        train(trainings(size)[name], data, run, num_steps=1)
        command = [sys.executable, "-m", "experiments.ablations.cost", str(run)]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found[name] = json.loads(said.splitlines()[-1])
    write_atomically(file, json.dumps(found, indent=1) + "\n")


def table(out: Path) -> str:
    """Both, and how many times more MiAD takes."""
    file = out / "cost.json"
    if not file.exists():
        return MISSING
    found = json.loads(file.read_text())
    rows: list[list[object]] = [["", *BOTH, "ratio"]]
    for what in found[BOTH[0]]:
        one, other = (found[name][what] for name in BOTH)
        rows.append([what, f"{one:.4g}", f"{other:.4g}", f"{one / other:.2f}"])
    return markdown(rows)


def claim(out: Path, command: str) -> Claim:
    """How many times more infusion costs."""
    file, what = out / "cost.json", "Cost of infusion"
    if not file.exists():
        return Claim("Appendix C", what, MISSING, MISSING, command)
    one, other = (json.loads(file.read_text())[name] for name in BOTH)
    step, sample = (one[x] / other[x] for x in (STEP, SAMPLE))
    measured = f"a training step takes {step:.2f} times as long, a sample {sample:.2f} times"
    return Claim("Appendix C", what, measured, SHOWN, command)


def clock() -> float:
    """Seconds: of the processor on a CPU, of the clock on an accelerator."""
    return time.process_time() if jax.default_backend() == "cpu" else time.perf_counter()


class Clock(Bar):
    """A progress bar that keeps the time of every step."""

    def __init__(self) -> None:
        self.times: dict[float, float] = {}

    def update(self, done: float, numbers: Mapping[str, float] = {}) -> None:
        """Keep when a step was first known to be done."""
        self.times.setdefault(done, clock())


def seconds_a_step(model: TrainedModel) -> float:
    """The median of the steps after the first two, of a new training of the same configuration."""
    config = model.config.copy_and_resolve_references()
    config.num_steps, config.log_every = STEPS, 1
    bar = Clock()
    with tempfile.TemporaryDirectory() as folder:
        training.train(config, load_training_data(config), folder, bar=bar)
    times = [at for _, at in sorted(bar.times.items())]
    # The last two hold a checkpoint and the validation.
    return float(np.median(np.diff(times)[2:-2]))


def seconds_a_sample(model: TrainedModel) -> float:
    """The median of some draws, compiled before."""
    sampler = sampler_of(model, model.config, Request.of())
    keys = sample_keys(jax.random.key(0), np.arange(SAMPLES))
    num_atoms = np.full(SAMPLES, sampler.size)
    if not model.config.infusion.enabled:
        num_atoms = draw_num_atoms(keys, model.histogram)
    seconds = []
    for _ in range(1 + REPEATS):
        started = clock()
        jax.block_until_ready(sampler.draw(keys, num_atoms))
        seconds.append((clock() - started) / SAMPLES)
    return float(np.median(seconds[1:]))


def measured(run: str) -> dict[str, float]:
    """All numbers of one of both."""
    model = load_model(run)
    config = model.config
    slots = config.infusion.num_atoms if config.infusion.enabled else len(model.histogram) - 1
    return {
        STEP: seconds_a_step(model),
        SAMPLE: seconds_a_sample(model),
        "slots of a crystal": slots,
        "Mflop of an evaluation": network_from(config).flops(slots) / 1e6,
    }


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1])))
