"""Many raw rows to one packed batch of standard cells, in parallel and in order.

Workers are plain interpreters that run `standard.py`: they import no JAX, never fork a
process that runs it, and ask nothing of the calling script (no `__main__` guard). Each has
one BLAS thread.
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import numpy as np

from miad_jax.crystal import Crystal
from miad_jax.data import standard
from miad_jax.data.packed import Records, pad
from miad_jax.data.reading import Row

_CHUNK = 32
_ROWS_PER_WORKER = 128
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def pack(
    rows: Iterable[Row],
    *,
    primitive: bool = True,
    niggli: bool = True,
    num_workers: int | None = None,
    progress: bool = False,
) -> tuple[Crystal, Records]:
    """Bring every row to its standard cell and pack those that have one.

    Args:
        rows: Raw rows of a reader.
        primitive: Whether to find the primitive cell.
        niggli: Whether to Niggli-reduce the cell.
        num_workers: Worker processes at most; one for each usable core when None, this
            process when 0 or 1. A small set takes fewer.
        progress: Whether to show a progress bar on standard error.

    Returns:
        The crystals [n] in the order of their rows, and their records; rows without a
        standard cell are in `records.rejected` with the reason.

    Raises:
        ValueError: If there is no row, none could be used, or `num_workers` is negative.
    """
    from tqdm import tqdm

    rows = list(rows)
    settings = {"primitive": primitive, "niggli": niggli}
    chunks = [
        [row.source for row in rows[start : start + _CHUNK]]
        for start in range(0, len(rows), _CHUNK)
    ]
    if num_workers is None:
        num_workers = _usable_cores()
    if num_workers < 0:
        raise ValueError(f"num_workers is {num_workers}; allowed: 0 (this process), 1, 2, …")
    num_workers = min(num_workers, len(rows) // _ROWS_PER_WORKER)
    results: list[standard.Arrays | str] = []
    bar = tqdm(total=len(rows), unit="crystal", desc="packing", disable=not progress)
    with bar:
        for done in _standardize_all(chunks, settings, num_workers):
            results.extend(done)
            bar.update(len(done))
    return _assemble(rows, results)


def _usable_cores() -> int:
    """Cores that this process may use, where the system says so."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _standardize_all(
    chunks: Sequence[list[standard.Source]], settings: dict[str, bool], num_workers: int
) -> Iterator[list[standard.Arrays | str]]:
    """The results of each chunk, in order."""
    if num_workers < 2:
        for chunk in chunks:
            yield standard.standardize(chunk, **settings)
        return
    with ExitStack() as stack:
        idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        for _ in range(num_workers):
            idle.put(stack.enter_context(_worker()))
        pool = ThreadPoolExecutor(num_workers)
        stack.callback(pool.shutdown, cancel_futures=True)

        def ask(chunk: list[standard.Source]) -> list[standard.Arrays | str]:
            worker = idle.get()
            try:
                return _request(worker, chunk, settings)
            finally:
                idle.put(worker)

        yield from pool.map(ask, chunks)


@contextmanager
def _worker() -> Iterator[subprocess.Popen[bytes]]:
    """An interpreter that serves requests until its standard input closes."""
    process = subprocess.Popen(
        [sys.executable, "-P", standard.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **_ONE_THREAD},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process
    finally:
        with suppress(BrokenPipeError):  # a request that a dead worker did not take
            process.stdin.close()
        process.stdout.close()
        process.wait()


def _request(
    worker: subprocess.Popen[bytes], chunk: list[standard.Source], settings: dict[str, bool]
) -> list[standard.Arrays | str]:
    """One chunk there, its results back."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        pickle.dump((chunk, settings), worker.stdin)
        worker.stdin.flush()
        return pickle.load(worker.stdout)
    except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
        raise RuntimeError(
            f"a worker process that reads crystals ended early (exit code {worker.wait()}): it may "
            f"have run out of memory; use fewer workers, or num_workers=0 to see where it ends"
        ) from error


def _assemble(
    rows: Sequence[Row], results: Sequence[standard.Arrays | str]
) -> tuple[Crystal, Records]:
    """Separate what was packed from what was rejected, and put each where it belongs."""
    rejected = [(row.id, x) for row, x in zip(rows, results, strict=True) if isinstance(x, str)]
    used = [row for row, x in zip(rows, results, strict=True) if not isinstance(x, str)]
    arrays = [x for x in results if not isinstance(x, str)]
    if not rows:
        raise ValueError("there is no crystal to pack: the source has no rows")
    if not used:
        name, reason = rejected[0]
        raise ValueError(f"none of the {len(rows)} rows could be used; the first, {name}: {reason}")
    names = dict.fromkeys(name for row in used for name in row.columns)
    columns = {name: _column([row.columns.get(name, "") for row in used]) for name in names}
    return stack(arrays), Records([row.id for row in used], columns, rejected)


def stack(arrays: Sequence[standard.Arrays], size: int | None = None) -> Crystal:
    """Pack the arrays of several crystals to one batch; see `miad_jax.data.packed.pad`."""
    if not arrays:
        raise ValueError("there is no crystal to pack: the list is empty")
    lattices, frac_coords, atom_types = zip(*arrays, strict=True)
    return pad(
        np.stack(lattices),
        np.concatenate(frac_coords),
        np.concatenate(atom_types),
        np.array([len(x) for x in atom_types]),
        size,
    )


def _column(values: Sequence[str]) -> np.ndarray:
    """Numbers as float64, NaN where empty; text if one value is not a number, or all empty."""
    try:
        if any(values):
            return np.array([float(value or "nan") for value in values])
    except ValueError:
        pass
    return np.array(values, np.str_)
