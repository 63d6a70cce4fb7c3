"""NequIX on a cluster: tasks of a few crystals, whose results are those of one machine."""

import csv
import importlib
import os
import threading
import time

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from miad_jax import load_dataset, to_structures
from miad_jax.evaluation.stability import nequix
from miad_jax.evaluation.stability.moving import JaxPotential
from miad_jax.evaluation.stability.nequix_task import relax_few
from miad_jax.evaluation.stability.on_cluster import CRYSTALS_PER_TASK, relax_on_cluster
from miad_jax.evaluation.stability.suitability import request_of
from miad_jax.parallel.executor import WorkerFailure
from tests import clusters
from tests.in_process import ROOT, run_command

RELAX = importlib.import_module("miad_jax.evaluation.stability.relax")
FACTS = {
    "energies_are_corrected": False,
    "version": "nequix 0",
    "weights": "some.nqx",
    "weights_sha256": "0" * 64,
}
LOST = WorkerFailure("its worker process ended early (exit code -9)")


def chain(num_atoms, length):
    """Atoms on a line; the length of the cell tells crystals apart."""
    coords = [[(i + 0.5) / num_atoms, 0, 0] for i in range(num_atoms)]
    return Structure(Lattice.orthorhombic(3.0 * num_atoms, 3, length), ["Si"] * num_atoms, coords)


class FakeCluster:
    """Answers the last task first, with energies that name the crystal; some tasks are lost."""

    def __init__(self, num_workers=2, deadly=()):
        self.num_workers, self.deadly = num_workers, deadly
        self.calls = []

    def map(self, function, requests, *, seconds=None):
        assert function is relax_few
        assert seconds is None, "the time of a task has no limit of its own"
        self.calls.append(requests)
        for number, task in reversed([*enumerate(requests)]):
            lengths = [crystal["lattice"][2][2] for crystal in task["crystals"]]
            yield number, LOST if {*lengths} & {*self.deadly} else [*map(record, task["crystals"])]

    def sizes(self, call):
        return [[len(x["atomic_numbers"]) for x in task["crystals"]] for task in self.calls[call]]


def record(crystal):
    kept = {name: crystal[name] for name in ("lattice", "frac_coords")}
    energy = -crystal["lattice"][2][2]
    return {"status": "converged", "steps": 1, "energy_ev_per_atom": energy, **kept}


def test_crystals_of_one_size_share_a_task_and_results_find_their_crystals(monkeypatch):
    monkeypatch.setattr(RELAX, "Dask", FakeCluster)
    monkeypatch.setattr(RELAX, "relax_in_batches", None)
    sizes = [1, 4, 2, 3, 1, 4, 2]
    structures = [chain(n, 3 + i / 8) for i, n in enumerate(sizes)]
    cluster = FakeCluster(num_workers=3)
    found = RELAX.relax(
        [*structures, None], calculator="nequix", facts=FACTS, executor=cluster,
        seconds_per_crystal=7,
    )  # fmt: skip
    assert cluster.sizes(0) == [[4, 4], [3, 2], [2, 1], [1]]
    assert {task["seconds"] for task in cluster.calls[0]} == {7}
    crystals = [crystal for task in cluster.calls[0] for crystal in task["crystals"]]
    assert {(x["weights_file"], x["weights_sha256"]) for x in crystals} == {("", "0" * 64)}
    assert [x.energy_ev_per_atom for x in found[:-1]] == [-3 - i / 8 for i in range(7)]
    assert [x.structure for x in found[:-1]] == structures
    assert found[-1].status == "failed"


@pytest.mark.parametrize(
    ("num", "num_workers", "expected"),
    [(40, 1, [16, 16, 8]), (5, 8, [1] * 5), (5, 0, [5]), (0, 2, [])],
)
def test_tasks_are_small_and_for_all_workers(num, num_workers, expected):
    assert CRYSTALS_PER_TASK == 16
    cluster = FakeCluster(num_workers)
    requests = [request_of(chain(1, 3 + i / 8)) for i in range(num)]
    found = dict(relax_on_cluster(requests, cluster, None))
    assert [len(task) for call in cluster.calls for task in cluster.sizes(0)] == expected
    assert found == {i: record(request) for i, request in enumerate(requests)}


