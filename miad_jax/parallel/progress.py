"""How far work has come: told to a `Progress`, which shows nothing unless it is another one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

STARTING = "starting"
"""What a bar says until something is done."""


class Bar:
    """How far one piece of work has come; a context manager that closes itself.

    This one shows nothing.
    """

    def update(self, done: float, numbers: Mapping[str, float] = {}) -> None:
        """Say how much is done by now, and the newest numbers, such as a loss."""

    def advance(self, amount: float = 1) -> None:
        """Say how much more is done."""

    def part(self, description: str, total: float, unit: str = "") -> Bar:
        """Begin a bar below this one, for work that is not counted in it; arguments as of `bar`."""
        return Bar()

    def close(self) -> None:
        """Leave the bar as it is."""

    def __enter__(self) -> Self:
        """Return the bar."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the bar."""
        self.close()


class Progress:
    """Where work says what it does. This one shows nothing; a class of yours may show it.

    Example:
        >>> class Lines(miad_jax.Progress):
        ...     def say(self, line):
        ...         print("now:", line)
        >>> Lines().say("reading crystals")
        now: reading crystals
    """

    def say(self, line: str) -> None:
        """Say what begins, or what was found."""

    def bar(self, description: str, total: float, unit: str = "", done: float = 0) -> Bar:
        """Begin a piece of work.

        Args:
            description: What is done, in a word or two.
            total: How much there is to do.
            unit: What is counted.
            done: How much was done before.
        """
        return Bar()


class TerminalProgress(Progress):
    """Lines and tqdm bars on standard error."""

    def say(self, line: str) -> None:
        """Write a line, above a bar that is being shown."""
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr)

    def bar(self, description: str, total: float, unit: str = "", done: float = 0) -> Bar:
        """Show a bar with count, rate and time left."""
        return _TerminalBar(description, total, unit, done)


class _TerminalBar(Bar):
    """A tqdm bar. Its rate counts from the first call: compilation is not part of it."""

    def __init__(
        self, description: str, total: float, unit: str, done: float, *, stays: bool = True
    ):
        from tqdm import tqdm

        self._begun, self._done = False, done
        self._bar: Any = tqdm(
            desc=description,
            total=total,
            unit=f" {unit.strip()}" if unit else "it",
            initial=done,
            dynamic_ncols=True,
            leave=stays,
            postfix=STARTING,
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}"
            "{postfix}]",
        )

    def update(self, done: float, numbers: Mapping[str, float] = {}) -> None:
        if numbers:
            said = " ".join(f"{name}={x:.3g}" for name, x in numbers.items())
            self._bar.set_postfix_str(said, refresh=False)
        self._begin(done)
        self._done = done
        self._bar.update(done - self._bar.n)

    def advance(self, amount: float = 1) -> None:
        self._done += amount
        # Shares of a whole add up to a little more or less than it.
        done = round(self._done, 1)
        done = int(done) if done == int(done) else done
        self._begin(done)
        self._bar.update(done - self._bar.n)

    def _begin(self, done: float) -> None:
        """Start the clock at the first call, unless that was all."""
        if not self._begun and self._bar.postfix == STARTING:
            self._bar.postfix = ""
        if not self._begun and done < self._bar.total:
            self._bar.initial = self._bar.n = self._bar.last_print_n = done
            self._bar.unpause()
            self._bar.refresh()
        self._begun = True

    def part(self, description: str, total: float, unit: str = "") -> Bar:
        if not sys.stderr.isatty():  # a notebook and a file know no line above
            return Bar()
        return _TerminalBar(description, total, unit, 0, stays=False)

    def close(self) -> None:
        self._bar.close()


def as_progress(progress: Progress | bool | None) -> Progress:
    """The progress that an argument stands for: True shows it on standard error."""
    if isinstance(progress, Progress):
        return progress
    return TerminalProgress() if progress else Progress()
