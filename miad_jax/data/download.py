"""Fetch the published data sets from where their authors keep them."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from miad_jax.data.archive import check_unpacked, opened_member
from miad_jax.data.published import PUBLISHED, PublishedFile
from miad_jax.data.reading import SPLITS, read_csv, split_file
from miad_jax.data.row import is_hidden
from miad_jax.parallel.progress import Bar, Progress, as_progress
from miad_jax.spelling import did_you_mean
from miad_jax.storage.files import atomic_file

_BLOCK = 2**20
_TIMEOUT_SECONDS = 60
_LFS_POINTER = b"version https://git-lfs"
_AGAIN = "the same command tries again, --address names another place, of which no hash is known"


def download_dataset(
    name: str,
    folder: str | os.PathLike[str],
    *,
    address: str | None = None,
    progress: Progress | bool = False,
) -> dict[str, int]:
    """Fetch the splits of a published data set; files that are there already are left as they are.

    What comes from where the authors keep it must have the published SHA-256. Of another address
    no hash is known, so that only the content is checked: it must be a table of crystals.

    Args:
        name: A name of `PUBLISHED`.
        folder: Where train.csv, val.csv and test.csv go; missing folders are made.
        address: Another place that has them: of a folder with the three files, or of a zip.
        progress: Where to show what has come; True for bars on standard error.

    Returns:
        The files that came, with their numbers of crystals.

    Raises:
        ValueError: If the name is unknown, what came is not the published file or no table of
            crystals, or the address is of an unknown kind.
        ConnectionError: If something could not be fetched whole.
    """
    if name not in PUBLISHED:
        hint = did_you_mean(name, PUBLISHED)
        raise ValueError(f"no data set is called {name!r}{hint}; allowed: {', '.join(PUBLISHED)}")
    files = PUBLISHED[name] if address is None else _files_at(address.rstrip("/"))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    missing = [f"{split}.csv" for split in SPLITS if split_file(folder, split) is None]
    counts: dict[str, int] = {}
    for file_name, file in files.items():
        if file_name in missing:
            with atomic_file(folder / file_name) as opened:
                _fetch(file, opened, _AGAIN, as_progress(progress))
                counts[file_name] = _count(opened, file_name, file.address)
        elif file_name.endswith(".zip") and {"train.csv", "val.csv"} & set(missing):
            # A set may lack a test split, so a missing one alone is no reason to fetch the zip.
            with tempfile.TemporaryFile(dir=folder) as opened:
                _fetch(file, opened, _AGAIN, as_progress(progress))
                counts |= _extract(opened, missing, folder, file.address)
    return counts


def _files_at(address: str) -> Mapping[str, PublishedFile]:
    """The files of an address of which nothing else is known."""
    if address.endswith(".zip"):
        return {PurePosixPath(address).name: PublishedFile(address)}
    return {f"{split}.csv": PublishedFile(f"{address}/{split}.csv") for split in SPLITS}


def fetch_published(
    file: PublishedFile, path: Path, *, again: str, progress: Progress | bool = False
) -> None:
    """Fetch one published file; it appears whole or not at all.

    Args:
        file: Where it is, and its hash.
        path: Where it goes, in a folder that exists.
        again: What to do if it does not come, for the messages.
        progress: Where to show what has come.

    Raises:
        ConnectionError: If it could not be fetched whole.
        ValueError: If another file came.
    """
    with atomic_file(path) as opened:
        _fetch(file, opened, again, as_progress(progress))


def _fetch(file: PublishedFile, opened: IO[bytes], again: str, progress: Progress) -> None:
    """Write what an address holds, and check that it is what was published.

    Raises:
        ConnectionError: If it could not be fetched whole.
        ValueError: If it is another file.
    """
    from pooch import HTTPDownloader

    if not file.address.startswith(("http://", "https://")):
        raise ValueError(f"the address is {file.address!r}; allowed: one of http:// or https://")
    told = _Told(progress, PurePosixPath(file.address).name)
    fetch = HTTPDownloader(progressbar=told, chunk_size=_BLOCK, timeout=_TIMEOUT_SECONDS)
    try:
        fetch(file.address, opened, None)
    except OSError as error:
        raise ConnectionError(f"{file.address} could not be fetched ({error}): {again}") from error
    finally:
        told.close()
    opened.flush()
    opened.seek(0)
    if opened.read(len(_LFS_POINTER)) == _LFS_POINTER:
        raise ValueError(
            f"{file.address} holds a pointer of Git LFS in place of the file: name with --address "
            "where the file itself is (on GitHub: media.githubusercontent.com/media/…)"
        )
    size = opened.seek(0, os.SEEK_END)
    opened.seek(0)
    digest = hashlib.file_digest(opened, "sha256")  # type: ignore[arg-type]
    if file.sha256 and digest.hexdigest() != file.sha256:
        raise ValueError(
            f"{file.address} gave {size} bytes that are not the published file of "
            f"{file.num_bytes} bytes (its SHA-256 differs): {again}"
        )
    opened.seek(0)


class _Told:
    """What pooch says of a download, in bytes, told to a `Progress` in MB."""

    def __init__(self, progress: Progress, name: str):
        self.total = 0
        self._progress, self._name = progress, name
        self._done = 0
        self._bar: Bar | None = None

    def update(self, num_bytes: int) -> None:
        """Take up a block; pooch counts the last one as a whole one."""
        self._done += num_bytes
        if self._bar is None:
            self._bar = self._progress.bar(self._name, round(self.total / 1e6, 1), "MB")
        self._bar.update(round(min(self._done, self.total or self._done) / 1e6, 1))

    def reset(self) -> None:
        """Begin to count anew, as pooch does before it says that all has come."""
        self._done = 0 if self.total else self._done

    def close(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


def _extract(
    archive: IO[bytes], missing: Iterable[str], folder: Path, address: str
) -> dict[str, int]:
    """Take the missing splits out of a zip, in whichever folder of it they are."""
    counts = {}
    try:
        with zipfile.ZipFile(archive) as opened:
            wanted = [
                x
                for x in opened.infolist()
                if (name := PurePosixPath(x.filename)).name in missing and not is_hidden(name)
            ]
            check_unpacked(wanted, address, archive.seek(0, os.SEEK_END))
            for member in wanted:
                file_name = PurePosixPath(member.filename).name
                with (
                    opened_member(opened, member, address) as content,
                    atomic_file(folder / file_name) as file,
                ):
                    while block := content.read(_BLOCK):
                        file.write(block)
                    counts[file_name] = _count(file, file_name, address)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{address} is no zip that can be read: {error}") from error
    if not counts:
        raise ValueError(f"{address} holds none of {', '.join(missing)}: give another --address")
    return counts


def _count(file: IO[bytes], file_name: str, address: str) -> int:
    """The number of crystals in a table."""
    file.flush()
    try:
        return sum(1 for _ in read_csv(Path(file.name)))
    except ValueError as error:
        said = str(error).replace(file.name, "it")
        raise ValueError(f"{file_name} of {address} is no table of crystals: {said}") from error
