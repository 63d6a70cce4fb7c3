"""Fetch the published data sets from where their authors keep them."""

from __future__ import annotations

import difflib
import http.client
import os
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from miad_jax.data.reading import SPLITS, read_csv, split_file
from miad_jax.storage.files import atomic_file

_CDVAE = "https://raw.githubusercontent.com/txie-93/cdvae/main/data"
_MATTERGEN = "https://media.githubusercontent.com/media/microsoft/mattergen/main/data-release"
PUBLISHED = {
    "mp_20": f"{_CDVAE}/mp_20",
    "perov_5": f"{_CDVAE}/perov_5",
    "carbon_24": f"{_CDVAE}/carbon_24",
    "alex_mp_20": f"{_MATTERGEN}/alex-mp/alex_mp_20.zip",
}
"""Where the data sets are: a folder with a CSV for each split, or a zip of them."""

_BLOCK = 2**20
_TIMEOUT_SECONDS = 60

Report = Callable[[str, int, int], None]
"""Told the name of a file, the bytes that have come, and all of them; 0 for all if unknown."""


def download_dataset(
    name: str,
    folder: str | os.PathLike[str],
    *,
    address: str | None = None,
    report: Report = lambda name, done, total: None,
) -> dict[str, int]:
    """Fetch the splits of a published data set; files that are there already are left as they are.

    Args:
        name: A name of `PUBLISHED`.
        folder: Where train.csv, val.csv and test.csv go; missing folders are made.
        address: Another place that has them: of a folder with the three files, or of a zip.
        report: Called as bytes come.

    Returns:
        The files that came, with their numbers of crystals.

    Raises:
        ValueError: If the name is unknown, or what came is no table of crystals.
        ConnectionError: If something could not be fetched whole.
    """
    if name not in PUBLISHED:
        hint = did_you_mean(name, PUBLISHED)
        raise ValueError(f"no data set is called {name!r}{hint}; allowed: {', '.join(PUBLISHED)}")
    address = (address or PUBLISHED[name]).rstrip("/")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if address.endswith(".zip"):
        return _extract(address, folder, report)
    return {
        file_name: _keep(_fetch(f"{address}/{file_name}", report), folder / file_name, address)
        for file_name in _missing(folder)
    }


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What to say behind an unknown name: the nearest known one, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _missing(folder: Path) -> list[str]:
    """The files of splits that a folder has in no form that `load_dataset` reads."""
    return [f"{split}.csv" for split in SPLITS if split_file(folder, split) is None]


def _extract(address: str, folder: Path, report: Report) -> dict[str, int]:
    """Fetch a zip and take the missing splits out of it, in whichever folder of it they are."""
    missing = _missing(folder)
    if not {"train.csv", "val.csv"} & set(missing):
        return {}  # a set may lack a test split
    counts = {}
    with tempfile.TemporaryFile(dir=folder) as archive:
        for block in _fetch(address, report):
            archive.write(block)
        try:
            with zipfile.ZipFile(archive) as opened:
                for member in opened.infolist():
                    file_name = PurePosixPath(member.filename).name
                    if file_name in missing and not member.filename.startswith("__MACOSX/"):
                        with opened.open(member) as content:
                            counts[file_name] = _keep(_blocks(content), folder / file_name, address)
        except (zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{address} is no zip that can be read: {error}") from error
    if not counts:
        raise ValueError(f"{address} holds none of {', '.join(missing)}: give another --address")
    return counts


def _fetch(address: str, report: Report) -> Iterator[bytes]:
    """What an address holds, in blocks."""
    done = 0
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as response:
            total = int(response.headers.get("Content-Length") or 0)
            for block in _blocks(response):
                yield block
                done += len(block)
                report(address.rpartition("/")[2], done, total)
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(
            f"{address} could not be fetched ({error}): the same command tries again, "
            "--address names another place"
        ) from error
    if done < total:
        raise ConnectionError(
            f"{address} ended after {done} of {total} bytes: the same command tries again"
        )


def _blocks(source: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: source.read(_BLOCK), b"")


def _keep(blocks: Iterable[bytes], path: Path, address: str) -> int:
    """Put a table of crystals on disk, and return their number."""
    with atomic_file(path) as file:
        for block in blocks:
            file.write(block)
        file.flush()
        try:
            return sum(1 for _ in read_csv(Path(file.name)))
        except ValueError as error:
            said = str(error).replace(file.name, "it")
            raise ValueError(f"{path.name} of {address} is no table of crystals: {said}") from error
