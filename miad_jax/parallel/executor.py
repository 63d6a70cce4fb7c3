"""Where work outside JAX runs: the protocol, and the executor that runs it in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class WorkerFailure:
    """What comes in place of a result.

    Attributes:
        reason: What happened.
        timed_out: Whether the request took longer than it was given.
    """

    reason: str
    timed_out: bool = False


class Executor(Protocol):
    """Runs one function on many requests."""

    @property
    def num_workers(self) -> int:
        """Requests that run at the same time."""
        ...

    def map(
        self,
        function: Callable[[Any], Any],
        requests: Sequence[Any],
        *,
        seconds: float | None = None,
    ) -> Generator[tuple[int, Any], None, None]:
        """Run the function on every request.

        Args:
            function: A top-level function. Its module imports nothing of miad_jax, because
                workers run the module's file without the package around it. Files that it needs
                beside it are named in the module's `BESIDE`.
            requests: Anything that can be pickled.
            seconds: Time for one request; None for no limit.

        Yields:
            The index of a request and its result, in any order. A `WorkerFailure` comes in place
            of the result where the function raised an exception, its worker ended, or the time
            was over. To leave early, close the generator.
        """
        ...


class Serial:
    """Runs everything in this process, one after the other, without a time limit."""

    num_workers = 1

    def map(
        self,
        function: Callable[[Any], Any],
        requests: Sequence[Any],
        *,
        seconds: float | None = None,
    ) -> Generator[tuple[int, Any], None, None]:
        """Run the function on every request, in order; see `Executor.map`."""
        for index, request in enumerate(requests):
            try:
                result = function(request)
            except Exception as error:
                result = WorkerFailure(f"it raised {type(error).__name__}: {error}")
            yield index, result


def usable_cores() -> int:
    """Cores that this process may use, where the system says so."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
