"""Load a dataset by name or path, through a cache of packed files.

A large set is packed part by part: packing that was interrupted goes on after its last whole part.

The cache lies in `datasets/` under `$MIAD_JAX_CACHE`, else `$XDG_CACHE_HOME/miad_jax`, else
`~/.cache/miad_jax`. A file's name there is the hash of the source's content and of how it
was packed, so a changed source or setting is another file, and nothing there is ever stale.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from miad_jax.crystal import Crystal
from miad_jax.data.folder import crystal_files, may_hold_crystals
from miad_jax.data.packed import READABLE_VERSIONS, TEXT, Records, load_packed, save_packed
from miad_jax.data.packing import pack
from miad_jax.data.published import PUBLISHED
from miad_jax.data.reading import (
    READERS,
    SPLITS,
    crystal_list_rows,
    read_rows,
    split_file,
    suffix,
)
from miad_jax.data.row import Row, is_crystal_file, is_hidden
from miad_jax.parallel.executor import Executor
from miad_jax.parallel.progress import Progress
from miad_jax.spelling import did_you_mean
from miad_jax.storage.cache import default_cache_dir
from miad_jax.storage.hashed import hash_of_arrays

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

EMBEDDED = {"prototypes": Path(__file__).with_name("prototypes.npz")}
"""Datasets that come with the package, by name."""

_READING_VERSION = 3
"""To be raised when other rows of the same source are read or refused: what was packed before is
packed again. It is no part of the fingerprint, so that a training goes on after an upgrade."""

_PACKING_VERSION = 1
"""To be raised when packing gives other arrays for the same source and settings."""


def load_dataset(
    name_or_path: str | os.PathLike[str] | Sequence[Structure | Atoms],
    split: str = "train",
    *,
    primitive: bool = True,
    niggli: bool = True,
    num_workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[Crystal, Records]:
    """Load the crystals of a dataset in their standard cells, and their records.

    The first load of a file reads its CIFs; later ones read the cache. A path is one of

    - a folder with a file for each split: `train`, `val` and `test`, each .csv or .csv.gz
      with a column `cif`, or .zip, .extxyz or a folder of CIFs or POSCARs;
    - a single such file, a CIF, a POSCAR, or a folder of them: it has no splits, and "train" and
      "all" both give the whole of it;
    - a folder that `python -m miad_jax.sample` wrote, whose `samples.extxyz` is read;
    - a .npz that `save_packed` wrote, taken as it is; its column `split`, if there, selects.

    Args:
        name_or_path: "prototypes", the set that comes with the package, or a path; a path
            with the name of a set is written "./prototypes". Or crystals: pymatgen Structures,
            whose `properties` are the columns, or ASE Atoms, whose `info` is.
        split: "train", "val", "test", or "all" for the three together.
        primitive: Whether to find the primitive cell.
        niggli: Whether to Niggli-reduce the cell.
        num_workers: Worker processes that read CIFs; one for each usable core when None, this
            process when 0 or 1.
        executor: What reads the CIFs; `num_workers` then says nothing.
        progress: Where to show how many CIFs are read; True for a bar on standard error.
        cache_dir: The cache folder; the default is in the module's docstring.

    Returns:
        The crystals [n], numpy-backed, and their records. Rows that could not be used are in
        `records.rejected` with the reason.

    Raises:
        ValueError: If the name, the split or the kind of file is unknown, the split is
            missing, or the file holds no crystal that can be used.

    Example:
        >>> crystals, records = miad_jax.load_dataset("prototypes", "train")
        >>> len(crystals) == len(records.ids)
        True
    """
    if split not in (*SPLITS, "all"):
        raise ValueError(f"split is {split!r}; allowed: {', '.join(SPLITS)}, all")
    work: dict[str, Any] = {
        "primitive": primitive,
        "niggli": niggli,
        "num_workers": num_workers,
        "executor": executor,
        "progress": progress,
    }
    if not isinstance(name_or_path, str | os.PathLike):
        return _load_list(name_or_path, split, work)
    path = _existing(name_or_path)
    if suffix(path) == ".npz":
        return _load_split(path, split)

    sources = _sources(path, split)
    _warn_of_others(path)
    fingerprint = split_fingerprint(path, split, primitive=primitive, niggli=niggli)
    root = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    of_version = [
        root / "datasets" / f"{fingerprint}-v{version}-r{_READING_VERSION}.npz"
        for version in READABLE_VERSIONS
    ]
    for cached in filter(Path.exists, of_version):
        try:
            return load_packed(cached)
        except ValueError as error:
            warnings.warn(f"{error}. It is now made again.", stacklevel=2)
    cached, parts = of_version[0], of_version[0].with_suffix(".parts")
    rows, num_rows = _rows(sources), _num_rows(sources)
    crystals, records = pack(rows, num_rows=num_rows, folder=parts, **work)
    records = replace(records, fingerprint=fingerprint)
    try:
        save_packed(cached, crystals, records)
        shutil.rmtree(parts, ignore_errors=True)
    except OSError as error:
        warnings.warn(
            f"the packed dataset could not be kept ({error}), so the next load reads the CIFs "
            f"again: set MIAD_JAX_CACHE to a folder that can be written",
            stacklevel=2,
        )
    return crystals, records


def split_fingerprint(
    name_or_path: str | os.PathLike[str],
    split: str = "train",
    *,
    primitive: bool = True,
    niggli: bool = True,
) -> str:
    """The `fingerprint` of the records that `load_dataset` returns; no crystal is read for it.

    Raises:
        ValueError: If the name or the split is unknown.
    """
    path = _existing(name_or_path)
    if suffix(path) == ".npz":
        return _fingerprint([path], {"split": split})
    settings = {"packing": _PACKING_VERSION, "primitive": primitive, "niggli": niggli}
    return _fingerprint(_sources(path, split), settings)


def available_splits(
    name_or_path: str | os.PathLike[str] | Sequence[Structure | Atoms],
) -> list[str]:
    """The splits that a dataset has; ["train"] for one that is not divided, as a list.

    Raises:
        ValueError: If the name is unknown, or a packed file cannot be read.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        return ["train"]
    path = _existing(name_or_path)
    if suffix(path) == ".npz":
        column = load_packed(path)[1].columns.get("split")
        present = {0} if column is None else set(np.unique(column).astype(int).tolist())
        return [split for i, split in enumerate(SPLITS) if i in present]
    found = [split for split in SPLITS if path.is_dir() and split_file(path, split) is not None]
    return found or ["train"]


