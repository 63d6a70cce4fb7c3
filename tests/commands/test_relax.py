"""`python -m miad_jax.relax` and `sample --relax`, with potentials that cost nothing."""

import csv
import importlib
import json
import sys

import ase.io
import numpy as np
import pytest
from absl import flags
from pymatgen.core import Lattice, Structure

from miad_jax.commands import workers
from miad_jax.evaluation.stability import potential
from miad_jax.evaluation.stability.relaxed import COLUMNS
from miad_jax.parallel.executor import Serial
from miad_jax.storage.lock import LOCK
from tests.in_process import run_command

RELAX = importlib.import_module("miad_jax.evaluation.stability.relax")

POTENTIALS = """
import os

import numpy as np
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT


class Raw(EMT):
    energies_are_corrected = False

    def calculate(self, atoms=None, *rest):
        if "Pt" in atoms.symbols:
            os._exit(3)
        super().calculate(atoms, *rest)


class Flat(Calculator):
    energies_are_corrected = True
    implemented_properties = ["energy", "forces", "stress"]

    def calculate(self, atoms=None, *rest):
        super().calculate(atoms, *rest)
        self.results = {
            "energy": 0.0, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)
        }
"""


def fcc(symbol, length):
    coords = [[0, 0, 0.02], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    return Structure(Lattice.cubic(length), [symbol] * 4, coords)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of crystals, and a module of potentials that workers find."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "costless.py").write_text(POTENTIALS)
    monkeypatch.syspath_prepend(modules)
    potential._potential.cache_clear()
    crystals = tmp_path / "crystals"
    crystals.mkdir()
    (crystals / "copper.cif").write_text(fcc("Cu", 3.8).to(fmt="cif"))
    (crystals / "POSCAR_gold").write_text(fcc("Au", 4.2).to(fmt="poscar"))
    (crystals / "prose.cif").write_text("no crystal")
    yield tmp_path
    sys.modules.pop("costless", None)


def command(folder, *arguments, calculator="costless:Raw", out="out", num_workers=1):
    return run_command(
        "relax", folder / "crystals", f"--out={folder / out}", f"--calculator={calculator}",
        f"--num_workers={num_workers}", *arguments,
    )  # fmt: skip


def rows_of(out):
    with (out / "relaxed.csv").open() as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def test_crystals_in_and_relaxed_crystals_out(folder):
    done = command(folder)
    assert done.returncode == 0, done.stderr
    out = folder / "out"
    assert "2 of 3 crystals converged, 0 did not within the steps, 1 failed; rel" in done.stdout
    rows = rows_of(out)
    assert [*rows] == ["POSCAR_gold", "copper", "prose"]
    assert [*rows["copper"]] == [*COLUMNS]
    copper = rows["copper"]
    assert (copper["status"], copper["reason"], copper["reduced_formula"]) == (
        "converged",
        "",
        "Cu",
    )
    # Metals get no correction.
    assert copper["raw_energy_ev_per_atom"] == copper["corrected_energy_ev_per_atom"] != ""
    assert -0.2 < float(copper["volume_change"]) < -0.05
    assert 0.01 < float(copper["rms_displacement_angstrom"]) < 0.1
    assert rows["prose"]["status"] == "failed"
    assert rows["prose"]["reason"]
    frames = ase.io.read(out / "relaxed.extxyz", index=":")
    assert [frame.info["id"] for frame in frames] == ["POSCAR_gold", "copper"]
    energy = frames[1].get_potential_energy() / 4
    assert energy == pytest.approx(float(copper["raw_energy_ev_per_atom"]), abs=1e-5)
    assert sorted(x.name for x in (out / "cif").iterdir()) == ["000000_Au.cif", "000001_Cu.cif"]
    settings = json.loads((out / "relaxations" / "settings.json").read_text())
    assert settings["energies_are_corrected"] is False
    assert settings["weights_sha256"] == ""


def test_the_same_command_continues_and_another_is_refused(folder, monkeypatch):
    assert command(folder).returncode == 0
    kept = {x: x.stat().st_mtime_ns for x in (folder / "out/relaxations/crystals").iterdir()}
    (folder / "crystals" / "silver.vasp").write_text(fcc("Ag", 4.1).to(fmt="poscar"))
    (folder / "out/cif/notes.cif").write_text("mine")
    done = command(folder)
    assert "3 of 4 crystals converged" in done.stdout
    names = [f"00000{i}_{x}.cif" for i, x in ((0, "Au"), (1, "Cu"), (3, "Ag"))]
    assert sorted(x.name for x in (folder / "out/cif").iterdir()) == [*names, "notes.cif"]
    assert {x: x.stat().st_mtime_ns for x in kept} == kept
    told = json.loads(command(folder, "--json", "--quiet").stdout)
    assert told["files"][0] == str(folder / "out" / "relaxed.csv")
    assert (told["num_crystals"], told["num_converged"], told["num_failed"]) == (4, 3, 1)
    done = command(folder, "--fmax=0.2")
    assert done.returncode == 2
    assert "fmax_ev_per_angstrom is 0.1 there and 0.2 now" in done.stderr
    (folder / "other").mkdir()
    (folder / "other" / "notes.txt").touch()
    done = command(folder, out="other")
    assert done.returncode == 2
    assert "holds files (notes.txt)" in done.stderr


def test_a_folder_that_another_process_writes_to_is_refused(folder):
    (folder / "out").mkdir()
    (folder / "out" / LOCK).write_text("12345\nnode017\n")
    done = command(folder)
    assert done.returncode == 2
    assert "out is written to by process 12345 on node017" in done.stderr


def test_an_interrupt_loses_nothing_that_is_done(folder, monkeypatch):
    write = RELAX.write_record

    def interrupted(*arguments):
        write(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RELAX, "write_record", interrupted)
        done = command(folder)
    assert done.returncode == 130
    assert "the same command continues" in done.stderr
    assert len(list((folder / "out/relaxations/crystals").iterdir())) == 1
    assert command(folder).returncode == 0


def test_a_lost_worker_is_told(folder):
    (folder / "crystals" / "platinum.cif").write_text(fcc("Pt", 4.0).to(fmt="cif"))
    done = command(folder)
    assert done.returncode == 1
    assert "1 crystals lack an outcome" in done.stderr
    assert "tries them again: platinum" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--calculator=nequx",), "did you mean 'nequix'?"),
        (("--calculator=no_such:x",), "'no_such:x' is missing: install it"),
        (("--weights=x.nqx",), "'costless:Raw' brings its own"),
        (("--max_steps=-1",), "max_steps is -1"),
        (("--scheduler=tcp://host:8786",), "--num_workers is of this machine"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(folder, arguments, message):
    done = command(folder, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (folder / "out").exists()


def test_samples_are_relaxed_as_a_last_step(folder, monkeypatch):
    monkeypatch.setattr(RELAX, "Pool", lambda *arguments: Serial())
    out = folder / "samples"
    given = ("--num=2", "--quality=draft", "--steps=4", f"--out={out}")
    done = run_command("sample", *given, "--relax=nequx")
    assert done.returncode == 2
    assert "did you mean 'nequix'?" in done.stderr
    assert not out.exists()
    done = run_command("sample", *given, "--relax_weights=x")
    assert "--relax_weights is given without --relax" in done.stderr

    done = run_command("sample", *given, "--relax=costless:Flat")
    assert done.returncode == 0, done.stderr
    assert "of 2 crystals converged" in done.stdout
    rows = rows_of(out / "relaxed")
    assert [*rows] == ["0", "1"]
    with np.load(out / "samples.npz") as samples:
        assert len(samples["index"]) == 2
    again = run_command("sample", *given, "--relax=costless:Flat")
    assert again.returncode == 0, again.stderr
    assert rows_of(out / "relaxed") == rows


@pytest.mark.parametrize(
    ("calculator", "packages"),
    [
        ("chgnet", ["pymatgen", "smact", "chgnet", "torch"]),
        ("nequix", ["pymatgen", "smact", "nequix", "jax"]),
        ("sevennet", ["pymatgen", "smact", "sevenn", "torch"]),
        ("costless:Raw", ["pymatgen", "smact"]),
    ],
)
def test_the_workers_of_a_cluster_have_the_packages_of_the_potential(
    calculator, packages, monkeypatch
):
    monkeypatch.setattr(workers, "Dask", lambda scheduler, packages: (scheduler, [*packages]))
    values = flags.FlagValues()
    workers.define(values)
    flags.DEFINE_string("calculator", calculator, "", flag_values=values)
    values(["relax", "--scheduler=tcp://host:8786"])
    found = workers.cluster_of(values, packages=["smact"])
    assert found == ("tcp://host:8786", packages)
