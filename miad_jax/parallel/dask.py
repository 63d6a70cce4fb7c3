"""A Dask cluster that the user runs, as an executor: work for as many machines as have workers.

    dask scheduler                          # on one machine; it prints its address
    dask worker tcp://host:8786             # on every machine that works, as often as wanted
    python -m miad_jax.evaluate SAMPLES --reference=DATA --scheduler=tcp://host:8786

Workers may come and go. What a worker was doing when it was lost is done again by another one; a
request over which more workers die than Dask's setting `distributed.scheduler.allowed-failures`
allows is a failure of that request alone. A worker runs as many requests at once as it has
threads, each in a process of its own (see `dask_worker`).

Every worker has miad_jax and the other packages that results depend on in the versions that this
process has. Dask sends functions and data as pickles: whoever reaches a scheduler can run any code
on its workers and on what is connected to it, so connect only to a scheduler that you trust, in a
network that you trust.
"""

from __future__ import annotations

import pickle
import uuid
import warnings
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from miad_jax.parallel.dask_worker import Call, OtherVersions, answer, differing, end, installed
from miad_jax.parallel.executor import WorkerFailure
from miad_jax.parallel.process import beside, script_of

CONNECT_SECONDS = 10.0
"""A scheduler that does not answer within it is not there."""

REQUESTS_PER_THREAD = 2
"""So many are with the cluster at a time, so that a thread that ends one finds the next."""

_ALWAYS = ("miad_jax", "distributed")


class Dask:
    """An executor of the workers of a Dask scheduler; a context manager that closes itself.

    Example:
        >>> with Dask("tcp://host:8786", packages=["pymatgen"]) as executor:  # doctest: +SKIP
        ...     found = miad_jax.evaluate("samples/mp20", "data/mp_20", executor=executor)

    Args:
        scheduler: Its address, as `dask scheduler` prints it.
        packages: What results depend on beside miad_jax. Those that are installed here must have
            the same versions on every worker.

    Raises:
        ValueError: If the package distributed is missing, no scheduler answers, it has no worker,
            or a worker has other versions.
    """

    def __init__(self, scheduler: str, packages: Collection[str] = ()):
        try:
            import distributed
        except ImportError as error:
            raise ValueError(
                f"a scheduler needs the package distributed, which cannot be imported ({error}): "
                'pip install "miad_jax[cluster]"'
            ) from error
        self.scheduler = scheduler
        here = {name: installed(name) for name in (*_ALWAYS, *packages)}
        self._versions = {name: x for name, x in here.items() if x is not None}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of versions, which are compared below
                self._client: Any = distributed.Client(
                    scheduler, timeout=CONNECT_SECONDS, set_as_default=False
                )
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(
                f"no Dask scheduler answers at {scheduler} ({error}): start one with `dask "
                "scheduler`, and give the address that it prints"
            ) from error
        try:
            self._check_workers()
        except BaseException:
            self.close()
            raise

    @property
    def num_workers(self) -> int:
        """Threads of all workers that are there now."""
        return sum(self._client.nthreads().values())

    def map(
        self,
        function: Callable[[Any], Any],
        requests: Sequence[Any],
        *,
        seconds: float | None = None,
    ) -> Generator[tuple[int, Any], None, None]:
        """Run the function on every request; see `Executor.map`.

        While there is no worker, requests wait for one. The time for a request begins when a worker
        takes it up, and includes the start of its process, if it is the first. What is sent and
        returned may not be of a class that the function's own module defines.

        Raises:
            ValueError: If the function cannot be found by a worker, or a worker cannot run it or
                has other versions than this process.
            ConnectionError: If the scheduler is lost.
            Exception: If a request cannot be pickled.
        """
        script = Path(script_of(function))
        files = [script, *map(script.with_name, beside(function))]
        sources = {file.name: file.read_text(encoding="utf-8") for file in files}
        call = Call(uuid.uuid4().hex, sources, function.__name__, seconds, self._versions)
        return self._map(call, requests)

    def _map(self, call: Call, requests: Sequence[Any]) -> Generator[tuple[int, Any], None, None]:
        """Keep the cluster busy with the requests, and end its processes at the end."""
        if not requests:
            return
        from distributed import as_completed

        todo = iter(range(len(requests)))
        index_of: dict[Any, int] = {}
        done = as_completed(loop=self._client.loop, with_results=True, raise_errors=False)
        try:
            while True:
                wanted = REQUESTS_PER_THREAD * max(self.num_workers, 1)
                while len(index_of) < wanted and (index := next(todo, None)) is not None:
                    key = f"{call.function}-{call.id}-{index}"
                    request = pickle.dumps(requests[index])
                    future = self._client.submit(answer, call, request, key=key, pure=False)
                    index_of[future] = index
                    done.add(future)
                if not index_of:
                    return
                future, result = next(done)
                index = index_of.pop(future)
                yield index, self._result(call, future.status, result)
        except OSError as error:
            raise ConnectionError(
                f"the scheduler {self.scheduler} was lost ({error}): start it again with its "
                "workers, and repeat the command to continue"
            ) from error
        finally:
            if self._client.status == "running":
                with suppress(OSError):  # it may have been lost just now
                    self._client.cancel([*index_of])
                    self._client.run(end, call.id, on_error="ignore")

    def _result(self, call: Call, status: str, result: Any) -> Any:
        """What a finished future holds.

        Raises:
            ConnectionError: If the scheduler is lost.
            ValueError: If a worker cannot run the function.
        """
        from distributed import KilledWorker

        if status == "finished":
            return result if isinstance(result, WorkerFailure) else pickle.loads(result)
        if status != "error":
            raise ConnectionError(f"a request is {status}")
        error = result[1]
        if isinstance(error, KilledWorker):
            return WorkerFailure(f"{error.allowed_failures + 1} Dask workers ended over it")
        if isinstance(error, OtherVersions):
            raise ValueError(self._other_versions("a new worker", str(error)))
        raise ValueError(
            f"a worker of {self.scheduler} cannot run {call.function} "
            f"({type(error).__name__}: {error}): see the worker's log"
        )

    def _check_workers(self) -> None:
        """Refuse a cluster without workers, and workers with other versions.

        Raises:
            ValueError: If it is so.
        """
        packages = [*self._versions]
        workers = self._client.get_versions(packages=packages)["workers"]
        if not workers:
            raise ValueError(
                f"the scheduler {self.scheduler} has no worker: start one with `dask worker "
                f"{self.scheduler}`, on any machine that reaches it"
            )
        for address, found in workers.items():
            if said := differing(self._versions, found["packages"]):
                raise ValueError(self._other_versions(f"the worker {address}", said))

    def _other_versions(self, worker: str, said: str) -> str:
        return (
            f"{worker} of the scheduler {self.scheduler} has {said}: results would depend on the "
            "worker; install the same versions, or start the worker in this environment"
        )

    def close(self) -> None:
        """Leave the scheduler; its workers stay."""
        self._client.close()

    def __enter__(self) -> Self:
        """Return the executor."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the scheduler."""
        self.close()
