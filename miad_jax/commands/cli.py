"""What the commands share: flags, one-sentence errors, signals, devices, compilation cache."""

from __future__ import annotations

import functools
import logging
import os
import re
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

import jax
from absl import flags

from miad_jax.commands.start import (
    FAILED,
    TOO_LITTLE_MEMORY,
    end_interrupted,
    end_unread,
    handle_signals,
    interrupt,
    lacks_memory,
)
from miad_jax.config import MOVED
from miad_jax.storage.cache import default_cache_dir
from miad_jax.storage.files import out_of_space

BAD_INPUT = 2
HEADLINES = {
    "asking": "What is asked",
    "choosing": "The best of several",
    "output": "What is printed",
    "solving": "How steps are made",
}
"""By the module that defines the flags."""

_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Run a command and exit.

    The exit code is 2 for bad input; 1 for numbers that are not finite, and for a device without
    memory or a disk without space; 130 for an interrupt. Each is said in one sentence.

    Args:
        main: Takes the command line with the program's name, returns the exit code.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(default_cache_dir() / "xla"))
    # What goes wrong with a checkpoint is told below; the tasks that met it would tell it again.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    warnings.formatwarning = _warning_text
    handle_signals(interrupt)
    try:
        code = main(sys.argv)
        sys.stdout.flush()
        sys.exit(code)
    except KeyboardInterrupt:
        end_interrupted()
    except BrokenPipeError:
        end_unread()
    except Exception as error:
        said, code = _in_a_sentence(error)
        print(f"error: {said}", file=sys.stderr)
        sys.exit(code)


def _warning_text(message: Warning | str, *where: Any, **more: Any) -> str:
    """What people are told of a warning, and not which line of the code it is of."""
    return f"warning: {message}\n"


def _in_a_sentence(error: Exception) -> tuple[str, int]:
    """What to say of an error, and the exit code; an error of the program itself is raised."""
    if lacks_memory(error):
        return TOO_LITTLE_MEMORY, FAILED
    if out_of_space(error):
        file = getattr(error, "filename", None) or "a file"
        return f"no space is left for {file}: make room, and the same command continues", FAILED
    if isinstance(error, ValueError):
        return str(error), BAD_INPUT
    if isinstance(error, FloatingPointError):
        return str(error), FAILED
    if isinstance(error, OSError):
        return " ".join(str(error).split()), BAD_INPUT
    if isinstance(error, jax.errors.JaxRuntimeError) and _OUT_OF_MEMORY in str(error):
        return (
            f"the device has too little memory ({str(error).splitlines()[0]}); choose a smaller "
            "chunk_size, --config.chunk_size of train and --chunk_size of sample: fewer crystals "
            "for the network at once"
        ), FAILED
    raise error


def stop_on_signal() -> Callable[[], bool]:
    """Take a first Ctrl-C, SIGTERM or SIGHUP as a request: returns a function that tells of it.

    A second Ctrl-C interrupts at once. Python runs a handler between its own instructions, and only
    once for several signals that come during one long call, so they are counted as they come: the
    interpreter writes their numbers to a socket.
    """
    asked: list[int] = []
    reader, writer = _signal_sockets()

    def come() -> Iterator[int]:
        with suppress(BlockingIOError):
            while numbers := reader.recv(64):
                yield from numbers

    def count(number: int, frame: FrameType | None) -> None:
        asked.extend(come())
        if signal.SIGINT in asked[1:]:
            interrupt(number, frame)
        print("\nending with a checkpoint; Ctrl-C once more ends at once", file=sys.stderr)

    list(come())  # of an earlier call
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    handle_signals(count)
    return lambda: bool(asked)


@functools.cache
def _signal_sockets() -> tuple[socket.socket, socket.socket]:
    """Where numbers of signals are read and written; open as long as the process lives."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    return reader, writer


def parse(
    values: flags.FlagValues, argv: Sequence[str], usage: str, *, positional: str = ""
) -> str:
    """Parse the command line into `values`; `--help` prints the flags and exits.

    A flag's name may have dashes for underscores.

    Args:
        values: Takes the flags.
        argv: The command line, with the program's name.
        usage: Printed by `--help`.
        positional: Name of the one argument that is no flag; empty if there is none.

    Returns:
        The argument that is no flag.

    Raises:
        ValueError: If a flag is unknown or has a wrong value, with the nearest known name.
    """
    if any(arg in ("-h", "--help", "-help") for arg in argv[1:]):
        listed = values.get_help(include_special_flags=False)
        listed = re.sub(r"^[\w.]+\.(\w+):$", _headline, listed, flags=re.MULTILINE)
        print(f"{usage}\n\n{listed}", flush=True)
        sys.exit(0)
    try:
        rest = values([_with_underscores(arg) for arg in argv])
        values.flag_values_dict()  # a configuration file that could not be loaded says so here
    except (AttributeError, KeyError) as error:
        said = str(error).replace("\\n", " ").replace("\\", "").strip("\"'")
        said = said.replace("' Did", ". Did")
        raise ValueError(f"no such field of the configuration: {_moved(said, argv)}") from error
    except (flags.Error, OSError, TypeError) as error:
        # An error inside a configuration file comes as a traceback: its last line says it.
        lines = [line for line in str(error).splitlines() if line.strip()]
        said = lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}"
        raise ValueError(_moved(said, argv)) from error
    expected = 2 if positional else 1
    if len(rest) > expected:
        raise ValueError(f"unexpected argument {rest[expected]!r}: flags are given as --name=value")
    if len(rest) < expected:
        raise ValueError(f"no {positional}: name it before or behind the flags")
    return rest[-1]


def _headline(module: re.Match[str]) -> str:
    """What the flags of a module are about."""
    return f"{HEADLINES.get(module[1], 'Flags of the command')}:"


def _moved(said: str, argv: Sequence[str]) -> str:
    """What was said of an unknown field, and where it is now if version 0.1 had it."""
    for old, new in MOVED.items():
        in_a_file = f'Key "{old.rpartition(".")[2]}" does not exist' in said
        if in_a_file or any(x.startswith(f"--config.{old}") for x in argv):
            return f"config.{old} is config.{new} now"
    return said


def _with_underscores(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"
