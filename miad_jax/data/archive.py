"""The crystals in a zip: every member is read, or named."""

from __future__ import annotations

import errno
import gzip
import lzma
import os
import stat
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

from miad_jax.data.folder import found
from miad_jax.data.row import (
    Row,
    crystal_rows,
    is_crystal_file,
    is_hidden,
    named_as_crystals,
    names_cifs,
)
from miad_jax.data.text import most_unpacked

_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, UnicodeDecodeError)
_LONGEST_HEADER = 2**16
_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz", 98: "PPMd"}


def read_zip(path: Path) -> Iterator[Row]:
    """Read the CIFs and POSCARs of a zip; the id is the name in the zip, without its ending.

    Archives in the archive and tables of crystals are warned of.

    Raises:
        ValueError: If it is not a zip, is damaged, locked, packed by an unknown method or beyond
            measure, or holds no crystal.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [
                x
                for x in archive.infolist()
                if not x.is_dir() and not is_hidden(PurePosixPath(x.filename))
            ]
            names = [PurePosixPath(x.filename) for x in members]
            crystals = sorted(
                (x for x, name in zip(members, names, strict=True) if is_crystal_file(name)),
                key=lambda x: x.filename,
            )
            if not crystals:
                raise ValueError(
                    f"{path} holds no .cif file and no POSCAR: {found([str(x) for x in names])}"
                )
            others = [x.filename for x in members if _may_hold_crystals(archive, x)]
            if others:
                warnings.warn(
                    f"{path} is read without what is packed or a table in it ({found(others)}): "
                    "unpack it, and give these by themselves",
                    stacklevel=2,
                )
            check_unpacked(crystals, path)
            for member in crystals:
                yield from _rows(archive, member, path)
    except (*_DAMAGED, OSError) as error:
        # Damage has no number, or that of a place that is not in the file.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise ValueError(f"{path} cannot be read as a zip ({error}): fetch it again") from error


def check_unpacked(members: list[zipfile.ZipInfo], archive: Path | str, size: int = 0) -> None:
    """Refuse members of an archive that unpack to more than people pack.

    Args:
        members: What is to be unpacked.
        archive: The archive's path, or what it is called.
        size: Its size in bytes; that of the file at the path when 0.

    Raises:
        ValueError: If they do.
    """
    most = most_unpacked(size or os.path.getsize(archive))
    total = sum(x.file_size for x in members)
    if total > most:
        raise ValueError(
            f"{archive} unpacks to {total >> 20} MiB, and at most {most >> 20} MiB are unpacked of "
            "an archive of its size: unpack it by hand if you trust it"
        )


@contextmanager
def opened_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: Path | str
) -> Iterator[IO[bytes]]:
    """The content of a member of an archive that is called so.

    Raises:
        ValueError: If it is locked, or packed by a method that Python does not know.
    """
    try:
        with archive.open(member) as file:
            yield file
    except NotImplementedError as error:
        method = _METHODS.get(member.compress_type, f"number {member.compress_type}")
        raise ValueError(
            f"{name} has {member.filename} packed by the method {method}, which cannot be read: "
            "unpack it and zip it anew"
        ) from error
    except RuntimeError as error:  # what zipfile raises for a password
        raise ValueError(
            f"{name} has {member.filename} locked by a password: unpack it, and give the folder"
        ) from error


def _rows(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Iterator[Row]:
    """The crystals of a member."""
    name = PurePosixPath(member.filename)
    if stat.S_ISLNK(member.external_attr >> 16):
        yield Row(member.filename, reason="is a link in an archive, which holds no crystal")
        return
    with opened_member(archive, member, path) as file:
        if name.suffix.lower() == ".gz":
            yield from _gzipped(name, file)
        else:
            yield from crystal_rows(name, file)


def _gzipped(name: PurePosixPath, file: IO[bytes]) -> Iterator[Row]:
    """The crystals of a member that is itself gzipped."""
    try:
        with gzip.open(file) as unpacked:
            yield from crystal_rows(name, cast(IO[bytes], unpacked))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        yield Row(str(name), reason=f"cannot be unpacked ({error})")


def _may_hold_crystals(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    """Whether a member that is not read is packed, or a table or file of crystals."""
    name = PurePosixPath(member.filename)
    if name.suffix.lower() == ".csv":
        with opened_member(archive, member, member.filename) as file:
            return names_cifs(file.readline(_LONGEST_HEADER).decode(errors="replace"))
    return named_as_crystals(name) and not is_crystal_file(name)
