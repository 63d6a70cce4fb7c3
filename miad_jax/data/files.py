"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file beside its place and move it there: readers meet the whole file or none."""
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def is_partial(path: Path) -> bool:
    """Whether a file is what a killed `write_atomically` left."""
    return re.fullmatch(r"\..+\.\d+\.partial", path.name) is not None
