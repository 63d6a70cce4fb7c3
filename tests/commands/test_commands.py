"""The commands as a user runs them: train, stop, resume, sample, resume, and bad input."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from miad_jax.commands.cli import run, stop_on_signal

ROOT = Path(__file__).parents[2]
TINY = """--config=configs/prototypes.py:quick --config.data.max_num_atoms=4
--config.infusion.num_atoms=5 --config.network.hidden_dim=16 --config.network.num_layers=1
--config.network.num_freqs=4 --config.network.time_dim=8 --config.batch_size=32
--config.log_every=2 --config.validate_every=1000 --config.checkpoint_every=1000""".split()


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    cache = str(tmp_path_factory.mktemp("cache"))
    return {**os.environ, "MIAD_JAX_CACHE": cache, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}


def command(environment, module, *arguments, **extra):
    return subprocess.run(
        [sys.executable, "-m", f"miad_jax.{module}", *map(str, arguments)],
        cwd=ROOT, env={**environment, **extra}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(environment, tmp_path_factory):
    """A run that was stopped by SIGTERM and then continued for a moment."""
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    arguments = [*TINY, f"--workdir={workdir}", "--config.num_epochs=100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "miad_jax.train", *arguments],
        cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    started = time.monotonic()
    while not (workdir / "metrics.jsonl").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() - started < 200
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    step = int(re.search(r"step (\d+): checkpoint", said)[1])
    done = command(environment, "train", *arguments, "--config.max_minutes=0.0001")
    assert done.returncode == 0, done.stderr
    assert int(re.search(r"step (\d+): checkpoint", done.stderr)[1]) > step > 0
    assert f'{{"event": "resume", "step": {step}}}' in (workdir / "metrics.jsonl").read_text()
    return workdir


def rows(folder):
    with (folder / "samples.csv").open() as file:
        return list(csv.DictReader(file))


def test_samples_do_not_depend_on_calls_batches_or_devices(trained, environment, tmp_path):
    def sample(out, *arguments, **extra):
        done = command(
            environment, "sample", f"--checkpoint={trained}", f"--out={tmp_path / out}",
            "--steps=8", "--chunk_size=2", *arguments, **extra,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        with np.load(tmp_path / out / "samples.npz") as file:
            return dict(file)

    three = sample("one", "--num=3", "--record_num_atoms")
    assert three["num_real_atoms"].shape == (3, 8)
    first = rows(tmp_path / "one")
    five = sample("one", "--num=5", "--record_num_atoms")
    assert rows(tmp_path / "one")[:3] == first
    assert [row["index"] for row in rows(tmp_path / "one")] == list("01234")
    batches = sample("two", "--num=5", "--batch_size=2")
    two_devices = "--xla_force_host_platform_device_count=2"
    devices = sample("three", "--num=4", XLA_FLAGS=two_devices)
    for name in ("lattice", "frac_coords", "atom_types", "mask"):
        np.testing.assert_array_equal(five[name][:3], three[name])
        np.testing.assert_array_equal(five[name], batches[name])
        np.testing.assert_array_equal(five[name][:4], devices[name])
    for name in ("summary.md", "summary.json", "summary.png"):
        assert (tmp_path / "one" / name).stat().st_size > 0
    assert (tmp_path / "one" / "samples.extxyz").exists()

    knobs = ("--type_temperature=0.1", "--corrector_gamma=1e-6", "--ending=published")
    cold = sample("four", "--num=3", *knobs)
    assert (cold["frac_coords"] != three["frac_coords"]).any()

    refused = command(
        environment, "sample", f"--checkpoint={trained}", f"--out={tmp_path / 'one'}",
        "--steps=8", "--seed=7",
    )  # fmt: skip
    assert refused.returncode == 2
    assert "seed" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system pins no process")
def test_samples_do_not_depend_on_the_number_of_cores(environment, tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    found = []
    for number in (1, min(len(cores), 2)):
        code = (
            f"import os, runpy; os.sched_setaffinity(0, {cores[:number]}); "
            "runpy.run_module('miad_jax.sample', run_name='__main__', alter_sys=True)"
        )
        out = tmp_path / str(number)
        done = subprocess.run(
            [sys.executable, "-c", code, "--num=8", "--steps=3", f"--out={out}"],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        with np.load(out / "samples.npz") as file:
            found.append(file["lattice"])
    np.testing.assert_array_equal(*found)


def test_a_first_ctrl_c_asks_and_a_second_interrupts(capfd):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        asked = stop_on_signal()
        assert not asked()
        signal.raise_signal(signal.SIGINT)
        assert asked()
        assert "ending with a checkpoint" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_device_without_memory_is_told_in_a_sentence(capfd, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")

    def main(arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 9 GB")

    with pytest.raises(SystemExit, match="1"):
        run(main)
    assert "smaller chunk_size" in capfd.readouterr().err


BAD = [
    ("train", ["--workdir=x", "--config=configs/mp20.py", "--config.batch_sizes=3"], "batch_size"),
    ("train", ["--workdir=x", "--config=configs/mp20.py:huge"], "allowed: published, diffcsp"),
    ("train", ["--workdir=x", "--config.batch_size=0", "--config.loss.types=-1"], "loss.types"),
    ("train", ["--workdir=x", "--config.data.path=/no/such"], "/no/such"),
    ("train", ["--workdr=x"], "workdir"),
    ("train", [], "no --workdir"),
    ("train", ["--workdir=x", "--init-from=/no/such.npz"], "/no/such.npz does not exist"),
    ("sample", ["--checkpoint=/no/such"], "no checkpoint in"),
    ("sample", ["--checkpoint=mp20-smal12"], "weights of the package: mp20-small12"),
    ("sample", ["--checkpoint=/no/such", "--steps=0"], "--steps is 0"),
    ("sample", ["--type_temperature=0"], "config.diffusion.type_temperature is 0.0"),
    (
        "sample",
        ["--checkpoint=mp20-small12-diffcsp", "--coords_score=marginal"],
        "config.diffusion.coords_score is 'marginal'; allowed: conditional",
    ),
    ("sample", ["extra"], "unexpected argument"),
    ("download", [], "no NAME"),
    ("download", ["mp20"], "did you mean 'mp_20'"),
]


@pytest.mark.parametrize(("module", "arguments", "said"), BAD)
def test_bad_input_gets_a_sentence_and_exit_code_2(environment, module, arguments, said):
    done = command(environment, module, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (ROOT / "x").exists()
