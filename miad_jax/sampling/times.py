"""Which times of the process a sampler visits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from jaxtyping import Int

from miad_jax.diffusion.joint import Diffusion

FIRST_ALPHA_BAR = 1e-3
"""Where sampling starts: ᾱ of the lattice, the share of the signal in what is noise to the eye."""


@dataclass(frozen=True)
class Visits:
    """The times to visit, which every solver has: evenly spaced, or as a list.

    Sampling starts where noise and data cannot be told apart, which is before the last row of the
    table: from ᾱ = 1e-3 on, more noise changes nothing, but an error of the network is divided by
    √ᾱ in the first step.

    Attributes:
        steps: Number of steps; None for every time from the first on.
        first_time: The noisiest time, 0 … T−1; None for the noisiest with ᾱ_t ≥ 1e-3, or a noisier
            one where `steps` needs it. Published is T−1.
        visit: The times themselves, from the noisiest to the least noisy, instead of both.
    """

    steps: int | None = field(default=None, metadata={"static": True})
    first_time: int | None = field(default=None, metadata={"static": True}, kw_only=True)
    visit: tuple[int, ...] = field(default=(), metadata={"static": True}, kw_only=True)

    def times(self, diffusion: Diffusion) -> Int[np.ndarray, " steps"]:
        """The times to visit, from the noisiest to the least noisy; after the last comes −1.

        Raises:
            ValueError: If the process has no such times, or not so many.
        """
        num_steps = diffusion.num_steps
        if self.visit:
            return self._listed(num_steps)
        first = self.first_time
        if first is None:
            noisiest = first_time(diffusion)
            first = max(noisiest, min(self.steps or 1, num_steps) - 1)
        if not 0 <= first < num_steps:
            raise ValueError(
                f"first_time is {first}; allowed: 0 to {num_steps - 1}, the times of a diffusion "
                f"of {num_steps}"
            )
        steps = first + 1 if self.steps is None else self.steps
        if not 1 <= steps <= first + 1:
            raise ValueError(
                f"cannot take {steps} steps of a diffusion of {num_steps} from time {first}: "
                f"choose 1 to {first + 1}"
            )
        if steps == 1:
            return np.array([first])
        return np.round(np.linspace(0, first, steps)).astype(int)[::-1]

    def not_before(self, diffusion: Diffusion, first: int) -> Self:
        """The same solver from a time on: what it would have visited before is left out.

        Raises:
            ValueError: If it visits no time from there on.
        """
        times = tuple(int(t) for t in self.times(diffusion) if t <= first)
        if not times:
            raise ValueError(f"the solver visits no time up to {first}: choose a later one")
        return replace(self, steps=None, first_time=None, visit=times)

    def anywhere(self) -> Self:
        """The same solver for any times: what is compiled for it serves all."""
        return replace(self, steps=None, first_time=None, visit=())

    def _listed(self, num_steps: int) -> Int[np.ndarray, " steps"]:
        if self.steps is not None or self.first_time is not None:
            raise ValueError("visit lists the times: leave out steps and first_time")
        times = np.array(self.visit)
        falls = (np.diff(times) < 0).all()
        if not (falls and times[-1] >= 0 and times[0] < num_steps):
            raise ValueError(
                f"visit is {self.visit}; allowed: falling whole numbers from at most "
                f"{num_steps - 1} to at least 0"
            )
        return times


def first_time(diffusion: Diffusion) -> int:
    """The noisiest time at which ᾱ of the lattice is at least `FIRST_ALPHA_BAR`.

    Example:
        >>> first_time(miad_jax.make_diffusion(1000))
        978
    """
    alpha_bar = np.asarray(diffusion.lattice.alpha_bar)[:-1]  # without the clean row
    return int(np.flatnonzero(alpha_bar >= FIRST_ALPHA_BAR).max(initial=0))