def test_a_crystal_that_ends_its_process_costs_its_own_result_only():
    cluster = FakeCluster(deadly=[3.25])
    requests = [request_of(chain(1, 3 + i / 8)) for i in range(6)]
    found = dict(relax_on_cluster(requests, cluster, None))
    assert [cluster.sizes(0), cluster.sizes(1)] == [[[1] * 3] * 2, [[1]] * 3]
    assert found.pop(2) == LOST
    assert found == {i: record(requests[i]) for i in (0, 1, 3, 4, 5)}


def test_other_weights_are_refused_in_a_sentence(monkeypatch, tmp_path):
    crystal = request_of(chain(1, 3)) | {"weights_file": str(tmp_path / "x.nqx")} | FACTS
    task = {"crystals": [crystal], "seconds": None}
    assert "No such file" in relax_few(task)
    other = JaxPotential("NequIX", 5.0, {}, None, {"weights_sha256": "1" * 64})
    monkeypatch.setattr(nequix, "load_nequix", lambda path: other)
    said = relax_few(task)
    assert said.startswith("a worker on ")
    assert "other weights of NequIX" in said
    assert "0" * 64 in said
    assert "1" * 64 in said

    class Refusing(FakeCluster):
        def map(self, function, requests, *, seconds=None):
            yield 0, function(requests[0])

    with pytest.raises(ValueError, match="has other weights of NequIX"):
        list(relax_on_cluster([crystal], Refusing(), None))


@pytest.mark.slow
def test_energies_are_those_of_one_machine_also_if_a_worker_is_lost(
    real_data, tmp_path, monkeypatch
):
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    pytest.importorskip("nequix", reason="the extra `nequix` is not installed")
    crystals, _ = load_dataset(real_data / "mp_20", "val")
    small = np.flatnonzero((crystals.num_atoms <= 6) & (crystals.num_atoms > 1))
    structures = to_structures(crystals[np.random.default_rng(0).permutation(small)[:4]])
    (tmp_path / "crystals").mkdir()
    for i, structure in enumerate(structures):
        structure.scale_lattice(1.03 * structure.volume)
        structure.to(filename=str(tmp_path / "crystals" / f"{i}.cif"))
    given = ("relax", tmp_path / "crystals", "--calculator=nequix", "--max_steps=25")
    weights = f"--weights={real_data / 'potentials' / 'nequix-oam-1.nqx'}"
    alone = run_command(*given, weights, f"--out={tmp_path / 'alone'}", "--num_workers=1")
    assert alone.returncode == 0, alone.stderr
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with clusters.running(tmp_path, num_workers=2, PYTHONPATH=path) as running:
        monkeypatch.setattr(RELAX, "relax_in_batches", None)
        busy = []

        def kill_one():
            until = time.monotonic() + 120
            while len(busy) < 2 and time.monotonic() < until:
                time.sleep(0.05)
                busy[:] = tmp_path.glob("**/nequix_task.py")
            running.workers[0].kill()

        killer = threading.Thread(target=kill_one)
        killer.start()
        on_cluster = (*given, weights, f"--scheduler={running.address}")
        together = run_command(*on_cluster, f"--out={tmp_path / 'together'}")
        killer.join()
    assert together.returncode == 0, together.stderr
    assert len(busy) == 2, "a worker was killed over its task"
    rows = [
        [*csv.DictReader((tmp_path / out / "relaxed.csv").open())] for out in ("alone", "together")
    ]
    assert len(rows[0]) == 4
    for expected, found in zip(*rows, strict=True):
        assert (found["id"], found["status"]) == (expected["id"], expected["status"])
        assert float(found["raw_energy_ev_per_atom"]) == pytest.approx(
            float(expected["raw_energy_ev_per_atom"]), abs=1e-4
        )
