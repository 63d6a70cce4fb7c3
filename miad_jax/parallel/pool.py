"""Local worker processes, of which one that dies or takes too long costs its request alone."""

from __future__ import annotations

import pickle
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import Any

from miad_jax.parallel.executor import usable_cores
from miad_jax.parallel.process import WorkerProcess, script_of


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
        script = script_of(function)
        return _map(script, function.__name__, requests, self.num_workers, seconds)


def _map(
    script: str, name: str, requests: Sequence[Any], num_workers: int, seconds: float | None
) -> Generator[tuple[int, Any], None, None]:
    """Share the requests among workers, each of which a thread waits for."""
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(requests)):
        todo.put(index)
    done: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
    closing = threading.Event()
    workers = [WorkerProcess(script, name) for _ in range(min(num_workers, len(requests)))]

    def work(worker: WorkerProcess) -> None:
        with suppress(queue.Empty):
            while not closing.is_set():
                index = todo.get_nowait()
                try:
                    said = worker.run(pickle.dumps(requests[index]), seconds)
                    done.put((index, pickle.loads(said) if isinstance(said, bytes) else said))
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
