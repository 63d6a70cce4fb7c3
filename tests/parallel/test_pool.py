"""Workers answer, and one that dies or hangs costs its request alone."""

import pickle
import sys
import textwrap
import time

import pytest

from miad_jax.parallel.pool import Lost, answers

SCRIPT = """
import os, sys, time

def answer(request):
    if request == "die":
        os._exit(7)
    if request == "hang":
        time.sleep(60)
    if request == "noise":
        print("nothing printed may mix with answers")
    return request, os.getpid(), "jax" in sys.modules
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT))
    return str(path)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_every_request_is_answered_once(script, num_workers):
    requests = [*range(20), "noise"]
    found = dict(answers(script, "answer", requests, num_workers=num_workers))
    assert [found[i][0] for i in range(21)] == requests
    assert len({pid for _, pid, _ in found.values()}) <= num_workers
    assert not any(jax for _, _, jax in found.values())


def test_a_worker_that_dies_costs_its_request_alone(script):
    found = dict(answers(script, "answer", [0, "die", 2, 3], num_workers=1))
    assert found[1] == Lost("its worker process ended early (exit code 7)")
    assert [found[i][0] for i in (0, 2, 3)] == [0, 2, 3]


def test_a_worker_that_hangs_is_killed(script):
    started = time.monotonic()
    found = dict(answers(script, "answer", ["hang", 1], num_workers=1, seconds=3))
    assert found[0] == Lost("took longer than 3 s", late=True)
    assert found[1][0] == 1
    assert time.monotonic() - started < 40


def test_a_request_that_cannot_be_sent_is_an_error(script):
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError), match=r"lambda|pickle"):
        list(answers(script, "answer", [1, lambda: 0], num_workers=1))


def test_leaving_early_ends_the_workers(script):
    started = time.monotonic()
    for _, answer in answers(script, "answer", [1, "hang", "hang", "hang"], num_workers=2):
        assert answer[0] == 1
        break
    assert time.monotonic() - started < 40


def test_no_request_needs_no_worker():
    assert list(answers(sys.executable, "answer", [], num_workers=2)) == []
