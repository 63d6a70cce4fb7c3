"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file beside its place, moved there at the end: readers meet the whole file or none."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def is_partial(path: Path) -> bool:
    """Whether a file is what a kill left of an `atomic_file`."""
    return re.fullmatch(r"\..+\.\d+\.partial", path.name) is not None


def remove_partial_files(folder: Path) -> None:
    """Remove from a folder what kills left of `atomic_file`."""
    for path in filter(is_partial, list(folder.iterdir())):
        path.unlink(missing_ok=True)
