"""Local worker processes: plain interpreters that run one function of one module's file.

A worker imports only what that file imports, so it starts without JAX, and it never forks a
process that runs JAX. Each has one thread for linear algebra. A worker that dies or takes too
long costs its request alone.

Why not multiprocessing, concurrent.futures or pebble: their workers run the top level of the
user's script again, so a script needs an `if __name__ == "__main__"` guard, and they import the
function's package and whatever that script imports, which is JAX.
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import Any

from miad_jax.parallel import worker
from miad_jax.parallel.executor import WorkerFailure, usable_cores

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class Pool:
    """An executor of local worker processes; they live as long as a call of `map`.

    Args:
        num_workers: Worker processes at most; one for each usable core when None.

    Raises:
        ValueError: If `num_workers` is below 1.
    """

    def __init__(self, num_workers: int | None = None):
        if num_workers is not None and num_workers < 1:
            raise ValueError(
                f"num_workers is {num_workers}; allowed: 1 or more, or None for one for each core"
            )
        self.num_workers = usable_cores() if num_workers is None else num_workers

    def map(
        self,
        function: Callable[[Any], Any],
        requests: Sequence[Any],
        *,
        seconds: float | None = None,
    ) -> Generator[tuple[int, Any], None, None]:
        """Run the function on every request; see `Executor.map`.

        The time for a request includes the start of its worker, if it is the worker's first.
        What is sent and returned may not be of a class that the function's own module defines.

        Raises:
            ValueError: If the function cannot be found by a worker.
            OSError: If no worker can be started.
            Exception: If a request cannot be pickled.
        """
        script = _script_of(function)
        return _map(script, function.__name__, requests, self.num_workers, seconds)


def _script_of(function: Callable[[Any], Any]) -> str:
    """The file that defines a function.

    Raises:
        ValueError: If a worker would not find the function there, or would run a user's script.
    """
    module = sys.modules.get(getattr(function, "__module__", ""))
    name = getattr(function, "__qualname__", "")
    script = getattr(module, "__file__", None)
    if script is None or getattr(module, name, None) is not function:
        raise ValueError(
            f"worker processes cannot run {function!r}: give a function that is defined at the top "
            "level of a module"
        )
    if function.__module__ == "__main__":
        raise ValueError(
            f"worker processes cannot run {name} of the script {script}, because they would run "
            "the whole script: move the function to a module of its own and import it"
        )
    return script


def _map(
    script: str, name: str, requests: Sequence[Any], num_workers: int, seconds: float | None
) -> Generator[tuple[int, Any], None, None]:
    """Share the requests among workers, each of which a thread waits for."""
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(requests)):
        todo.put(index)
    done: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
    closing = threading.Event()
    workers = [_Worker(script, name) for _ in range(min(num_workers, len(requests)))]

    def work(worker: _Worker) -> None:
        with suppress(queue.Empty):
            while not closing.is_set():
                index = todo.get_nowait()
                try:
                    done.put((index, worker.run(requests[index], seconds)))
                except Exception as error:  # raised by the caller's loop, which waits for it
                    done.put((index, error))
        worker.close()

    threads = [threading.Thread(target=work, args=(w,), daemon=True) for w in workers]
    for thread in threads:
        thread.start()
    try:
        for _ in requests:
            index, result = done.get()
            if isinstance(result, Exception):
                raise result
            yield index, result
    finally:
        closing.set()
        for each in workers:
            each.kill()
        for thread in threads:
            thread.join()


class _Worker:
    """A process that takes one request at a time, started anew when it has ended."""

    def __init__(self, script: str, name: str):
        self._command = [sys.executable, "-P", worker.__file__, script, name]
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def run(self, request: Any, seconds: float | None) -> Any:
        """Send a request and wait for its result, or for the process to end."""
        with self._lock:
            if self._closed:
                return WorkerFailure("was not begun")
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
        said = ""
        try:
            pickle.dump(request, process.stdin)
            process.stdin.flush()
            succeeded, result = pickle.load(process.stdout)
            if succeeded:
                return result
            said = f" with {result}"
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            pass
        finally:
            if timer is not None:
                timer.cancel()
                timer.join()
                if late.is_set():  # the result may have come just before the time was over
                    self._process = None
                    _end(process)
        self._process = None
        code = _end(process)
        if late.is_set():
            return WorkerFailure(f"took longer than {seconds:g} s", timed_out=True)
        return WorkerFailure(f"its worker process ended early (exit code {code}){said}")

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
