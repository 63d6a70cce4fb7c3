"""What the commands share: flags, one-sentence errors, signals, devices, compilation cache."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

import jax
from absl import flags

from miad_jax.config import MOVED
from miad_jax.storage.cache import default_cache_dir

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Run a command and exit: 2 for bad input, 1 for a loss not finite or a device without memory.

    Either is said in one sentence; an interrupt exits with 130.

    Args:
        main: Takes the command line with the program's name, returns the exit code.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(default_cache_dir() / "xla"))
    try:
        sys.exit(main(sys.argv))
    except (ValueError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT if isinstance(error, ValueError) else FAILED)
    except OSError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except jax.errors.JaxRuntimeError as error:
        if _OUT_OF_MEMORY not in str(error):
            raise
        print(
            f"error: the device has too little memory ({str(error).splitlines()[0]}); choose a "
            "smaller chunk_size, --config.chunk_size of train and --chunk_size of sample: fewer "
            "crystals for the network at once",
            file=sys.stderr,
        )
        sys.exit(FAILED)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues", file=sys.stderr)
        sys.exit(INTERRUPTED)


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
        print(f"{usage}\n\n{values.get_help(include_special_flags=False)}")
        sys.exit(0)
    try:
        rest = values([_with_underscores(arg) for arg in argv])
        values.flag_values_dict()  # a configuration file that could not be loaded says so here
    except (AttributeError, KeyError) as error:
        said = str(error).replace("\\n", " ").replace("\\", "").strip("\"'")
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


def stop_on_signal() -> Callable[[], bool]:
    """Take SIGTERM and a first Ctrl-C as a request: returns a function that tells whether it came.

    A second Ctrl-C interrupts at once.
    """
    asked: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        print("\nending with a checkpoint; Ctrl-C once more ends at once", file=sys.stderr)

    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    signal.signal(signal.SIGINT, interrupt)
    return lambda: bool(asked)
