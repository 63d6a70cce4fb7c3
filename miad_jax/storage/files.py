"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
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


def out_of_space(error: BaseException) -> bool:
    """Whether an error tells of a disk without space, or of a quota that is used up."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(os.strerror(x) in str(error) for x in (errno.ENOSPC, errno.EDQUOT))


def is_partial(path: Path) -> bool:
    """Whether a file is what a kill left of an `atomic_file`."""
    return re.fullmatch(r"\..+\.\d+\.partial", path.name) is not None


def remove_partial_files(folder: Path) -> None:
    """Remove from a folder what kills left of `atomic_file`, an hour ago or earlier."""
    for path in filter(is_partial, list(folder.iterdir())):
        with suppress(FileNotFoundError):  # its writer has just ended
            if time.time() - path.stat().st_mtime > _LEFT_AFTER_SECONDS:
                path.unlink()
