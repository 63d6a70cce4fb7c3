"""Many raw rows to one packed batch of standard cells, in parallel, in order and part by part.

The text of a part's crystals is gone when the next one is read, so memory grows with the packed
crystals alone. Parts may be kept in a folder, where packing that was interrupted goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

import jax
import numpy as np

from miad_jax.crystal import Crystal
from miad_jax.data import standard
from miad_jax.data.packed import TEXT, Records, load_packed, pad, save_packed
from miad_jax.data.row import Row
from miad_jax.data.text import printable
from miad_jax.padding import resize
from miad_jax.parallel.executor import Executor, Serial, WorkerFailure, usable_cores
from miad_jax.parallel.pool import Pool
from miad_jax.parallel.progress import Bar, Progress, as_progress

ROWS_PER_PART = 16_384
"""Minutes of work, beside which the start of worker processes costs little."""

_CHUNK = 32
_ROWS_PER_WORKER = 128
_NONE = np.empty(0, int), np.empty(0, int)

Part = tuple[Crystal, Records]
"""Some rows in their order, packed; columns are as they were read, as text."""


def pack(
    rows: Iterable[Row],
    *,
    primitive: bool = True,
    niggli: bool = True,
    num_workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | bool = False,
    num_rows: int | None = None,
    folder: Path | None = None,
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
        num_rows: Number of rows, if it is known: then they are not all held at once.
        folder: Where parts of `ROWS_PER_PART` rows are kept until all are packed, and found by the
            next call; it is of these rows and settings alone. None keeps none, as do few rows.

    Returns:
        The crystals [n] in the order of their rows, and their records; rows without a
        standard cell are in `records.rejected` with the reason.

    Raises:
        ValueError: If there is no row, none could be used, or `num_workers` is negative.
    """
    if num_rows is None:
        rows = list(rows)
        num_rows = len(rows)
    executor = executor or _executor(num_rows, num_workers)
    settings = {"primitive": primitive, "niggli": niggli}
    if num_rows <= ROWS_PER_PART:
        folder = None
    with as_progress(progress).bar("reading", num_rows, "crystals") as bar:
        return _joined([*_parts(iter(rows), settings, executor, bar, folder)])


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
    executor = executor or _executor(len(rows), num_workers)
    with as_progress(progress).bar("reading", len(rows), "crystals") as bar:
        return _standardized(rows, settings, executor, bar)


def _standardized(
    rows: Sequence[Row], settings: dict[str, bool], executor: Executor, bar: Bar
) -> list[standard.Arrays | str]:
    results: list[standard.Arrays | str] = [row.reason for row in rows]
    tried = [i for i, row in enumerate(rows) if not row.reason]
    parts = [tried[i : i + _CHUNK] for i in range(0, len(tried), _CHUNK)]
    requests = [([rows[i].source for i in part], settings) for part in parts]
    lost: list[int] = []
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


def _parts(
    rows: Iterator[Row],
    settings: dict[str, bool],
    executor: Executor,
    bar: Bar,
    folder: Path | None,
) -> Iterator[Part]:
    """The parts in order, those that are kept without asking the executor."""
    number = 0
    while block := list(islice(rows, ROWS_PER_PART)):
        path = None if folder is None else folder / f"{number:06d}.npz"
        part = None if path is None else _kept(path, len(block))
        if part is None:
            part = _packed(block, _standardized(block, settings, executor, bar))
            if path is not None:
                with suppress(OSError):  # the next call then reads them again
                    save_packed(path, *part)
        else:
            bar.advance(len(block))
        yield part
        number += 1


def _kept(path: Path, num_rows: int) -> Part | None:
    """A part that was kept, if it is there and whole."""
    try:
        crystals, records = load_packed(path)
    except (OSError, ValueError):
        return None
    return (crystals, records) if len(records) + len(records.rejected) == num_rows else None


def _packed(rows: Sequence[Row], results: Sequence[standard.Arrays | str]) -> Part:
    """Separate what was packed from what was rejected, and put each where it belongs."""
    rejected = [(row.id, x) for row, x in zip(rows, results, strict=True) if isinstance(x, str)]
    used = [row for row, x in zip(rows, results, strict=True) if not isinstance(x, str)]
    arrays = [x for x in results if not isinstance(x, str)]
    names = dict.fromkeys(name for row in used for name in row.columns)
    columns = {name: np.array([row.columns.get(name, "") for row in used], TEXT) for name in names}
    crystals = stack(arrays) if arrays else pad(np.empty((0, 3, 3)), np.empty((0, 3)), *_NONE)
    return crystals, Records([row.id for row in used], columns, rejected)


def _joined(parts: Sequence[Part]) -> tuple[Crystal, Records]:
    """All parts as one."""
    records = [x for _, x in parts]
    ids = [*chain.from_iterable(x.ids for x in records)]
    rejected = [*chain.from_iterable(x.rejected for x in records)]
    if not ids and not rejected:
        raise ValueError("there is no crystal to pack: the source has no rows")
    if not ids:
        name, reason = rejected[0]
        raise ValueError(
            f"none of the {len(rejected)} rows could be used; the first, {name}: {reason}"
        )
    size = max(crystals.size for crystals, _ in parts)
    crystals = jax.tree.map(lambda *x: np.concatenate(x), *(resize(x, size) for x, _ in parts))
    columns = {}
    for name in dict.fromkeys(name for x in records for name in x.columns):
        columns[name] = _column(
            np.concatenate([x.columns.get(name, np.full(len(x), "", TEXT)) for x in records])
        )
    return crystals, Records(ids, columns, rejected)


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


def _column(values: np.ndarray) -> np.ndarray:
    """Numbers as float64, NaN where empty; text if one value is not a number, or all empty."""
    if (values != "").any():
        with suppress(ValueError):
            return np.array([float(value or "nan") for value in values])
    return values
