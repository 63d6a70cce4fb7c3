"""`metrics.jsonl`: a line of JSON for every event, validation and window of steps of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


class MetricsFile:
    """The lines of one run; what a kill left half written is no line, and is taken away.

    Args:
        path: The file; it is made with the first line. None keeps nothing.
    """

    def __init__(self, path: Path | None):
        self._path = path
        if path is not None and path.exists():
            _end_last_line(path)

    def append(self, line: Mapping[str, Any]) -> None:
        """Write a line, whole or not at all.

        Raises:
            OSError: If it cannot be written; a full disk is one reason.
        """
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        content = (json.dumps(dict(line)) + "\n").encode()
        with self._path.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                while content:
                    content = content[file.write(content) :]
            except OSError as error:
                with suppress(OSError):
                    file.truncate(size)
                raise OSError(error.errno, error.strerror, str(self._path)) from error

    def has_validation(self, step: int) -> bool:
        """Whether there is a line with the validation of a step."""
        return any(line.get("step") == step and "validation_loss" in line for line in self._lines())

    def newest(self) -> dict[str, Any]:
        """The newest value of every number."""
        found: dict[str, Any] = {}
        for line in self._lines():
            found |= line
        found.pop("event", None)
        return found

    def _lines(self) -> Iterator[dict[str, Any]]:
        """Every line that can be read."""
        if self._path is None or not self._path.exists():
            return
        with self._path.open("rb") as file:
            for line in file:
                try:
                    found = json.loads(line)
                except ValueError:  # damaged by something else than a kill
                    continue
                if isinstance(found, dict):
                    yield found


def _end_last_line(path: Path) -> None:
    """Give the last line its end if it is whole, and take it away if it is not."""
    content = path.read_bytes()
    start = content.rfind(b"\n") + 1
    if not content[start:]:
        return
    try:
        json.loads(content[start:])
    except ValueError:
        os.truncate(path, start)
        return
    with path.open("ab") as file:
        file.write(b"\n")
