"""Shares and distances with their 95 % intervals, their definitions and their denominators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal."""


@dataclass(frozen=True)
class Rate:
    """A share of a set of crystals.

    Attributes:
        name: What is counted.
        count: How many there are.
        total: Of how many: the denominator.
        definition: What the name means, in one sentence, with the denominator in words.
    """

    name: str
    count: int
    total: int
    definition: str

    @property
    def value(self) -> float | None:
        """The share; None of an empty set."""
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval; None of an empty set."""
        return wilson(self.count, self.total) if self.total else None


@dataclass(frozen=True)
class Quantity:
    """A measured number that is no share.

    Attributes:
        name: What is measured.
        value: The number; None where it cannot be known.
        interval: Its 95 % interval, None where there is none.
        unit: Of the number; empty for a pure number.
        definition: What the name means, in one sentence.
    """

    name: str
    value: float | None
    interval: tuple[float, float] | None
    unit: str
    definition: str


def wilson(count: int, total: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927): within [0, 1], and sensible at 0 and at 1.

    Raises:
        ValueError: If `total` is not positive or `count` is not one of 0 … total.
    """
    if total < 1 or not 0 <= count <= total:
        raise ValueError(f"{count} of {total} is no share: give a count from 0 to a positive total")
    share, z = count / total, Z_95
    centre = share + z**2 / (2 * total)
    half = z * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    scale = 1 + z**2 / total
    return max(float((centre - half) / scale), 0.0), min(float((centre + half) / scale), 1.0)


def bootstrap(
    statistic: Callable[..., float],
    *samples: Float[np.ndarray, " num"],
    num_resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval of a statistic, each sample redrawn with replacement.

    Args:
        statistic: Takes arrays like `samples`.
        *samples: Independent samples.
        num_resamples: Number of redraws.
        seed: Fixes them.
    """
    rng = np.random.default_rng(seed)
    values = [
        statistic(*(x[rng.integers(0, len(x), len(x))] for x in samples))
        for _ in range(num_resamples)
    ]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
