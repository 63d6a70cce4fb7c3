"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_LEFT_AFTER_SECONDS = 3600.0
"""A half-written file that did not change for so long is what a kill left; younger ones may be
those of another process, perhaps on another machine."""


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file beside its place, moved there at the end: readers meet the whole file or none.

    Several writers of one place, also on several machines, each write a file of their own.

    Raises:
        OSError: Naming the file, if it cannot be written; a full disk is one reason.
    """
    partial = path.with_name(f".{path.name}.{secrets.randbits(64)}.partial")
    try:
        with partial.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(partial)):
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def replace_files(folder: Path, contents: Mapping[str, bytes], pattern: str) -> None:
    """Make some files all of their kind in a folder; others that match are removed.

    No other process may write to the folder. Files whose content is right already stay as they are.

    Args:
        folder: It is made if missing.
        contents: By file name.
        pattern: What the names of such files match, as a regular expression.
    """
    folder.mkdir(exist_ok=True)
    remove_partial_files(folder, only_writer=True)
    for path in folder.iterdir():
        if path.name not in contents and re.fullmatch(pattern, path.name):
            path.unlink(missing_ok=True)
    for name, content in contents.items():
        path = folder / name
        if not path.exists() or path.read_bytes() != content:
            write_atomically(path, content)


def check_space(folder: Path, num: int, bytes_of_each: int, noun: str) -> None:
    """Refuse to begin what the disk has no space for.

    Args:
        folder: Where it is to be.
        num: How many things.
        bytes_of_each: What one of them takes at least.
        noun: What they are.

    Raises:
        ValueError: If they do not fit.
    """
    free = shutil.disk_usage(folder).free
    if num * bytes_of_each > free:
        raise ValueError(
            f"{num} {noun} take {num * bytes_of_each / 1e9:.3g} GB or more, and {free / 1e9:.3g} "
            f"GB are free at {folder}: ask for at most {free // bytes_of_each} more, or name a "
            "folder on a larger disk"
        )


def out_of_space(error: BaseException) -> bool:
    """Whether an error tells of a disk without space, or of a quota that is used up."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(os.strerror(x) in str(error) for x in (errno.ENOSPC, errno.EDQUOT))


def is_partial(path: Path) -> bool:
    """Whether a file is what a kill left of an `atomic_file`."""
    return re.fullmatch(r"\..+\.\d+\.partial", path.name) is not None


def remove_partial_files(folder: Path, *, only_writer: bool = False) -> None:
    """Remove from a folder what kills left of `atomic_file`, an hour ago or earlier.

    Args:
        folder: The folder.
        only_writer: Whether no other process writes to it; then younger files go too.
    """
    for path in filter(is_partial, list(folder.iterdir())):
        with suppress(FileNotFoundError):  # its writer has just ended
            if only_writer or time.time() - path.stat().st_mtime > _LEFT_AFTER_SECONDS:
                path.unlink()
