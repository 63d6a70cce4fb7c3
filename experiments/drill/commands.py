"""Run a command in a session of its own, disturb it, and look at what it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass
class Counts:
    """What happened to a stage.

    Attributes:
        disturbances: Times it was killed, got a signal, or had a full disk.
        runs: Times it was begun anew.
        faults: What went wrong, in words.
    """

    disturbances: int = 0
    runs: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: Its exit code; that of a signal is negative.
        said: What it wrote to standard error.
        disturbed: Whether it was still running when its time was over.
        left: Command lines of processes that it left behind.
    """

    code: int
    said: str
    disturbed: bool
    left: Sequence[str]


def run(
    command: Sequence[str],
    *,
    seconds: float | None = None,
    disturb: Callable[[subprocess.Popen[str]], None] = lambda process: None,
    patience_seconds: float = 300,
    variables: Mapping[str, str] = {},
) -> Ended:
    """Run a command, and disturb it after some time.

    Args:
        command: The command line.
        seconds: When it is disturbed; None lets it end.
        disturb: What is done to it then.
        patience_seconds: How long it may go on after that before it is killed.
        variables: Of its environment, beside those of this process.
    """
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **variables},
    )
    disturbed, said = False, ""
    try:
        said = process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        disturbed = True
        disturb(process)
        try:
            said = process.communicate(timeout=patience_seconds)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            said = f"went on for {patience_seconds:g} s\n{process.communicate()[1]}"
    left = left_alive(process.pid)
    for number, _ in left:
        os.kill(number, signal.SIGKILL)
    return Ended(process.returncode, said, disturbed, [line for _, line in left])


def left_alive(session: int, patience_seconds: float = 10) -> list[tuple[int, str]]:
    """Ids and command lines of the processes of a session that are there even after a while."""
    for _ in range(int(patience_seconds / 0.25)):
        numbers = [int(x) for x in os.listdir("/proc") if x.isdigit()]
        found = [(x, line) for x in numbers if (line := _line_in(session, x))]
        if not found:
            break
        time.sleep(0.25)
    return found


def _line_in(session: int, number: int) -> str:
    """The command line of a process, if it is of the session and no zombie; else empty."""
    try:
        folder = Path(f"/proc/{number}")
        state, _, _, of = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        if int(of) != session or state == "Z":
            return ""
        return (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode() or "?"
    except (OSError, ValueError):
        return ""


def differing(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """What is missing, too much, or other than in the undisturbed run."""
    names = sorted(expected.keys() | found.keys())
    return [
        f"{name}: {found.get(name, 'missing')[:20]}, undisturbed {expected.get(name, 'none')[:20]}"
        for name in names
        if expected.get(name) != found.get(name)
    ]
