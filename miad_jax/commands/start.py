"""Start a command: what must be right before its libraries are imported."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from pathlib import Path

from miad_jax.storage.cache import passing_folder

FAILED = 1
TOO_LITTLE_MEMORY = (
    "this machine has too little memory for it: give it more, or fewer crystals at once"
)


def start(name: str) -> None:
    """Import a command of `miad_jax.commands` and run it; exits with its exit code.

    Libraries look for a home when they are imported. A user without one, as in a container, gets a
    folder that is gone when the process ends.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(passing_folder())
    try:
        cli = importlib.import_module("miad_jax.commands.cli")
        command = importlib.import_module(f"miad_jax.commands.{name}")
    except (MemoryError, ImportError, OSError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        print(f"error: {TOO_LITTLE_MEMORY}", file=sys.stderr)
        sys.exit(FAILED)
    cli.run(command.main)


def lacks_memory(error: BaseException) -> bool:
    """Whether an error tells of too little memory for this process."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    said = str(error).lower()
    words = ("cannot allocate memory", "failed to map segment", "can't start new thread")
    return isinstance(error, ImportError | OSError | RuntimeError) and any(x in said for x in words)
