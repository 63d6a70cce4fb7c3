"""The samples to be evaluated, from whatever holds them: none that was asked for is left out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from miad_jax.crystal import Crystal
from miad_jax.data import read_rows, stack, to_structures
from miad_jax.data.cif import MAX_ATOMS, too_large
from miad_jax.data.packing import standardize_rows
from miad_jax.data.sample_folder import SampleDirectory
from miad_jax.data.standard import structure_arrays
from miad_jax.data.written import as_written
from miad_jax.evaluation.describe import describe, no_crystal_row
from miad_jax.mirage import reduce
from miad_jax.parallel.executor import Executor
from miad_jax.parallel.progress import Progress, as_progress

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True)
class SampleSet:
    """Samples as they came.

    Attributes:
        rows: A described row for each, with its `id`; `reason` says why one is no crystal.
        structures: pymatgen Structures, None where there is no crystal.
    """

    rows: list[dict[str, Any]]
    structures: list[Structure | None]


Source = str | os.PathLike[str] | Crystal | Sequence["Structure | Crystal | None"] | SampleSet
"""Where samples come from."""


def load_samples(
    source: Source,
    *,
    num_workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | bool = False,
) -> SampleSet:
    """Read samples; what cannot be read becomes a row with a reason.

    Args:
        source: The folder that `python -m miad_jax.sample` wrote, whose samples are taken as
            generated, the refined ones as refined; a folder or a zip of CIFs or POSCARs, an
            extxyz, or a CSV with a column `cif`; a batch of crystals, with or without mirage
            atoms; or a list of pymatgen Structures and single Crystals, None for a sample that
            failed. A `SampleSet` is returned as it is.
        num_workers: Worker processes that read CIFs; one for each usable core when None.
        executor: What reads CIFs instead of local worker processes.
        progress: Where to show how far it has come.

    Raises:
        ValueError: If the source holds no sample at all, or is of an unknown kind.
        FileNotFoundError: If there is no such file.
    """
    if isinstance(source, SampleSet):
        return source
    if isinstance(source, Crystal):
        on_host = jax.tree.map(np.asarray, source)
        source = [on_host[i] for i in range(len(on_host))] if source.batch_shape else [on_host]
    if not isinstance(source, str | os.PathLike):
        return _from_list(list(source), progress)
    path = Path(source)
    if (path / "run.json").is_file() and (path / "batches").is_dir():
        return _from_sample_directory(path, progress)
    rows = list(read_rows(path))
    arrays = standardize_rows(
        rows,
        primitive=False,
        niggli=False,
        num_workers=num_workers,
        executor=executor,
        progress=progress,
    )
    crystals = [x if isinstance(x, str) else stack([x])[0] for x in arrays]
    return _described([row.id for row in rows], crystals, progress)


def _from_list(
    samples: Sequence[Structure | Crystal | None], progress: Progress | bool
) -> SampleSet:
    if not samples:
        raise ValueError("there is no sample to evaluate: the list is empty")
    crystals: list[Crystal | str] = []
    for sample in samples:
        try:
            if sample is None:
                crystals.append("no crystal was given")
            elif isinstance(sample, Crystal):
                crystals.append(describe(sample)["reason"] or reduce(sample)[0])
            elif len(sample) > MAX_ATOMS:
                crystals.append(too_large(len(sample)))
            else:
                crystals.append(stack([structure_arrays(sample)])[0])
        except ValueError as error:
            crystals.append(str(error))
    return _described([str(i) for i in range(len(samples))], crystals, progress)


def _from_sample_directory(path: Path, progress: Progress | bool) -> SampleSet:
    directory = SampleDirectory.read_only(path)
    samples = directory.read()
    crystals: list[Crystal | str] = [str(row["reason"]) for row in samples.rows]
    good = [i for i, row in enumerate(samples.rows) if not row["reason"]]
    refined = {i for i in good if samples.rows[i].get("refined")}
    tolerance = directory.run.get("refine_angstrom")
    if refined and not (isinstance(tolerance, int | float) and tolerance > 0):
        raise ValueError(
            f"{path / 'run.json'} says that refine_angstrom is {tolerance!r}, and samples in "
            f"{path / 'batches'} are refined: it was changed after the samples were made"
        )
    if good:
        for i, crystal in zip(good, reduce(samples.crystals[np.array(good)]), strict=True):
            crystals[i] = as_written(crystal, tolerance).crystal if i in refined else crystal
    found = _described([str(i) for i in samples.index], crystals, progress)
    for i in refined:
        found.rows[i]["refined"] = True
    return found


def _described(
    ids: Sequence[str], crystals: Sequence[Crystal | str], progress: Progress | bool
) -> SampleSet:
    """Rows and structures; a text in place of a crystal is the reason why there is none.

    An id that comes again gets a number behind it, so that every sample can be named.
    """
    rows: list[dict[str, Any]] = []
    structures: list[Structure | None] = []
    with as_progress(progress).bar("describing", len(crystals), "crystals") as bar:
        for name, crystal in zip(_distinct(ids), crystals, strict=True):
            structure = None
            if isinstance(crystal, str):
                row = no_crystal_row(crystal)
            else:
                row = describe(crystal, infused=False)
                if not row["reason"]:
                    structure = to_structures([crystal])[0]
            rows.append({"id": name, **row})
            structures.append(structure)
            bar.advance()
    return SampleSet(rows, structures)


def _distinct(ids: Sequence[str]) -> list[str]:
    """The ids, those that were there before with " (2)", " (3)", … behind them."""
    taken, found = set(ids), []
    seen: set[str] = set()
    for name in ids:
        new, number = name, 2
        while new in seen or (new != name and new in taken):
            new, number = f"{name} ({number})", number + 1
        seen.add(new)
        found.append(new)
    return found
