"""Three ways to disturb a stage: kills, signals that ask for the end, and a full disk."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from experiments.drill.commands import Counts, Ended, differing, run
from experiments.drill.stages import Stage, broken

FAILED, BAD_INPUT = 1, 2
INTERRUPTED = (130, -signal.SIGINT)
"""The second is what Python makes of it in some imports; to a shell both are 130."""

STARTING_SECONDS = 1.5
"""Before it the interpreter may not have come to our code, and a signal ends it by itself."""

TOLD = ((FAILED, "no space is left for"), (BAD_INPUT, "are free at"))
"""How a command ends for which there is no space, or will be none."""

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 0.95)
"""Of what a whole run leaves, so much fits on the disk."""


def kills(stage: Stage, whole: Path, folder: Path, num: int, seconds: float, seed: int) -> Counts:
    """Kill a stage so often (SIGKILL), in as many runs as that takes; compare each with the whole.

    Args:
        stage: What is killed.
        whole: What it leaves when nothing disturbs it.
        folder: Where it works.
        num: How many kills.
        seconds: How long it takes when nothing disturbs it.
        seed: Of the moments.
    """
    counts, rng = Counts(), random.Random(f"kill {stage.name} {seed}")
    expected = stage.outcome(whole)
    while counts.disturbances < num:
        shutil.rmtree(folder, ignore_errors=True)
        counts.runs += 1
        done = False
        while not done and counts.disturbances < num:
            wait = rng.uniform(0, seconds)
            ended = run(stage.command(folder), seconds=wait, disturb=subprocess.Popen.kill)
            counts.faults += _left(ended) + broken(folder)
            counts.disturbances += ended.disturbed
            done = not ended.disturbed
            if done and ended.code:
                counts.faults.append(f"refused to go on: {_words(ended)}")
        if not done:
            counts.faults += _completed(stage, folder)
        counts.faults += differing(expected, stage.outcome(folder))
    return counts


def signals(stage: Stage, whole: Path, folder: Path, num: int, seconds: float, seed: int) -> Counts:
    """Ask a stage for its end so often by each signal; arguments as of `kills`.

    SIGTERM goes to the command alone, as `kill` and containers send it. SIGINT, twice within 0.3 s,
    and SIGHUP go to its workers as well, as a terminal sends them.
    """
    counts, rng = Counts(), random.Random(f"signal {stage.name} {seed}")
    expected = stage.outcome(whole)
    for name, disturb in (("SIGTERM", _terminate), ("SIGINT twice", _twice), ("SIGHUP", _hang_up)):
        for _ in range(num):
            shutil.rmtree(folder, ignore_errors=True)
            counts.runs += 1
            wait = rng.uniform(STARTING_SECONDS, max(seconds, 2 * STARTING_SECONDS))
            began = time.monotonic()
            ended = run(stage.command(folder), seconds=wait, disturb=disturb)
            took = time.monotonic() - began - wait
            counts.disturbances += ended.disturbed
            # A training takes a request; and whatever is at its end has ended well, though Python
            # itself ends by a signal that comes when nothing is left to do.
            is_whole = ended.code in (-signal.SIGTERM, -signal.SIGHUP) and not differing(
                expected, stage.outcome(folder)
            )
            if not (ended.code in (0, *INTERRUPTED) or is_whole) or (
                ended.code == 0 and ended.disturbed and stage.name != "train" and took > 5
            ):
                counts.faults.append(f"{name} after {wait:.1f} s: {_words(ended)}")
            if "Traceback" in ended.said:
                counts.faults.append(f"{name} after {wait:.1f} s: a traceback: {_words(ended)}")
            counts.faults += [f"{name}: {x}" for x in _left(ended) + broken(folder)]
            counts.faults += _completed(stage, folder)
            counts.faults += [f"{name}: {x}" for x in differing(expected, stage.outcome(folder))]
    return counts


def full_disks(stage: Stage, whole: Path, folder: Path) -> Counts:
    """Let the disk be full before a stage is done, then make room; arguments as of `kills`.

    The disk is a tmpfs, which only an administrator can mount.

    Raises:
        PermissionError: If it cannot be mounted.
    """
    counts = Counts()
    expected = stage.outcome(whole)
    size = sum(-(-x.stat().st_size // 4096) * 4096 for x in whole.rglob("*") if x.is_file())
    for share in SHARES:
        counts.runs += 1
        with _disk(folder, max(int(share * size), 4096)) as disk:
            place = disk / stage.name
            ended = run(stage.command(place))
            # What lies beside the results for a while may or may not fit into the last of it.
            counts.disturbances += ended.code != 0
            told = any(ended.code == code and words in ended.said for code, words in TOLD)
            if (ended.code and not told) or "Traceback" in ended.said:
                counts.faults.append(f"disk of {share:.0%}: {_words(ended)}")
            counts.faults += _left(ended) + broken(place)
            _mount(folder, 64 * size, "remount,")
            counts.faults += _completed(stage, place)
            counts.faults += differing(expected, stage.outcome(place))
    return counts


def _terminate(process: subprocess.Popen[str]) -> None:
    process.terminate()


def _hang_up(process: subprocess.Popen[str]) -> None:
    _send(process, signal.SIGHUP)


def _twice(process: subprocess.Popen[str]) -> None:
    _send(process, signal.SIGINT)
    time.sleep(0.2)
    _send(process, signal.SIGINT)


def _send(process: subprocess.Popen[str], number: int) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        os.killpg(process.pid, number)


def _completed(stage: Stage, folder: Path) -> list[str]:
    """Faults of the same command, which is to go on and to come to its end."""
    ended = run(stage.command(folder))
    refused = [f"refused to go on: {_words(ended)}"] if ended.code else []
    return refused + _left(ended) + broken(folder)


def _left(ended: Ended) -> list[str]:
    return [f"left alive: {line}" for line in ended.left]


def _words(ended: Ended) -> str:
    return f"exit code {ended.code}: {ended.said.strip()[-400:]}"


@contextmanager
def _disk(folder: Path, num_bytes: int) -> Iterator[Path]:
    """A disk of so many bytes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _mount(folder, num_bytes)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _mount(folder: Path, num_bytes: int, how: str = "") -> None:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"{how}size={num_bytes}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise PermissionError(f"no tmpfs can be mounted: {done.stderr.strip()}")
