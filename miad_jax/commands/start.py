"""Start a command: what must be right before its libraries are imported."""

from __future__ import annotations

import _thread
import errno
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from miad_jax.storage.cache import passing_folder

FAILED, INTERRUPTED = 1, 130
TOO_LITTLE_MEMORY = (
    "this machine has too little memory for it: give it more, or fewer crystals at once"
)


def start(name: str) -> None:
    """Import a command of `miad_jax.commands` and run it; exits with its exit code.

    Libraries look for a home when they are imported. A user without one, as in a container, gets a
    folder that is gone when the process ends. What a terminal has no character for is spelt out.
    """
    handle_signals(interrupt)
    sys.unraisablehook = _interrupt_again
    for stream_name in ("stdout", "stderr"):
        if getattr(sys, stream_name) is None:  # it was closed
            # The next file that is opened would take its place.
            setattr(sys, stream_name, open(os.devnull, "w", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(passing_folder())
    try:
        cli = importlib.import_module("miad_jax.commands.cli")
        command = importlib.import_module(f"miad_jax.commands.{name}")
    except KeyboardInterrupt:
        end_interrupted()
    except (MemoryError, ImportError, OSError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        print(f"error: {TOO_LITTLE_MEMORY}", file=sys.stderr)
        sys.exit(FAILED)
    cli.run(command.main)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Interrupt the command, whose folder is then left in order.

    A signal that comes during that ends the process at once; its workers end by themselves.
    """
    handle_signals(lambda number, frame: os._exit(INTERRUPTED))
    raise KeyboardInterrupt


def _interrupt_again(lost: sys.UnraisableHookArgs) -> None:
    """Interrupt once more where Python dropped it, as in callbacks and finalizers."""
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    handle_signals(interrupt)
    threading.Timer(0.05, _thread.interrupt_main, [signal.SIGTERM]).start()  # SIGINT may be ignored


def end_unread() -> NoReturn:
    """Exit where nobody reads the output any more, as behind `| head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is not written yet
    sys.exit(FAILED)


def end_interrupted() -> NoReturn:
    """Say that the command was interrupted, and exit."""
    print("\ninterrupted; the same command continues", file=sys.stderr)
    sys.exit(INTERRUPTED)


def handle_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    """Handle what asks for the end; a signal that is ignored, as SIGHUP under nohup, stays so."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def lacks_memory(error: BaseException) -> bool:
    """Whether an error tells of too little memory for this process."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    said = str(error).lower()
    words = ("cannot allocate memory", "failed to map segment", "can't start new thread")
    return isinstance(error, ImportError | OSError | RuntimeError) and any(x in said for x in words)
