"""A report that a cluster made is that of one machine, also if a worker is killed on the way."""

import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from pymatgen.core import Structure
from pymatgen.entries.computed_entries import ComputedEntry

from miad_jax.evaluation.novelty import matching
from miad_jax.parallel.executor import Serial
from tests import clusters
from tests.in_process import ROOT, run_command

POTENTIAL = '''
"""An energy that is a number of the cell, after a tenth of a second."""

import time

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

energies_are_corrected = True


class Slow(Calculator):
    implemented_properties = ["energy", "forces", "stress"]

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        time.sleep(0.1)
        self.results = {
            "energy": -1e-3 * atoms.get_volume() * len(atoms),
            "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6),
        }
'''
COLUMNS = "material_id,cif,formation_energy_per_atom"


def rocksalt(cation, anion, length):
    lattice = length / 2 * (1 - np.eye(3))
    return Structure(lattice, [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


def write_table(path, structures):
    rows = [f'{path.stem}-{i},"{x.to(fmt="cif")}",-1.5' for i, x in enumerate(structures)]
    path.write_text("\n".join([COLUMNS, *rows]) + "\n")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "slow.py").write_text(POTENTIAL)
    (tmp_path / "data").mkdir()
    salts = [rocksalt(m, x, 5.6) for m in ("Li", "Na", "K") for x in ("F", "Cl")]
    write_table(tmp_path / "data" / "train.csv", salts)
    again = [salt.apply_strain(0.01 * i, inplace=False) for salt in salts for i in (1, 2, 3)]
    write_table(tmp_path / "samples.csv", again)
    entries = [ComputedEntry(x, -1.0) for x in ("Li", "Na", "K", "F", "Cl", "NaCl", "KF")]
    (tmp_path / "hull.json").write_text(json.dumps([x.as_dict() for x in entries]))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MIAD_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **settings: None)
    monkeypatch.setattr(matching, "FEW_TASKS", 0)
    return tmp_path


def evaluate(folder, out, *flags):
    return run_command(
        "evaluate", folder / "samples.csv", f"--reference={folder / 'data'}", "--nocoverage",
        "--calculator=slow:Slow", f"--hull={folder / 'hull.json'}", f"--out={folder / out}", *flags,
    )  # fmt: skip


def files(out):
    """What a report and its kept results hold; matches are kept in the order in which they came."""
    names = ("report.json", "crystals.csv", "relaxed.extxyz", "matches.json")
    paths = [*(out / name for name in names), *(out / "relaxations").rglob("*.json")]
    return {
        path.relative_to(out): json.loads(path.read_text())
        if path.suffix == ".json"
        else path.read_text()
        for path in paths
    }


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_makes_the_report_of_one_machine(folder, monkeypatch):
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    alone = evaluate(folder, "alone", "--num_workers=1")
    assert alone.returncode == 0, alone.stderr
    with clusters.running(
        folder, num_workers=2, PYTHONPATH=f"{folder}{os.pathsep}{ROOT}"
    ) as running:
        ours = folder / "cluster" / "relaxations" / "crystals"
        killed_after = []

        def kill_one():
            until = time.monotonic() + 60
            while len(done := list(ours.glob("*.json"))) < 4 and time.monotonic() < until:
                time.sleep(0.02)
            running.workers[0].kill()
            killed_after.append(len(done))

        killer = threading.Thread(target=kill_one)
        killer.start()
        # Nothing is computed in this process but what needs the report's folder.
        monkeypatch.setattr(Serial, "map", None)
        monkeypatch.setattr("miad_jax.parallel.pool.Pool.map", None)
        together = evaluate(folder, "cluster", f"--scheduler={running.address}")
        killer.join()
    assert together.returncode == 0, together.stderr
    expected = files(folder / "alone")
    assert len(expected) == 4 + 1 + 18
    assert 4 <= killed_after[0] < 18
    assert together.stdout.replace(str(folder / "cluster"), str(folder / "alone")) == alone.stdout
    found = files(folder / "cluster")
    assert set(found) == set(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


def test_a_folder_that_is_written_to_is_refused(folder):
    (folder / "out").mkdir()
    (folder / "out" / "writer.lock").write_text("12345\nnode017\n")
    refused = evaluate(folder, "out", "--num_workers=1")
    assert refused.returncode == 2
    assert "is written to by process 12345 on node017" in refused.stderr
    assert [path.name for path in Path(folder / "out").iterdir()] == ["writer.lock"]
