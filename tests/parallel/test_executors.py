"""What every executor promises, and what worker processes promise beyond it."""

import os
import pickle
import subprocess
import sys
import textwrap
import time
from contextlib import closing

import executor_tasks
import pytest
from executor_tasks import work

from miad_jax.parallel.dask import Dask
from miad_jax.parallel.executor import Serial, WorkerFailure
from miad_jax.parallel.pool import Pool
from tests import clusters

EXECUTORS = {"serial": Serial(), "one process": Pool(1), "two processes": Pool(2)}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two Dask workers on this machine, and their executor."""
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    with (
        clusters.running(tmp_path_factory.mktemp("dask"), num_workers=2) as running,
        Dask(running.address) as executor,
    ):
        yield executor


@pytest.fixture(params=[*EXECUTORS, "dask"])
def executor(request):
    name = request.param
    return request.getfixturevalue("cluster") if name == "dask" else EXECUTORS[name]


def test_every_request_is_answered_once(executor):
    started = time.monotonic()
    requests = [*range(20), "noise", "raise", "last"]
    found = list(executor.map(work, requests))
    assert sorted(index for index, _ in found) == list(range(len(requests)))
    assert time.monotonic() - started < 40
    results = dict(found)
    failure = results.pop(requests.index("raise"))
    assert isinstance(failure, WorkerFailure)
    assert "LookupError: no such crystal" in failure.reason
    assert not failure.timed_out
    assert {i: result[0] for i, result in results.items()} == {
        i: x for i, x in enumerate(requests) if x != "raise"
    }
    if not isinstance(executor, Serial):
        processes = {result[1] for result in results.values()}
        assert os.getpid() not in processes
        assert len(processes) <= executor.num_workers + 1  # one is new after the exception
        assert not any(result[2] for result in results.values())


def test_no_request_starts_nothing(executor, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    assert list(executor.map(work, [])) == []


@pytest.fixture(params=["one process", "dask"])
def workers(request):
    """An executor whose workers may die."""
    name = request.param
    return request.getfixturevalue("cluster") if name == "dask" else EXECUTORS[name]


def test_a_worker_that_dies_or_hangs_costs_its_request_alone(workers):
    started = time.monotonic()
    requests = [0, "die", "unpicklable", "hang", 4]
    found = dict(workers.map(work, requests, seconds=2))
    assert found[1] == WorkerFailure("its worker process ended early (exit code 7)")
    assert "exit code 1) with" in found[2].reason
    assert "pickle" in found[2].reason
    assert found[3] == WorkerFailure("took longer than 2 s", timed_out=True)
    assert [found[i][0] for i in (0, 4)] == [0, 4]
    assert time.monotonic() - started < 40


def test_a_request_that_cannot_be_sent_is_an_error(workers):
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError), match=r"lambda|pickle"):
        list(workers.map(work, [1, lambda: 0]))


def test_leaving_early_ends_the_workers(monkeypatch):
    processes = []
    start = subprocess.Popen

    def remember(*arguments, **settings):
        processes.append(start(*arguments, **settings))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", remember)
    started = time.monotonic()
    with closing(Pool(2).map(work, [1, "hang", "hang", "hang"])) as found:
        assert next(found)[1][0] == 1
    assert time.monotonic() - started < 40
    assert processes
    assert all(process.poll() is not None for process in processes)


def test_functions_that_workers_cannot_find_are_refused(workers, monkeypatch):
    for function in (lambda x: x, len, EXECUTORS["serial"].map):
        with pytest.raises(ValueError, match="defined at the top level of a module"):
            workers.map(function, [1])
    monkeypatch.setattr(work, "__module__", "__main__")
    monkeypatch.setitem(sys.modules, "__main__", executor_tasks)
    with pytest.raises(ValueError, match="move the function to a module of its own"):
        workers.map(work, [1])


def test_a_script_needs_no_main_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path[:0] = {[os.path.dirname(executor_tasks.__file__)]!r}
            from executor_tasks import work
            from miad_jax.parallel.pool import Pool
            print("once", [result[0] for _, result in Pool(1).map(work, [5])])
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.stdout == "once [5]\n", done.stderr


@pytest.mark.parametrize("num_workers", [0, -1])
def test_a_pool_without_workers_is_refused(num_workers):
    with pytest.raises(ValueError, match=rf"num_workers is {num_workers}; allowed: 1 or more"):
        Pool(num_workers)
