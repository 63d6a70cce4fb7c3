"""What commands say to people, to programs, and to nobody."""

import importlib
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace

import ase.build
import jax
import numpy as np
import pytest
from absl import flags

import miad_jax
from miad_jax.commands import COMMANDS
from miad_jax.commands.output import Output, define
from miad_jax.sampling import Sampler
from tests.in_process import run_command


def output(*given):
    values = flags.FlagValues()
    define(values)
    values(["command", *given])
    return Output.of(values)


RESULT = {"folder": Path("a/b"), "loss": np.float32(0.5), "bad": float("nan"), "n": (np.int64(3),)}
AS_JSON = {"folder": "a/b", "loss": 0.5, "bad": None, "n": [3]}


@pytest.mark.parametrize(
    ("given", "lines", "bars"),
    [
        ([], ["done"], True),
        (["--quiet"], [], False),
        (["--json"], [AS_JSON], True),
        (["--json", "--quiet"], [AS_JSON], False),
    ],
)
def test_people_get_lines_and_programs_one_object(given, lines, bars, capsys):
    out = output(*given)
    with out.progress.bar("work", 2) as bar:
        bar.advance(2)
    out.say("done")
    out.finish(RESULT)
    said = capsys.readouterr()
    found = said.out.splitlines()
    assert [json.loads(x) if x.startswith("{") else x for x in found] == lines
    assert ("work" in said.err) == bars


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"completion"}))
def test_every_command_that_works_has_both_flags(name):
    known = importlib.import_module(f"miad_jax.commands.{name}").FLAGS
    assert "quiet" in known
    assert "json" in known


def test_sampling_tells_its_files_and_counts_in_the_formats_asked_for(monkeypatch, tmp_path):
    salt = miad_jax.from_atoms(ase.build.bulk("NaCl", "rocksalt", a=5.64))

    def draw(self, keys, num_atoms, condition, bar):
        many = [np.repeat(x, len(keys), 0) for x in jax.tree.leaves(salt)]
        return miad_jax.Crystal(*many), np.full((len(keys), 1), 2)

    monkeypatch.setattr(Sampler, "draw", draw)
    folder = tmp_path / "out"
    given = [f"--out={folder}", "--num=2", "--contain=Na", "--json", "--quiet"]
    done = run_command("sample", *given, "--formats=poscar,ase_db", "--zip")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    names = ["poscar", "samples.db", "samples.npz", "summary.md", "summary.json", "summary.png"]
    assert told["files"] == [str(folder / x) for x in (*names, "samples.zip")]
    assert (told["num_samples"], told["num_crystals"], told["num_as_asked"]) == (2, 2, 2)
    assert sorted(x.name for x in (folder / "poscar").iterdir()) == [
        "000000_NaCl.vasp", "000001_NaCl.vasp",
    ]  # fmt: skip
    assert not (folder / "samples.csv").exists()
    with zipfile.ZipFile(folder / "samples.zip") as archive:
        assert len(archive.namelist()) == 7
    more = run_command("sample", *given, "--num=3", "--formats=poscar")
    assert json.loads(more.stdout)["num_crystals"] == 3
    with zipfile.ZipFile(folder / "samples.zip") as archive:
        assert "out/poscar/000002_NaCl.vasp" in archive.namelist()
    refused = run_command("sample", *given, "--formats=vasp")
    assert refused.returncode == 2
    assert "no format 'vasp'" in refused.stderr


def test_training_tells_its_step_and_newest_numbers(monkeypatch, tmp_path):
    importlib.import_module("miad_jax.commands.train")
    loop = importlib.import_module("miad_jax.training.loop")

    def train(config, data, workdir, **options):
        lines = [{"step": 2, "loss": 2.0, "validation_loss": 3.0}, {"step": 4, "loss": 1.5}]
        workdir.mkdir()
        (workdir / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        return SimpleNamespace(step=np.int32(4))

    monkeypatch.setattr(loop, "train", train)
    workdir = tmp_path / "run"
    given = ["--config=prototypes:quick", f"--workdir={workdir}", "--config.num_steps=9"]
    done = run_command("train", *given, "--json", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["metrics"] == {"step": 4, "loss": 1.5, "validation_loss": 3.0}
    assert (told["step"], told["num_steps"], told["is_complete"]) == (4, 9, False)
    assert told["num_left_out"] > 0
    assert "are left out with more than config.data.max_num_atoms = 8 atoms" in told["remarks"][0]


def test_fetching_tells_what_came(monkeypatch, tmp_path):
    module = importlib.import_module("miad_jax.data.download")
    monkeypatch.setattr(module, "download_dataset", lambda *_, **__: {"train.csv": 7})
    done = run_command("download", "mp_20", f"--out={tmp_path}", "--json", "--quiet")
    told = json.loads(done.stdout)
    assert told["files"] == [str(tmp_path / "train.csv")]
    assert told["num_crystals"] == {"train.csv": 7}
