"""`python -m miad_jax.evaluate` as a user runs it, with a potential that costs nothing.

One test starts the program; the others call its `main`.
"""

import csv
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from pymatgen.core import Lattice, Structure

from miad_jax.commands import cli
from miad_jax.commands.evaluate import main

ROOT = Path(__file__).parents[2]
POTENTIAL = '''
"""An energy of -1 eV an atom wherever the atoms are; NaN for oxygen, death for sulfur."""

import os

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

energies_are_corrected = True


class Flat(Calculator):
    implemented_properties = ["energy", "forces", "stress"]

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if "S" in atoms.symbols:
            os._exit(3)
        energy = np.nan if "O" in atoms.symbols else -1.0 * len(atoms)
        self.results = {
            "energy": energy, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)
        }
'''


def rocksalt(cation, anion, length):
    lattice = Lattice.cubic(length)
    return Structure.from_spacegroup("Fm-3m", lattice, [cation, anion], [[0, 0, 0], [0.5, 0, 0]])


def table(path, structures, energies=None):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["material_id", "cif", "formation_energy_per_atom"])
        for i, structure in enumerate(structures):
            text = structure if isinstance(structure, str) else structure.to(fmt="cif")
            writer.writerow([f"{path.stem}-{i}", text, energies[i] if energies else 0.0])
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    (folder / "flat.py").write_text(POTENTIAL)
    data = folder / "data"
    data.mkdir()
    known = [rocksalt(*x) for x in (("Na", "Cl", 5.6), ("K", "Cl", 6.3), ("Na", "Br", 5.9))]
    known += [rocksalt("K", "Br", 6.6), rocksalt("Mg", "O", 4.2), rocksalt("Mg", "S", 5.2)]
    table(data / "train.csv", known, [-2.0, -2.2, -1.8, -2.0, -3.0, -1.8])
    samples = [
        rocksalt("Na", "Cl", 5.6),
        "no CIF at all",
        rocksalt("Mg", "O", 4.5),
        rocksalt("Mg", "S", 5.2),
        rocksalt("K", "I", 7.0),
        Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.01, 0, 0]]),
    ]
    table(folder / "samples.csv", samples)
    return folder


