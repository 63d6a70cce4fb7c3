"""A worker process as its parent sees it: a plain interpreter that runs one module's file.

It imports only what that file imports, so it starts without JAX, and it is never forked from a
process that runs JAX. It has one thread for linear algebra.

Why not multiprocessing, concurrent.futures or pebble: their workers run the top level of the
user's script again, so a script needs an `if __name__ == "__main__"` guard, and they import the
function's package and whatever that script imports, which is JAX.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from miad_jax.parallel import worker
from miad_jax.parallel.executor import WorkerFailure

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PJRT_NPROC"), "1"
)
"""Variables that are read by OpenMP, OpenBLAS, MKL, and JAX on a CPU."""


def script_of(function: Callable[[Any], Any]) -> str:
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


def beside(function: Callable[[Any], Any]) -> tuple[str, ...]:
    """Names of the files that a function's script needs in its folder: its module's `BESIDE`."""
    return getattr(sys.modules[function.__module__], "BESIDE", ())


class WorkerProcess:
    """A process that takes one request at a time, started anew when it has ended.

    Args:
        script: The file that it runs.
        name: A function of that file, which answers the requests.
    """

    def __init__(self, script: str, name: str):
        self._command = [sys.executable, "-P", worker.__file__, script, name, str(os.getpid())]
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def run(self, request: bytes, seconds: float | None) -> bytes | WorkerFailure:
        """Send a pickled request and wait for its pickled result, or for the process to end.

        Args:
            request: A pickle.
            seconds: Time for it, with the start of the process; None for no limit.

        Raises:
            OSError: If the process cannot be started.
        """
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
