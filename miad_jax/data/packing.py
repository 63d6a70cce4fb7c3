"""Many raw rows to one packed batch of standard cells, in parallel and in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from miad_jax.crystal import Crystal
from miad_jax.data import standard
from miad_jax.data.packed import Records, pad
from miad_jax.data.row import Row
from miad_jax.data.text import printable
from miad_jax.parallel.executor import Executor, Serial, WorkerFailure, usable_cores
from miad_jax.parallel.pool import Pool
from miad_jax.parallel.progress import Progress, as_progress

_CHUNK = 32
_ROWS_PER_WORKER = 128


def pack(
    rows: Iterable[Row],
    *,
    primitive: bool = True,
    niggli: bool = True,
    num_workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | bool = False,
) -> tuple[Crystal, Records]:
    """Bring every row to its standard cell and pack those that have one.

    Args:
        rows: Raw rows of a reader.
        primitive: Whether to find the primitive cell.
        niggli: Whether to Niggli-reduce the cell.
        num_workers: Worker processes at most; one for each usable core when None, this
            process when 0 or 1. A small set takes fewer.
        executor: What runs the work; `num_workers` then says nothing.
        progress: Where to show how far it is; True for a bar on standard error.

    Returns:
        The crystals [n] in the order of their rows, and their records; rows without a
        standard cell are in `records.rejected` with the reason.

    Raises:
        ValueError: If there is no row, none could be used, or `num_workers` is negative.
    """
    rows = list(rows)
    results = standardize_rows(
        rows,
        primitive=primitive,
        niggli=niggli,
        num_workers=num_workers,
        executor=executor,
        progress=progress,
    )
    return _assemble(rows, results)


def standardize_rows(
    rows: Sequence[Row],
    *,
    primitive: bool = True,
    niggli: bool = True,
    num_workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | bool = False,
) -> list[standard.Arrays | str]:
    """The standard cell of every row, or the reason why it has none; arguments as of `pack`."""
    settings = {"primitive": primitive, "niggli": niggli}
    results: list[standard.Arrays | str] = [row.reason for row in rows]
    tried = [i for i, row in enumerate(rows) if not row.reason]
    parts = [tried[i : i + _CHUNK] for i in range(0, len(tried), _CHUNK)]
    requests = [([rows[i].source for i in part], settings) for part in parts]
    executor = executor or _executor(len(rows), num_workers)
    lost: list[int] = []
    with as_progress(progress).bar("reading", len(rows), "crystals") as bar:
        bar.advance(len(rows) - len(tried))
        for index, found in executor.map(standard.standardize, requests):
            part = parts[index]
            if isinstance(found, WorkerFailure):
                lost.extend(part)
            else:
                for i, result in zip(part, found, strict=True):
                    results[i] = result
            bar.advance(len(part))
    # One by one the row that cost the worker is found, and it alone has a reason.
    singles = [([rows[i].source], settings) for i in lost]
    for index, found in executor.map(standard.standardize, singles):
        failed = isinstance(found, WorkerFailure)
        results[lost[index]] = f"its reader was lost: {found.reason}" if failed else found[0]
    return [printable(x) if isinstance(x, str) else x for x in results]


def _executor(num_rows: int, num_workers: int | None) -> Executor:
    """As many workers as the rows are worth.

    Raises:
        ValueError: If `num_workers` is negative.
    """
    if num_workers is None:
        num_workers = usable_cores()
    if num_workers < 0:
        raise ValueError(f"num_workers is {num_workers}; allowed: 0 (this process), 1, 2, …")
    num_workers = min(num_workers, num_rows // _ROWS_PER_WORKER)
    return Serial() if num_workers < 2 else Pool(num_workers)


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
