"""What a Dask cluster promises beyond other executors, on real processes of this machine."""

import subprocess
import sys
import time
from contextlib import closing

import pytest
from executor_tasks import work

from miad_jax.parallel import dask
from miad_jax.parallel.dask import Dask
from miad_jax.parallel.executor import WorkerFailure
from tests import clusters

MISSING = "the extra `cluster` is not installed"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    pytest.importorskip("distributed", reason=MISSING)
    with clusters.running(tmp_path_factory.mktemp("dask"), num_workers=1) as running:
        yield running


def is_alive(process):
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True)
    return status.stdout.strip()[:1] not in (b"", b"Z")


def test_a_process_is_kept_for_a_call_and_ends_with_it(cluster):
    with Dask(cluster.address) as executor:
        assert executor.num_workers == 1
        found = dict(executor.map(work, range(5)))
        (process,) = {result[1] for result in found.values()}
        until = time.monotonic() + 30
        while is_alive(process) and time.monotonic() < until:
            time.sleep(0.05)
        assert not is_alive(process)


def test_leaving_early_ends_what_is_running(cluster):
    started = time.monotonic()
    with Dask(cluster.address) as executor:
        with closing(executor.map(work, [1, "hang", "hang", "hang"])) as found:
            assert next(found)[1][0] == 1
        assert [result[0] for _, result in executor.map(work, [2])] == [2]
    assert time.monotonic() - started < 40


def test_no_scheduler_no_package_no_worker(monkeypatch, tmp_path):
    pytest.importorskip("distributed", reason=MISSING)
    monkeypatch.setattr(dask, "CONNECT_SECONDS", 0.2)
    with pytest.raises(ValueError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        Dask("tcp://127.0.0.1:9")
    with pytest.raises(ValueError, match="no Dask scheduler answers at nothing at all"):
        Dask("nothing at all")
    monkeypatch.setattr(dask, "CONNECT_SECONDS", 10.0)
    with (
        clusters.running(tmp_path, num_workers=0) as running,
        pytest.raises(
            ValueError, match=f"has no worker: start one with `dask worker {running.address}`"
        ),
    ):
        Dask(running.address)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"needs the package distributed.*miad_jax\[cluster\]"):
        Dask("tcp://127.0.0.1:9")


def test_other_versions_are_refused_before_and_while_work_is_done(cluster, monkeypatch):
    monkeypatch.setattr(dask, "installed", lambda name: "0.0.7" if name == "numpy" else None)
    with pytest.raises(ValueError, match=r"the worker tcp://.* has numpy .* instead of 0\.0\.7"):
        Dask(cluster.address, packages=["numpy", "no-such-package"])
    monkeypatch.setattr(Dask, "_check_workers", lambda self: None)
    with (
        Dask(cluster.address, packages=["numpy"]) as executor,
        pytest.raises(ValueError, match=r"a new worker .* has numpy .* instead of 0\.0\.7"),
    ):
        list(executor.map(work, [1]))


@pytest.mark.slow
def test_workers_come_and_go_and_one_request_can_kill_them(tmp_path):
    pytest.importorskip("distributed", reason=MISSING)
    allowed = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
    with (
        clusters.running(tmp_path, num_workers=2, **allowed) as running,
        Dask(running.address) as executor,
    ):
        requests = [("wait", 0.2), ("wait", 0.3), "die with the parent", *range(10)]
        found = executor.map(work, requests)
        results = dict([next(found)])
        for _ in range(2):
            running.add_worker()
        results |= dict(found)
    assert results.pop(2) == WorkerFailure("2 Dask workers ended over it")
    assert {i: result[0] for i, result in results.items()} == {
        i: x for i, x in enumerate(requests) if i != 2
    }


@pytest.mark.slow
def test_a_lost_scheduler_is_said(tmp_path):
    pytest.importorskip("distributed", reason=MISSING)
    with (
        clusters.running(tmp_path, num_workers=1) as running,
        Dask(running.address) as executor,
    ):
        found = executor.map(work, [1, ("wait", 60), 3])
        assert next(found)[1][0] == 1
        running.processes[0].kill()
        with pytest.raises(ConnectionError, match=r"the scheduler tcp://.* was lost .*: start it"):
            list(found)
