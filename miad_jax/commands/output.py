"""What a command says: lines for people, or one JSON object for programs; and how far it has come.

`--quiet` leaves out lines and bars. `--json` prints one object on standard output when the command
ends, and nothing else there: its files, counts and numbers. Warnings and errors stay on standard
error.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from absl import flags

from miad_jax.parallel.progress import Progress, TerminalProgress


def define(values: flags.FlagValues) -> None:
    """Define the flags."""
    flags.DEFINE_bool("quiet", False, "Say nothing but warnings and errors", flag_values=values)
    flags.DEFINE_bool(
        "json",
        False,
        "Print one JSON object on standard output at the end: files, counts and numbers",
        flag_values=values,
    )


@dataclass(frozen=True)
class Output:
    """Where a command speaks.

    Attributes:
        quiet: Whether people are told nothing.
        as_json: Whether a program reads standard output.
        progress: Where work shows how far it has come.
    """

    quiet: bool
    as_json: bool
    progress: Progress

    @classmethod
    def of(cls, values: flags.FlagValues) -> Output:
        """As the flags say."""
        progress = Progress() if values.quiet else TerminalProgress()
        return cls(values.quiet, values.json, progress)

    @classmethod
    def to_nobody(cls) -> Output:
        """As a process speaks for which another one does."""
        return cls(True, False, Progress())

    def say(self, line: str = "") -> None:
        """Tell people a result."""
        if not (self.quiet or self.as_json):
            print(line)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Tell programs the result of the command."""
        if self.as_json:
            print(json.dumps(_plain(result), ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    """A value as JSON knows it; None for a number that is not finite."""
    if isinstance(value, Mapping):
        return {str(name): _plain(x) for name, x in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(x) for x in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):  # a number of NumPy or JAX
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
