"""The crystals in a folder: every file that is there is read, or named."""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from miad_jax.data.row import (
    Row,
    crystal_rows,
    is_crystal_file,
    is_hidden,
    named_as_crystals,
    names_cifs,
)
from miad_jax.data.text import open_unpacked, table_lines


def crystal_files(folder: Path) -> list[Path]:
    """The CIFs and POSCARs in a folder and those below it, sorted by name, and broken links.

    Links to files and folders are followed. What is hidden is left out: editors, notebooks and
    systems keep copies there.
    """
    found = [x for x in _files(folder) if is_crystal_file(x) or not x.exists()]
    return sorted(found)


def read_folder(path: Path) -> Iterator[Row]:
    """Read the CIFs and POSCARs of a folder; other files that may hold crystals are warned of.

    The id is the name in the folder, without `.cif`, `.vasp` or `.poscar`.

    Raises:
        ValueError: If there is none.
    """
    files = crystal_files(path)
    if not any(file.exists() for file in files):
        raise ValueError(
            f"the folder {path} holds no .cif file and no POSCAR: {found(os.listdir(path))}"
        )
    others = [x for x in _files(path) if x not in set(files) and may_hold_crystals(x)]
    if others:
        names = found([x.relative_to(path).as_posix() for x in others])
        warnings.warn(
            f"the folder {path} is read without what is packed or a table in it ({names}): unpack "
            "it, or give it by itself",
            stacklevel=2,
        )
    for file in files:
        folder = file.relative_to(path).parent
        for row in read_crystal_file(file):
            yield replace(row, id=(folder / row.id).as_posix())


def read_crystal_file(path: Path) -> Iterator[Row]:
    """Read one CIF or POSCAR, plain or gzipped; its crystals are named after the file."""
    if not path.exists():
        yield Row(path.name, reason=f"is a link to {os.readlink(path)}, which is not there")
        return
    try:
        with open_unpacked(path) as file:
            yield from crystal_rows(Path(path.name), file)
    except (EOFError, zlib.error, OSError) as error:
        if path.suffix.lower() != ".gz":
            raise
        yield Row(path.name, reason=f"cannot be unpacked ({error})")


def found(names: list[str]) -> str:
    """What is there instead, in a few words."""
    shown = ", ".join(name[:80] for name in sorted(names)[:8])
    return f"found {shown}{', …' if len(names) > 8 else ''}" if names else "it is empty"


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder that are not hidden, and links that lead nowhere."""
    for root, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        here = Path(root)
        real = {x.resolve() for x in (here, *here.parents)}
        # A link to a folder above it, or on the way to it, would lead round and round.
        above = {y for x in real for y in (x, *x.parents)}
        folders[:] = [x for x in folders if (here / x).resolve() not in above]
        folders[:] = [x for x in folders if not is_hidden(Path(x))]
        for name in names:
            path = here / name
            if not is_hidden(Path(name)) and (path.is_file() or not path.exists()):
                yield path


def _refuse(error: OSError) -> None:
    raise error


def may_hold_crystals(path: Path) -> bool:
    """Whether a file is packed, or of a kind that is not read in a folder."""
    if path.suffix.lower() == ".csv":
        return _has_crystals(path)
    return named_as_crystals(path)


def _has_crystals(table: Path) -> bool:
    """Whether a table has a column of CIFs; a table of properties has none."""
    try:
        return names_cifs(next(table_lines(table), ""))
    except (OSError, ValueError):  # it is no table that we read
        return False
