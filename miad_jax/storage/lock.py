"""One writer a folder, also where several machines share it.

The writer's mark is a file that only one process can make, with its process id, its host and when
it began. That holds on network file systems too (NFS from version 3), where other locks may not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import SoftFileLock, Timeout

LOCK = "writer.lock"
"""Name of the file."""


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Be the only process that writes to a folder, which is made if missing.

    A mark that a process of this host left when it was killed is taken over. Whether one of another
    host still runs cannot be known: people decide.

    Raises:
        ValueError: If another process writes to it, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, not a folder: name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    lock = SoftFileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0.2, poll_interval=0.02)  # taking a mark over is a second attempt
    except Timeout as error:
        raise ValueError(
            f"{folder} is written to by {_holder(folder / LOCK)}: wait for its end or name another "
            f"folder; if that process is gone, delete its mark: rm {folder / LOCK}"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _holder(path: Path) -> str:
    """Who made a mark, in words."""
    try:
        process, host, *_ = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError):  # gone by now, or not written yet
        return "another process"
    return f"process {process} on {host}"