def _rows(sources: Sequence[Path]) -> Iterator[Row]:
    """The rows of all files, one by one."""
    return chain.from_iterable(map(read_rows, sources))


def _num_rows(sources: Sequence[Path]) -> int:
    """How many rows there are: reading them takes little beside making crystals of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what there is to say is said by the other reading
        return sum(1 for _ in _rows(sources))


def _existing(name_or_path: str | os.PathLike[str]) -> Path:
    """The path of a dataset."""
    if not os.fspath(name_or_path):
        raise ValueError(
            "the name of the dataset is empty: name one, or a path; '.' is this folder"
        )
    path = EMBEDDED.get(str(name_or_path), Path(name_or_path).expanduser())
    if not path.exists():
        raise ValueError(_unknown(name_or_path))
    return path


def _sources(path: Path, split: str) -> list[Path]:
    """The files that hold a split, or all of them."""
    found = {name: split_file(path, name) for name in SPLITS} if path.is_dir() else {}
    present = {name: file for name, file in found.items() if file is not None}
    if present:
        if split != "all" and split not in present:
            names = ", ".join(file.name for file in present.values())
            raise ValueError(
                f"{path} has no split {split!r}; found {names}: ask for {' or '.join(present)}, "
                f"or add {split}.csv"
            )
        return list(present.values()) if split == "all" else [present[split]]
    _check_undivided(str(path), split)
    if (path / "run.json").is_file() and (path / "batches").is_dir():
        formats = ("samples.extxyz", "cif", "poscar")  # of the same crystals
        return [next((path / x for x in formats if (path / x).exists()), path)]
    return [path]


def _warn_of_others(path: Path) -> None:
    """Tell of files that may hold crystals beside those of the splits."""
    splits = {split_file(path, name) for name in SPLITS} - {None} if path.is_dir() else set()
    if splits:
        files = [x for x in path.iterdir() if x not in splits and x.is_file()]
        files = [x for x in files if not is_hidden(Path(x.name)) and may_hold_crystals(x)]
        if files:
            warnings.warn(
                f"{path} is read without {', '.join(sorted(x.name for x in files)[:8])}: the files "
                f"of its splits are {', '.join(sorted(x.name for x in splits if x))}",
                stacklevel=3,
            )


def _check_undivided(name: str, split: str) -> None:
    """Refuse a part of a set without parts."""
    if split not in ("train", "all"):
        raise ValueError(
            f"{name} has no splits, so there is no {split!r}: ask for 'train' or 'all', which "
            f"give the whole of it, or give a folder with train.csv, val.csv and test.csv"
        )


def _load_list(
    crystals: Sequence[Structure | Atoms], split: str, work: Mapping[str, Any]
) -> tuple[Crystal, Records]:
    """Crystals that are in memory; what they are is their fingerprint."""
    _check_undivided("a list of crystals", split)
    packed, records = pack(crystal_list_rows(crystals), **work)
    arrays = {name: np.asarray(getattr(packed, name)) for name in ("lattice", "frac_coords")}
    arrays["atom_types"] = np.asarray(packed.atom_types)
    for name, column in records.columns.items():
        is_text = column.dtype == TEXT
        arrays[name] = (
            np.frombuffer(repr(column.tolist()).encode(), np.uint8) if is_text else column
        )
    return packed, replace(records, fingerprint=hash_of_arrays(arrays))


def _load_split(path: Path, split: str) -> tuple[Crystal, Records]:
    """A packed file, or the crystals of it that its column `split` gives to a split."""
    crystals, records = load_packed(path)
    records = replace(records, fingerprint=split_fingerprint(path, split))
    if split == "all" or (split == "train" and "split" not in records.columns):
        return crystals, records
    indices = np.flatnonzero(records.columns.get("split", np.array([])) == SPLITS.index(split))
    if not indices.size:
        raise ValueError(f"{path} has no crystals in split {split!r}: ask for 'all'")
    return crystals[indices], records.select(indices)


def _fingerprint(sources: Sequence[Path], settings: Mapping[str, object]) -> str:
    """SHA-256 of the settings and of every file that holds crystals, hexadecimal."""
    digest = hashlib.sha256(repr(sorted(settings.items())).encode())
    for source in sources:
        files = crystal_files(source) if source.is_dir() else [source]
        for file in files:
            named = file.name if is_crystal_file(file) else suffix(file)
            name = file.relative_to(source).as_posix() if source.is_dir() else named
            content = ""
            if file.exists():  # and no broken link
                with file.open("rb") as opened:
                    content = hashlib.file_digest(opened, "sha256").hexdigest()
            digest.update(f"\n{name} {content}".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _unknown(name: str | os.PathLike[str]) -> str:
    """What to say of a name that is neither a dataset nor a path."""
    hint = did_you_mean(str(name), EMBEDDED)
    if (published := Path(name).name) in PUBLISHED:
        hint = f" (`python -m miad_jax.download {published} --out={name}` fetches it)"
    return (
        f"no dataset and no path is called {os.fspath(name)!r}{hint}; allowed are "
        f"{', '.join(map(repr, EMBEDDED))}, or the path of a folder with train.csv, val.csv and "
        f"test.csv, of a folder of CIFs or POSCARs, or of a file that ends in "
        f"{', '.join(READERS)} or .npz"
    )
