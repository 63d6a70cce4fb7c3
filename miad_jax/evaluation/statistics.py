"""Shares and quantities with their 95 % intervals, their definitions and their denominators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

NUM_RESAMPLES = 1000
"""Redraws of a bootstrap."""


@dataclass(frozen=True)
class Rate:
    """A share of a set of crystals.

    Attributes:
        name: What is counted.
        count: How many there are.
        total: Of how many: the denominator.
        definition: What the name means, in one sentence, with the denominator in words.
        std: Standard deviation of the share that comes on top of that of the total drawn at random.
    """

    name: str
    count: int
    total: int
    definition: str
    std: float = 0.0

    @property
    def value(self) -> float | None:
        """The share; None of an empty set."""
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval, widened by `std`; None of an empty set."""
        if not self.total:
            return None
        share, (low, high) = self.count / self.total, wilson(self.count, self.total)
        more = 1.96 * self.std
        return (
            max(share - float(np.hypot(share - low, more)), 0.0),
            min(share + float(np.hypot(high - share, more)), 1.0),
        )


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
    from scipy.stats import binomtest

    if total < 1 or not 0 <= count <= total:
        raise ValueError(f"{count} of {total} is no share: give a count from 0 to a positive total")
    interval = binomtest(count, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap(
    statistic: Callable[..., float], *samples: Float[np.ndarray, " num"], seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of a statistic, each sample redrawn with replacement.

    The interval of samples of one value each is that value: there is nothing else to draw.

    Args:
        statistic: Takes arrays like `samples`; called for all redraws at once if it takes `axis`.
        *samples: Independent samples, none of them empty.
        seed: Fixes the redraws.
    """
    from scipy import stats

    if all(len(x) == 1 for x in samples):
        value = float(statistic(*samples))
        return value, value
    # SciPy refuses a sample of one value; twice the same value has the same redraws.
    data = [np.repeat(x, 2) if len(x) == 1 else np.asarray(x) for x in samples]
    interval = stats.bootstrap(
        data,
        statistic,
        n_resamples=NUM_RESAMPLES,
        batch=50,
        confidence_level=0.95,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)
