"""The commands as a user runs them: train, stop, resume, sample, resume, and bad input.

One process of its own each for train, which a signal ends, and for sample, which has one core;
all else runs in the process of the tests.
"""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import ase.build
import ase.io
import jax
import numpy as np
import pytest

import miad_jax
from miad_jax.commands.cli import run, stop_on_signal
from miad_jax.sampling import Sampler
from miad_jax.sampling.quality import settings_of
from miad_jax.sampling.sampler import LARGEST_CPU_CHUNK
from tests.in_process import ROOT, run_command

TINY = """--config=configs/prototypes.py:quick --config.data.max_num_atoms=4
--config.infusion.num_atoms=5 --config.network.hidden_dim=16 --config.network.num_layers=1
--config.network.num_freqs=4 --config.network.time_dim=8 --config.batch_size=32
--config.log_every=2 --config.validate_every=1000 --config.checkpoint_every=1000""".split()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that was stopped by SIGTERM and then continued for a moment."""
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    arguments = [*TINY, f"--workdir={workdir}", "--config.num_epochs=100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "miad_jax.train", *arguments],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
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
    done = run_command("train", *arguments, "--config.max_minutes=0.0001")
    assert done.returncode == 0, done.stderr
    assert int(re.search(r"step (\d+): checkpoint", done.stderr)[1]) > step > 0
    assert f'{{"event": "resume", "step": {step}}}' in (workdir / "metrics.jsonl").read_text()
    return workdir


def rows(folder):
    with (folder / "samples.csv").open() as file:
        return list(csv.DictReader(file))


def unread(folder):
    """What changes of files when they are written, but not when they are read."""
    stats = {path: path.stat() for path in folder.rglob("*")}
    return {path: (x.st_ino, x.st_size, x.st_mtime_ns) for path, x in stats.items()}


@pytest.mark.slow
def test_samples_do_not_depend_on_calls_or_batches(trained, tmp_path):
    def sample(out, *arguments):
        done = run_command(
            "sample", f"--checkpoint={trained}", f"--out={tmp_path / out}", "--steps=8",
            "--chunk_size=2", *arguments,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "warning: 8 steps ask the network 8 times, which is few" in done.stderr
        with np.load(tmp_path / out / "samples.npz") as file:
            return dict(file)

    three = sample("one", "--num=3", "--record_num_atoms")
    assert three["num_real_atoms"].shape == (3, 8)
    first = rows(tmp_path / "one")
    five = sample("one", "--num=5", "--record_num_atoms")
    assert rows(tmp_path / "one")[:3] == first
    assert [row["index"] for row in rows(tmp_path / "one")] == list("01234")
    batches = sample("two", "--num=5", "--batch-size=2")  # dashes do for underscores
    for name in ("lattice", "frac_coords", "atom_types", "mask"):
        np.testing.assert_array_equal(five[name][:3], three[name])
        np.testing.assert_array_equal(five[name], batches[name])
    for name in ("summary.md", "summary.json", "summary.png"):
        assert (tmp_path / "one" / name).stat().st_size > 0
    assert (tmp_path / "one" / "samples.extxyz").exists()

    record = json.loads((tmp_path / "one" / "run.json").read_text())["run"]
    assert record["sampling"] == {
        **json.loads(json.dumps(settings_of("standard", 1000))),
        "steps": 8,
        "corrector": "langevin",
        "corrector_gamma": 1e-5,
        "last_step": "denoise",
        "type_temperature": 1.0,
        "coords_score": "conditional",
        "guidance": 1.0,
    }
    assert "sampling" not in record["config"]
    assert record["chunk_size"] == 2

    knobs = ("--type_temperature=0.1", "--churn=0", "--coords_ahead=0")
    cold = sample("four", "--num=3", *knobs, "--coords_score=marginal")
    assert (cold["frac_coords"] != three["frac_coords"]).any()
    changed = json.loads((tmp_path / "four" / "run.json").read_text())["run"]
    assert changed["sampling"] == {
        **record["sampling"],
        "churn": 0.0,
        "coords_ahead": 0.0,
        "type_temperature": 0.1,
        "coords_score": "marginal",
    }
    assert {**changed, "sampling": 0} == {**record, "sampling": 0}

    written = unread(tmp_path / "one")
    for flag, said in (
        ("--seed=7", "seed is 0 there and 7 now"),
        ("--steps=9", "sampling.steps is 8 there and 9 now"),
        ("--churn=3", "sampling.churn is 1.0 there and 3.0 now"),
        ("--chunk_size=4", "chunk_size is 2 there and 4 now"),
        ("--dtype=bfloat16", "config.network.dtype is float32 there and bfloat16 now"),
    ):
        refused = run_command(
            "sample", f"--checkpoint={trained}", f"--out={tmp_path / 'one'}", "--steps=8",
            "--chunk_size=2", flag,
        )  # fmt: skip
        assert refused.returncode == 2
        assert said in refused.stderr
    assert unread(tmp_path / "one") == written


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system pins no process")
@pytest.mark.slow
def test_samples_do_not_depend_on_the_number_of_cores_and_chunks_are_the_networks(tmp_path):
    arguments = ["--num=8", "--steps=3"]
    code = (
        "import os, runpy, sys; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
        "runpy.run_module('miad_jax.sample', run_name='__main__', alter_sys=True)"
    )
    # The same optimisation, but as many devices as the command makes of one core.
    compiler = [x for x in os.environ["XLA_FLAGS"].split() if "device_count" not in x]
    one = subprocess.run(
        [sys.executable, "-c", code, *arguments, f"--out={tmp_path / 'one'}"],
        cwd=ROOT, env={**os.environ, "XLA_FLAGS": " ".join(compiler)},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert one.returncode == 0, one.stderr
    every = run_command("sample", *arguments, f"--out={tmp_path / 'every'}")
    assert every.returncode == 0, every.stderr
    assert one.stdout.replace(str(tmp_path / "one"), "") == every.stdout.replace(
        str(tmp_path / "every"), ""
    )
    found = []
    for name in ("one", "every"):
        with np.load(tmp_path / name / "samples.npz") as file:
            found.append(file["lattice"])
    np.testing.assert_array_equal(*found)

    # `miad_jax.sample` lets the network see as many at once as the command does.
    diffusion, denoise, config = miad_jax.load_pretrained()
    record = json.loads((tmp_path / "every" / "run.json").read_text())["run"]
    sampler = Sampler(diffusion, denoise, config.infusion.num_atoms)
    assert record["chunk_size"] == sampler.chunk_size == LARGEST_CPU_CHUNK


def test_crystals_are_refined_as_asked_for_and_only_then(monkeypatch, tmp_path):
    """Rock salt with an atom 0.05 and 0.3 Å out of place stands for what a model draws."""
    salt = miad_jax.from_atoms(ase.build.bulk("NaCl", "rocksalt", a=5.64, cubic=True))

    def draw(self, keys, num_atoms, condition, bar):
        two = miad_jax.Crystal(*(np.concatenate([x, x]) for x in jax.tree.leaves(salt)))
        two.frac_coords[:, 2, 0] += np.float32([0.05, 0.3]) / np.float32(5.64)
        return two, None

    monkeypatch.setattr(Sampler, "draw", draw)
    plain = run_command("sample", f"--out={tmp_path / 'plain'}", "--num=2")
    assert "2 valid and 2 plausible structures" in plain.stdout
    assert "moved onto" not in plain.stdout
    done = run_command("sample", f"--out={tmp_path / 'moved'}", "--num=2", "--refine=0.1")
    assert "1 of 2 crystals were moved onto the symmetry found at 0.1 Å." in done.stdout
    assert "1 of 2 crystals were moved" in (tmp_path / "moved" / "summary.md").read_text()
    assert [row["refined"] for row in rows(tmp_path / "plain")] == ["False", "False"]
    assert [row["refined"] for row in rows(tmp_path / "moved")] == ["True", "False"]
    assert rows(tmp_path / "plain")[0]["spacegroup_0.01"] != "Fm-3m"
    first, second = rows(tmp_path / "moved")
    assert first["spacegroup_0.01"] == "Fm-3m"
    assert first["spacegroup_number_pymatgen_0.01"] == "225"
    assert second == rows(tmp_path / "plain")[1]
    for name in ("lattice", "frac_coords"):
        files = [np.load(tmp_path / folder / "samples.npz") for folder in ("plain", "moved")]
        np.testing.assert_array_equal(files[0][name], files[1][name])
    for folder, arguments, said in (
        ("plain", ["--refine=0.1"], "refine_angstrom is (missing) there and 0.1 now"),
        ("moved", [], "refine_angstrom is 0.1 there and (missing) now"),
    ):
        other = run_command("sample", f"--out={tmp_path / folder}", "--num=3", *arguments)
        assert other.returncode == 2
        assert said in other.stderr


@pytest.mark.slow
def test_trajectories_are_of_the_samples_of_a_call(tmp_path):
    out = tmp_path / "samples"
    arguments = ["--steps=4", "--trajectory", "--trajectory_every=4", f"--out={out}"]
    done = run_command("sample", "--num=1", *arguments)
    assert done.returncode == 0, done.stderr
    assert "trajectories of 1 samples in" in done.stdout
    (first,) = (out / "trajectories").iterdir()
    frames = ase.io.read(first, index=":")
    assert [atoms.info["step"] for atoms in frames] == [0, 4]
    with np.load(out / "samples.npz") as file:
        np.testing.assert_array_equal(frames[-1].numbers, file["atom_types"][0])
    picture = (out / "trajectory.gif").stat()
    assert picture.st_size > 0

    # The same again draws nothing, and a larger number only what is new, as without trajectories.
    again = run_command("sample", "--num=1", *arguments)
    assert again.returncode == 0, again.stderr
    assert "no trajectories: all samples were on disk already" in again.stdout
    assert (out / "trajectory.gif").stat() == picture
    first.unlink()
    more = run_command("sample", "--num=2", *arguments)
    assert more.returncode == 0, more.stderr
    (second,) = (out / "trajectories").iterdir()
    assert second.name.startswith("000001")

    plain = run_command("sample", "--num=2", "--steps=4", f"--out={tmp_path / 'plain'}")
    assert plain.returncode == 0, plain.stderr
    assert not (tmp_path / "plain" / "trajectories").exists()
    for name in ("lattice", "frac_coords", "atom_types"):
        files = [np.load(folder / "samples.npz") for folder in (out, tmp_path / "plain")]
        np.testing.assert_array_equal(files[0][name], files[1][name])


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
    # A name near one that moved is not taken for it.
    (
        "train",
        ["--workdir=x", "--config.sampling.corrector_gama=1"],
        'Did you mean "corrector_gamma" instead of "corrector_gama"?',
    ),
    ("train", ["--workdir=x", "--config=configs/mp20.py:huge"], "allowed: published, diffcsp"),
    ("train", ["--workdir=x", "--config.batch_size=0", "--config.loss.types=-1"], "loss.types"),
    ("train", ["--workdir=x", "--config.data.path=/no/such"], "/no/such"),
    ("train", ["--workdir=x", "--config.network.name=cspnt"], "allowed: cspnet"),
    (
        "train",
        ["--workdir=x", "--config.diffusion.ending=clean"],
        "config.diffusion.ending is config.sampling.last_step now",
    ),
    ("train", ["--workdr=x"], "workdir"),
    ("train", [], "no --workdir"),
    ("train", ["--workdir=x", "--init-from=/no/such.npz"], "/no/such.npz does not exist"),
    ("sample", ["--checkpoint=/no/such"], "no checkpoint in"),
    ("sample", ["--checkpoint=mp20-smal12"], "weights of the package: mp20-transformer"),
    ("sample", ["--checkpoint=/no/such", "--steps=0"], "--steps is 0"),
    ("sample", ["--checkpoint=/no/such", "--chunk_size=0"], "--chunk_size is 0"),
    ("sample", ["--checkpoint=/no/such", "--batch_size=-1"], "--batch_size is -1"),
    ("sample", ["--trajectory", "--trajectory_every=0"], "--trajectory_every is 0"),
    ("sample", ["--trajectory_every=5"], "without --trajectory"),
    ("sample", ["--checkpoint=/no/such", "--refine=0"], "--refine is 0; allowed: a positive"),
    ("sample", ["--checkpoint=/no/such", "--refine=-0.1"], "--refine is -0.1"),
    ("sample", ["--checkpoint=/no/such", "--refine=nan"], "--refine is nan"),
    ("sample", ["--checkpoint=/no/such", "--refine=inf"], "--refine is inf"),
    ("sample", ["--steps=2000"], "config.sampling.steps is 2000; allowed: at most"),
    ("sample", ["--solver=heum"], "ancestral, heun (did you mean 'heun'?)"),
    ("sample", ["--quality=standart"], "did you mean 'standard'?"),
    ("sample", ["--first_time=1000"], "config.sampling.first_time is 1000; allowed: a time"),
    ("sample", ["--first_time=20", "--steps=50"], "from time 20: choose 1 to 21"),
    ("sample", ["--visit=9,x"], "--visit is 9,x; allowed: whole numbers"),
    ("sample", ["--visit=5,9"], "visit is (5, 9); allowed: falling whole numbers"),
    ("sample", ["--ending=hold"], "--ending is no setting of the solver ancestral"),
    ("sample", ["--quality=best", "--churn=1"], "--churn is no setting of the solver predictor"),
    ("sample", ["--churn=-1"], "config.sampling.churn is -1.0; allowed: 0 or more"),
    ("sample", ["--type_temperature=0"], "config.sampling.type_temperature is 0.0"),
    (
        "sample",
        ["--checkpoint=mp20-small12-diffcsp", "--coords_score=marginal"],
        "config.sampling.coords_score is 'marginal'; allowed: conditional",
    ),
    ("sample", ["extra"], "unexpected argument"),
    ("download", [], "no NAME"),
    ("download", ["mp20"], "did you mean 'mp_20'"),
]


def test_samples_that_the_disk_cannot_hold_are_refused_before_any_is_made(tmp_path):
    done = run_command("sample", "--num=10000000000000", f"--out={tmp_path}")
    assert done.returncode == 2
    assert "10000000000000 samples take 6e+07 GB or more" in done.stderr
    assert not [*(tmp_path / "batches").iterdir()]


@pytest.mark.parametrize(("module", "arguments", "said"), BAD)
def test_bad_input_gets_a_sentence_and_exit_code_2(monkeypatch, module, arguments, said):
    there = {*ROOT.iterdir()}
    done = run_command(module, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert {*ROOT.iterdir()} == there


@pytest.mark.parametrize("module", ["train", "sample", "download"])
def test_help_lists_the_flags(module):
    done = run_command(module, "--help")
    assert done.returncode == 0
    assert f"python -m miad_jax.{module}" in done.stdout


@pytest.mark.parametrize(("num_bad", "said"), [(1, "warning: 1 of 2"), (2, "error: 2 of 2")])
def test_samples_that_are_not_finite_are_named_and_the_exit_code_is_1(
    monkeypatch, tmp_path, num_bad, said
):
    salt = miad_jax.from_atoms(ase.build.bulk("NaCl", "rocksalt", a=5.64, cubic=True))

    def draw(self, keys, num_atoms, condition, bar):
        two = miad_jax.Crystal(*(np.concatenate([x, x]) for x in jax.tree.leaves(salt)))
        two.lattice[:num_bad] = np.nan
        num_real = np.full((2, 9), 8)
        num_real[:num_bad, 6:] = -1
        return two, num_real

    monkeypatch.setattr(Sampler, "draw", draw)
    done = run_command("sample", f"--out={tmp_path / 'out'}", "--num=2")
    assert done.returncode == 1
    assert f"{said} samples hold NaN or infinity: sample 0 from step 7" in done.stderr
    # Good samples are kept, and a folder without any is left as it was.
    assert (tmp_path / "out" / "samples.csv").exists() == (num_bad == 1)
