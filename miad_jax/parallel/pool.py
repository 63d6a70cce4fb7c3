"""Worker processes: plain interpreters that answer requests with one function of one script.

They import nothing but what the script imports, so they start without JAX, never fork a
process that runs it, and ask nothing of the calling script (no `__main__` guard). Each has one
thread for linear algebra. A worker that dies or outlasts its time costs its request alone.

This module is both ends: imported, it is the parent's; run as a program, the worker's. As the
latter it may import the standard library only.
"""

from __future__ import annotations

import os
import pickle
import queue
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


@dataclass(frozen=True)
class Lost:
    """What comes instead of an answer.

    Attributes:
        reason: What happened to the worker.
        late: Whether it had outlasted its time.
    """

    reason: str
    late: bool = False


def usable_cores() -> int:
    """Cores that this process may use, where the system says so."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def answers(
    script: str,
    function: str,
    requests: Sequence[Any],
    *,
    num_workers: int,
    seconds: float | None = None,
) -> Generator[tuple[int, Any], None, None]:
    """Answer all requests in worker processes.

    Args:
        script: Path of the script; it is run once in each worker.
        function: Name in the script of the function that takes a request.
        requests: Anything that can be pickled.
        num_workers: Worker processes, at least 1.
        seconds: Time for one request, after which its worker is killed; None for no limit.

    Yields:
        Index of a request and its answer, or `Lost`, as they come.

    Raises:
        OSError: If no worker can be started.
        Exception: If a request cannot be pickled.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(requests)):
        todo.put(index)
    done: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
    closing = threading.Event()
    workers = [_Worker(script, function) for _ in range(min(num_workers, len(requests)))]

    def work(worker: _Worker) -> None:
        with suppress(queue.Empty):
            while not closing.is_set():
                index = todo.get_nowait()
                try:
                    done.put((index, worker.answer(requests[index], seconds)))
                except Exception as error:  # raised by the caller's loop, which waits for it
                    done.put((index, error))
        worker.close()

    threads = [threading.Thread(target=work, args=(w,), daemon=True) for w in workers]
    for thread in threads:
        thread.start()
    try:
        for _ in requests:
            index, answer = done.get()
            if isinstance(answer, Exception):
                raise answer
            yield index, answer
    finally:
        closing.set()
        for worker in workers:
            worker.kill()
        for thread in threads:
            thread.join()


class _Worker:
    """A process that answers one request at a time, started anew when it has ended."""

    def __init__(self, script: str, function: str):
        self._command = [sys.executable, "-P", __file__, script, function]
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def answer(self, request: Any, seconds: float | None) -> Any:
        """Send a request, wait for its answer; `Lost` if the process ends before."""
        with self._lock:
            if self._closed:
                return Lost("was not begun")
            if self._process is None:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, **ONE_THREAD},
                )
            process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, end) if seconds is not None else None
        if timer is not None:
            timer.start()
        try:
            pickle.dump(request, process.stdin)
            process.stdin.flush()
            return pickle.load(process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            self._process = None
            code = _end(process)
            if late.is_set():
                return Lost(f"took longer than {seconds:g} s", late=True)
            return Lost(f"its worker process ended early (exit code {code})")
        finally:
            if timer is not None:
                timer.cancel()
                timer.join()
                if late.is_set():  # it may have come just before the time was over
                    self._process = None
                    _end(process)

    def close(self) -> None:
        """Let the process end by itself."""
        if self._process is not None:
            _end(self._process)

    def kill(self) -> None:
        """End the process now; nothing more is begun."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()


def _end(process: subprocess.Popen[bytes]) -> int:
    """Close the pipes, wait for the process to end, and return its exit code."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # what a dead worker did not take
                pipe.close()
    return process.wait()


def _serve(script: str, function: str) -> None:
    """Answer requests until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing printed may mix with answers
    answer = runpy.run_path(script)[function]
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(answer(request), replies)
        replies.flush()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