@pytest.fixture
def evaluate(folder, monkeypatch, capsys):
    """Run the command in a folder: exit code, standard output, standard error."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("MIAD_JAX_CACHE", str(folder / "cache"))
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **settings: None)

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.run(lambda argv: main([argv[0], *map(str, arguments)]))
        return ended.value.code, *capsys.readouterr()

    return run


def rows_of(out):
    with (out / "crystals.csv").open() as file:
        return list(csv.DictReader(file))


FLAT = ("samples.csv", "--reference=data", "--calculator=flat:Flat", "--nocoverage",
        "--num_workers=1")  # fmt: skip


@pytest.fixture(scope="module")
def report(folder):
    environment = {
        **os.environ,
        "MIAD_JAX_CACHE": str(folder / "cache"),
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
    }
    command = [sys.executable, "-m", "miad_jax.evaluate", *FLAT, "--out=report"]
    done = subprocess.run(
        [*command, "--dft-inputs=inputs"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "1 samples lack an outcome" in done.stderr
    assert "samples-3" in done.stderr  # the worker died over its sulfur
    return done, folder / "report"


def test_every_sample_has_an_outcome(report):
    done, out = report
    rows = rows_of(out)
    assert [row["id"] for row in rows] == [f"samples-{i}" for i in range(6)]
    assert rows[0]["known_as"] == "train-0"
    assert rows[0]["relaxation"] == "converged"
    assert rows[1]["reason"]
    assert rows[2]["relaxation"] == "failed"
    assert rows[2]["relaxation_reason"]
    assert "ended early" in rows[3]["relaxation_reason"]
    assert "I" in rows[4]["hull_reason"]
    assert rows[5]["valid_structure"] == "False"
    assert "6 samples, 5 read" in done.stdout
    said = " ".join(done.stdout.split())
    assert "Hull: the reference's own, of the formation energies of 6 crystals" in said
    assert "more crystals seem stable" in said
    assert "Hull: the reference&#39;s own" in (out / "report.html").read_text()
    numbers = json.loads((out / "report.json").read_text())
    assert "Stability" in json.dumps(numbers)
    assert numbers["settings"]["versions"]["pymatgen"]
    assert (out / "report.html").read_text().startswith("<!")
    assert "fitted to" in done.stderr


def test_the_same_command_goes_on_and_another_is_refused(evaluate, report):
    _, out = report
    names = [*(out / "relaxations").rglob("*.json"), out / "matches.json"]
    before = {path: path.stat().st_mtime_ns for path in names}
    code, told, said = evaluate(*FLAT, "--out=report", "--json", "--quiet")
    assert code == 1, said
    told = json.loads(told)
    assert (told["num_samples"], told["num_read"], told["lost"]) == (6, 5, ["samples-3"])
    assert told["files"][0] == "report/report.html"
    rate = told["rates"][0]
    assert (rate["table"], rate["unit"], rate["total"]) == ("Validity", "share", 6)
    assert "1 samples lack an outcome" in said
    assert {path: path.stat().st_mtime_ns for path in names} == before
    code, _, said = evaluate("data/train.csv", "--reference=data", "--out=report")
    assert code == 2
    assert "other samples" in said


def test_what_was_not_asked_for_is_said(evaluate, folder):
    code, _, said = evaluate(*FLAT, "--out=first", "--num_relaxed=2")
    assert code == 0, said
    rows = rows_of(folder / "first")
    assert [row["relaxation"] for row in rows] == ["converged", "failed", "", "", "", ""]
    assert all("only the first 2" in row["relaxation_reason"] for row in rows[2:])
    assert (folder / "first" / "relaxed.extxyz").exists()
    less = ("samples.csv", "--reference=data", "--calculator=none", "--nocoverage")
    code, _, said = evaluate(*less, "--out=first")
    assert code == 2
    assert "potential: flat:Flat there, none here" in said
    code, _, said = evaluate(*FLAT, "--out=first", "--num_relaxed=1")
    assert code == 2
    assert "first samples relaxed: 2 there, 1 here" in said
    code, _, said = evaluate(*FLAT, "--out=first", "--num_relaxed=2", "--max_steps=7")
    assert code == 2
    assert "max_steps is 1500 there and 7 now" in said
    assert rows_of(folder / "first") == rows
    (folder / "first" / "report.json").write_text("{")
    code, _, said = evaluate(*FLAT, "--out=first", "--num_relaxed=2")
    assert code == 2
    assert "report.json is no report: choose another --out" in said


def bad(folder):
    (folder / "empty.csv").write_text("")
    (folder / "hull.pkl").write_bytes(pickle.dumps([1]))
    (folder / "mine").mkdir(exist_ok=True)
    (folder / "mine" / "notes.txt").write_text("mine")
    return [
        ((), "no SAMPLES"),
        (("samples.csv",), "no --reference"),
        (("samples.csv", "--reference=nowhere"), "nowhere"),
        (("nothing.csv", "--reference=data"), "nothing.csv"),
        (("empty.csv", "--reference=data"), "is empty"),
        (("samples.csv", "--reference=data", "--out=mine"), "holds files (notes.txt)"),
        (
            ("samples.csv", "--reference=data", "--out=a", "--calculator=flat:Flat",
             "--hull=hull.pkl"),
            "JSON",
        ),
        (("samples.csv", "--reference=data", "--out=b", "--calculator=flat:Falt"), "Falt"),
        (("samples.csv", "--reference=data", "--num_relaxed=-1"), "num_relaxed is -1"),
        (("samples.csv", "--reference=data", "--num_workers=0"), "num_workers is 0"),
        (("samples.csv", "--reference=data", "--out=c", "--calculator=no.such:x"), "no.such"),
        (("samples.csv", "--reference=data", "--dft_energies=x.csv"), "needs a hull"),
        (
            ("samples.csv", "--reference=data", "--calculator=none", "--dft_inputs=x"),
            "needs relaxed crystals",
        ),
    ]  # fmt: skip


def test_bad_input_gets_a_sentence_and_exit_code_2(evaluate, folder):
    for arguments, expected in bad(folder):
        code, _, said = evaluate(*arguments)
        assert code == 2, (arguments, said)
        assert expected in said, (arguments, said)
        assert "Traceback" not in said
    assert (folder / "mine" / "notes.txt").read_text() == "mine"
