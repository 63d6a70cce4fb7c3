"""Numbers of one or several reports with their intervals, and whether two of them differ."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

YES, NO, OPEN, MISSING = "yes", "no", "not told apart", "not measured"
"""What a measurement says of a claim."""


@dataclass(frozen=True)
class Number:
    """A number and its 95 % interval.

    Attributes:
        value: The number.
        low: Where the interval begins; NaN where there is none.
        high: Where it ends.
        is_share: Whether it is shown in per cent.
    """

    value: float
    low: float
    high: float
    is_share: bool = False

    def __str__(self) -> str:
        """Value and interval, as people read them."""
        scale, form = (100, ".1f") if self.is_share else (1, ".3g")
        value = format(scale * self.value, form) + " %" * self.is_share
        if math.isnan(self.low):
            return value
        return f"{value} ({format(scale * self.low, form)}–{format(scale * self.high, form)})"


def entry_of(report: Path, name: str) -> dict[str, Any] | None:
    """A number of a report that `miad_jax.evaluate` wrote; None where it is not known."""
    file = report / "report.json"
    if not file.exists():
        return None
    tables = json.loads(file.read_text(encoding="utf-8"))["tables"]
    entries = (entry for group in tables for entry in group["entries"])
    found = next((entry for entry in entries if entry["name"] == name), None)
    return None if found is None or found["value"] is None else found


def number_of(reports: Iterable[Path], name: str) -> Number | None:
    """A number of the reports of equal trainings: their mean; None where none has it."""
    found = []
    for report in reports:
        if (entry := entry_of(report, name)) is not None:
            low, high = entry["interval_95"] or (math.nan, math.nan)
            found.append(Number(entry["value"], low, high, entry["unit"] == "share"))
    return mean_of(found)


def mean_of(numbers: Sequence[Number]) -> Number | None:
    """The mean of independent measurements of equal trainings.

    Its variance is the larger of two estimates: from the intervals, which hold the chance of the
    samples alone, and from the spread of the measurements, which holds that of the trainings too.
    """
    if not numbers:
        return None
    if len(numbers) == 1:
        return numbers[0]
    values = np.array([x.value for x in numbers])
    deviations = np.array([(x.high - x.low) / (2 * 1.96) for x in numbers])
    within = np.nan_to_num((deviations**2).mean())
    half = 1.96 * math.sqrt(max(within, values.var(ddof=1)) / len(values))
    low, high = values.mean() - half, values.mean() + half
    if share := numbers[0].is_share:
        low, high = max(low, 0), min(high, 1)
    return Number(float(values.mean()), float(low), float(high), share)


def compared(one: Number, other: Number) -> str:
    """Whether one number is larger: `YES`, `NO`, or `OPEN` where the interval does not tell.

    The interval of the difference is from the two intervals (Newcombe 1998, method 10).
    """
    difference = one.value - other.value
    if difference - math.hypot(one.value - one.low, other.high - other.value) > 0:
        return YES
    if difference + math.hypot(one.high - one.value, other.value - other.low) < 0:
        return NO
    return OPEN


def is_best(one: Number | None, others: Sequence[Number | None]) -> str:
    """Whether a number is larger than all others; `MISSING` where one of them is."""
    if one is None or not others or any(x is None for x in others):
        return MISSING
    found = [compared(one, x) for x in others if x is not None]
    if NO in found:
        return NO
    return OPEN if OPEN in found else YES
