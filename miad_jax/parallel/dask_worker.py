"""What a Dask worker does for `miad_jax.parallel.dask.Dask`.

Each thread of a Dask worker hands its request to a worker process of its own, as the bytes that
came. A potential is therefore loaded once in a process and never used by two threads, a request
that hangs or dies costs its process alone, and the Dask worker itself loads no JAX. The source of
the function comes with the request, so that every machine runs the same.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from miad_jax.parallel.executor import WorkerFailure
from miad_jax.parallel.process import WorkerProcess


@dataclass(frozen=True)
class Call:
    """A call of `Dask.map`: what is the same for all its requests.

    Attributes:
        id: Tells calls apart.
        sources: Content of the module's file, and of those that it needs beside it, by name.
        function: Name of the function in it.
        seconds: Time for one request; None for no limit.
        versions: Versions that packages must have.
    """

    id: str
    sources: Mapping[str, str]
    function: str
    seconds: float | None
    versions: Mapping[str, str]


class OtherVersions(Exception):
    """A worker has other versions than the process that gives it work."""


_lock = threading.Lock()
_idle: list[tuple[str, WorkerProcess]] = []
_busy: set[tuple[str, WorkerProcess]] = set()
_over: set[str] = set()


def answer(call: Call, request: bytes) -> bytes | WorkerFailure:
    """Have a worker process answer a pickled request with a pickled result.

    Raises:
        OtherVersions: If a package has another version here than where the request is from.
        OSError: If no process can be started.
    """
    from distributed import get_worker

    if said := differing(call.versions, {name: installed(name) for name in call.versions}):
        raise OtherVersions(said)
    here = get_worker()
    digest = hashlib.sha256(repr(sorted(call.sources.items())).encode()).hexdigest()
    script = Path(here.local_directory) / digest / next(iter(call.sources))
    with _lock:
        if call.id in _over:
            return WorkerFailure("was not begun")
        if not script.exists():
            script.parent.mkdir(exist_ok=True)
            for name, source in reversed([*call.sources.items()]):
                script.with_name(name).write_text(source, encoding="utf-8")
        mine = next((each for each in _idle if each[0] == call.id), None)
        if mine is None:
            mine = call.id, WorkerProcess(str(script), call.function)
        else:
            _idle.remove(mine)
        _busy.add(mine)
    try:
        return mine[1].run(request, call.seconds)
    finally:
        with _lock:
            _busy.remove(mine)
            _idle.append(mine)
            # Those of an earlier call, whose end was not told, make room.
            spare = len(_idle) + len(_busy) - here.state.nthreads
            ended = _idle[: max(spare, 0)] if call.id not in _over else [mine]
            _idle[:] = [each for each in _idle if each not in ended]
        for _, process in ended:
            process.kill()


def end(call_id: str) -> None:
    """End the processes of a call, also amid a request; nothing more of it is begun."""
    with _lock:
        _over.add(call_id)
        ended = [each for each in (*_idle, *_busy) if each[0] == call_id]
        _idle[:] = [each for each in _idle if each not in ended]
    for _, process in ended:
        process.kill()


def installed(package: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def differing(wanted: Mapping[str, str], found: Mapping[str, str | None]) -> str:
    """The packages that have other versions, in words; empty if there are none."""
    return ", ".join(
        f"{name} {found.get(name) or 'not installed'} instead of {wanted[name]}"
        for name in wanted
        if found.get(name) != wanted[name]
    )
