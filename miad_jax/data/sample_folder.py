"""The folder that sampling writes: every batch on disk as soon as it is done, files at the end.

    run.json            what identifies the run
    batches/            one file a batch: crystals, rows and extras; the only state there is
    samples.npz         every sample as generated, mirage atoms included
    cif/, samples.csv … crystals in the formats of `exported`, as `written.as_written` gives
                        them: in the Niggli cell, right-handed, sorted by element, and refined if
                        the run says so

A batch is one file that is moved into place whole, so an interrupt loses at most the batch in
the making, and a second call goes on after the last one. The other files are made from the
batches, and made again when there are more. Batches and `samples.npz` hold arrays as generated.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, Shaped

from miad_jax.crystal import Crystal
from miad_jax.data.exported import DEFAULT_FORMATS, ONE_FILE_EACH, export
from miad_jax.data.formats import npz_bytes
from miad_jax.data.written import as_written
from miad_jax.mirage import reduce
from miad_jax.padding import resize
from miad_jax.parallel.progress import Progress, as_progress
from miad_jax.storage.files import remove_partial_files, write_atomically
from miad_jax.storage.hashed import SHA256, hashed_npz, read_npz
from miad_jax.storage.run_record import RunRecord

_RECORD = RunRecord("run.json", format="miad_jax samples 1", kind="samples", key="run")
_ARRAYS = ("lattice", "frac_coords", "atom_types", "mask")
_RESERVED = frozenset({*_ARRAYS, "index", "rows", SHA256})
BYTES_OF_A_SAMPLE = 6_000
"""What a sample takes on a disk at least: a block of 4 kB for its CIF, its share of the rest."""

_BATCH_NAME = re.compile(r"(\d+)-(\d+)\.npz")


@dataclass(frozen=True)
class Samples:
    """All samples of a directory, in the order of their index.

    Attributes:
        index: The samples' numbers in the run.
        crystals: As generated, mirage atoms included, numpy-backed; padding where batches had
            crystals of different array sizes.
        rows: A row each: `index`, `seed` (if the run has one), and what `write_batch` got.
        extra: Integer arrays by name, -1 where a batch came without.
    """

    index: Int[np.ndarray, " num"]
    crystals: Crystal
    rows: list[dict[str, Any]]
    extra: dict[str, Int[np.ndarray, "num ..."]]


@dataclass(frozen=True)
class SampleDirectory:
    """The folder of one run; made by `SampleDirectory.open`.

    Attributes:
        path: The folder.
        run: What identifies the run. Two of its entries are read here: `seed`, which every row
            gets, and `refine_angstrom`, how far atoms may move onto their crystal's symmetry.
    """

    path: Path
    run: Mapping[str, Any]

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        run: Mapping[str, Any],
        *,
        upgrade: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> SampleDirectory:
        """Begin a run in a new or empty folder, or go on with the same run.

        Args:
            path: The folder; missing folders are made.
            run: What the samples depend on (checkpoint, seed, settings), in values that JSON
                knows. How many samples are asked for is not part of it: asking for more
                continues the run.
            upgrade: Turns what an older version wrote as `run` into what this one writes.

        Raises:
            ValueError: If the folder holds another run, or files but no run.
        """
        path = Path(path)
        run = _RECORD.open(path, run, upgrade=upgrade)
        (path / "batches").mkdir(exist_ok=True)
        for folder in ("batches", *ONE_FILE_EACH):
            if (path / folder).is_dir():
                remove_partial_files(path / folder)
        return cls(path, run)

    @classmethod
    def read_only(cls, path: str | os.PathLike[str]) -> SampleDirectory:
        """The samples of whichever run a folder holds; nothing in it is touched.

        Raises:
            ValueError: If the folder holds no run.
        """
        return cls(Path(path), _RECORD.read(path))

    def done(self) -> set[int]:
        """Indices of the samples that are on disk."""
        return {index for first, last, _ in self._batches() for index in range(first, last + 1)}

    @functools.cached_property
    def _taken(self) -> set[int]:
        """Indices that are not written again; the folder is listed once, not at every batch."""
        return self.done()

    def write_batch(
        self,
        first_index: int,
        crystals: Crystal,
        rows: Sequence[Mapping[str, Any]],
        **extra: Shaped[np.ndarray, "num ..."],
    ) -> None:
        """Put a batch on disk, whole or not at all.

        Args:
            first_index: Number in the run of the batch's first sample; the others follow.
            crystals: The batch as generated, mirage atoms included.
            rows: A row each, as `describe` returns it; `reason`, `formula` and `refined` are read
                here. A crystal whose row lacks `refined` goes out in the cell it was generated in.
            **extra: Integer arrays with a row each, for example `num_real_atoms` [num, steps].

        Raises:
            ValueError: If a sample is on disk already, the batch is empty, the lengths differ, or
                an extra array has another name or type than allowed.
        """
        if not len(crystals):
            raise ValueError("the batch is empty: write at least one crystal")
        lengths = {"rows": len(rows), **{name: len(x) for name, x in extra.items()}}
        for name, length in lengths.items():
            if length != len(crystals):
                raise ValueError(
                    f"{len(crystals)} crystals, but {length} in {name!r}: give one for each crystal"
                )
        extra = {name: np.asarray(array) for name, array in extra.items()}
        for name, array in extra.items():
            if not np.issubdtype(array.dtype, np.integer):
                raise ValueError(f"{name!r} is of type {array.dtype}: extra arrays hold integers")
        if clash := sorted(_RESERVED.intersection(extra)):
            raise ValueError(f"extra arrays cannot be named {', '.join(clash)}: rename them")
        last_index = first_index + len(crystals) - 1
        indices = range(first_index, last_index + 1)
        if twice := self._taken.intersection(indices):
            raise ValueError(
                f"{len(twice)} of the samples {first_index} to {last_index} are in {self.path} "
                f"already, the first is {min(twice)}: generate only those that done() lacks"
            )
        arrays = {name: np.asarray(getattr(crystals, name)) for name in _ARRAYS}
        arrays["rows"] = np.array([json.dumps(dict(row), ensure_ascii=False) for row in rows])
        name = f"{first_index:06d}-{last_index:06d}.npz"
        write_atomically(self.path / "batches" / name, hashed_npz(arrays | extra))
        self._taken.update(indices)

    def read(self) -> Samples:
        """Read all samples that are on disk, whatever batches they came in.

        Raises:
            ValueError: If there is none, or a batch cannot be read.
        """
        index: list[int] = []
        rows: list[dict[str, Any]] = []
        batches: list[dict[str, np.ndarray]] = []
        head = {"seed": self.run["seed"]} if "seed" in self.run else {}
        for first, last, path in self._batches():
            arrays = _load(path, last + 1 - first)
            new = np.arange(first, last + 1) >= (index[-1] + 1 if index else 0)
            arrays = {name: array[new] for name, array in arrays.items()}
            numbers = np.arange(first, last + 1)[new].tolist()
            index += numbers
            for i, row in zip(numbers, arrays.pop("rows"), strict=True):
                rows.append({"index": i, **head, **json.loads(str(row))})
            batches.append(arrays)
        if not batches:
            raise ValueError(f"{self.path} holds no samples yet: write a batch first")
        extra = sorted({name for batch in batches for name in batch} - _RESERVED)
        size = max(batch["mask"].shape[1] for batch in batches)
        fields: list[list[Any]] = [[batch[name] for name in _ARRAYS] for batch in batches]
        parts = [resize(Crystal(*arrays), size) for arrays in fields]
        return Samples(
            index=np.array(index),
            crystals=jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts),
            rows=rows,
            extra={name: _join_extra(name, batches) for name in extra},
        )

    def finish(
        self, formats: Iterable[str] = DEFAULT_FORMATS, *, progress: Progress | bool = False
    ) -> Samples:
        """Make the files that people read from all samples on disk, and return the samples.

        Formats that are there from an earlier call are kept up to date. Files of single crystals
        that exist are left as they are.

        Args:
            formats: Names of `exported.PLACES`.
            progress: Where to show how far it has come.
        """
        samples = self.read()
        good = [i for i, row in enumerate(samples.rows) if not row["reason"]]
        rows = [samples.rows[i] for i in good]
        crystals = self._written(reduce(samples.crystals[good]) if good else [], rows)
        export(self.path, formats, crystals, rows, samples.rows, as_progress(progress))
        arrays = {name: getattr(samples.crystals, name) for name in _ARRAYS}
        arrays |= {"index": samples.index, **samples.extra}
        write_atomically(self.path / "samples.npz", npz_bytes(arrays))
        return samples

    def _written(
        self, crystals: Sequence[Crystal], rows: Sequence[Mapping[str, Any]]
    ) -> list[Crystal]:
        """What files hold of crystals.

        A row describes the crystal in one form, and the crystal goes out in it: as `as_written`
        gives it, and as generated where the row says nothing of refining.
        """
        found = []
        for crystal, row in zip(crystals, rows, strict=True):
            if "refined" in row:
                tolerance = self.run["refine_angstrom"] if row["refined"] else None
                crystal = as_written(crystal, tolerance).crystal
            found.append(crystal)
        return found

    def _batches(self) -> Iterator[tuple[int, int, Path]]:
        """First and last index and file of every batch, in order."""
        found = []
        for path in (self.path / "batches").iterdir():
            if match := _BATCH_NAME.fullmatch(path.name):
                found.append((int(match[1]), int(match[2]), path))
        return iter(sorted(found))


def _load(path: Path, num: int) -> dict[str, np.ndarray]:
    """Read a batch file; every array has `num` rows, and every row is a JSON object."""
    try:
        arrays = read_npz(path)
        if any(len(arrays[name]) != num for name in (*_ARRAYS, "rows")):
            raise ValueError(f"it does not hold {num} samples")
        for row in arrays["rows"]:
            json.loads(str(row))["reason"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): move it away, and the same command makes its "
            "samples again"
        ) from error
    return arrays


def _join_extra(name: str, batches: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """One extra array over all batches; -1 for batches without it."""
    known = next(batch[name] for batch in batches if name in batch)
    return np.concatenate(
        [
            batch.get(name, np.full((len(batch["mask"]), *known.shape[1:]), -1, known.dtype))
            for batch in batches
        ]
    )
