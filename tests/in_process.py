"""Commands run in this process, as `python -m miad_jax.COMMAND` runs them in one of its own."""

import contextlib
import importlib
import io
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from miad_jax.commands import cli

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Done:
    """What a command left behind: its exit code and what it said."""

    returncode: int
    stdout: str
    stderr: str


def run_command(name: str, *arguments: object) -> Done:
    """Run a command; an error that it does not tell in a sentence is raised."""
    # Flags keep what an earlier call gave them.
    module = importlib.reload(importlib.import_module(f"miad_jax.commands.{name}"))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    out, err = io.StringIO(), io.StringIO()
    try:
        with (
            contextlib.chdir(ROOT),
            mock.patch.object(sys, "argv", [f"miad_jax.{name}", *map(str, arguments)]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            cli.run(module.main)
    except SystemExit as ended:
        return Done(int(ended.code or 0), out.getvalue(), err.getvalue())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    raise AssertionError("a command ends with an exit code")
