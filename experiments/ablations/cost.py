"""What infusion costs: a training step and a sample, beside the baseline's (Appendix C)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from experiments.ablations.crystals import BOTH, SHOWN
from experiments.ablations.trainings import Size, trainings
from experiments.claims.claim import Claim, markdown
from experiments.claims.numbers import MISSING
from experiments.mp20.work import step_seconds
from miad_jax.build import network_from
from miad_jax.diffusion.keys import sample_keys
from miad_jax.generation.drawing import sampler_of
from miad_jax.model import load_model
from miad_jax.request import Request
from miad_jax.sampling import draw_num_atoms
from miad_jax.sampling.devices import cores_as_devices
from miad_jax.storage.files import write_atomically

SAMPLES = 64
REPEATS = 3


def measure(size: Size, data: str, out: Path) -> None:
    """Time steps of both, and sampling from both; a file that is there stays."""
    file = out / "cost.json"
    if file.exists():
        return
    found = {}
    for name in BOTH:
        step = step_seconds(trainings(size)[name], data, out / "cost" / name)
        run = out / "cost" / name / "timing"
        command = [sys.executable, "-m", "experiments.ablations.cost", str(run)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[name] = {"seconds a step": step, **json.loads(said.splitlines()[-1])}
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
    step, sample = (one[x] / other[x] for x in ("seconds a step", "seconds a sample"))
    measured = f"a training step takes {step:.2f} times as long, a sample {sample:.2f} times"
    return Claim("Appendix C", what, measured, SHOWN, command)


def sampling(run: str) -> dict[str, float]:
    """Seconds of a sample, compiled before, and what the network computes for one."""
    cores_as_devices()
    model = load_model(run)
    sampler = sampler_of(model, model.config, Request.of())
    infused = model.config.infusion.enabled
    keys = sample_keys(jax.random.key(0), np.arange(SAMPLES))
    sizes = np.full(SAMPLES, sampler.size)
    num_atoms = sizes if infused else draw_num_atoms(keys, model.histogram)
    seconds = []
    for _ in range(1 + REPEATS):
        started = time.perf_counter()
        jax.block_until_ready(sampler.draw(keys, num_atoms))
        seconds.append((time.perf_counter() - started) / SAMPLES)
    return {
        "seconds a sample": float(np.median(seconds[1:])),
        "slots of a crystal": sampler.size,
        "Mflop of an evaluation": network_from(model.config).flops(sampler.size) / 1e6,
    }


if __name__ == "__main__":
    print(json.dumps(sampling(sys.argv[1])))
