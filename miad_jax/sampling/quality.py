"""How many steps, of which kind: ready settings, and what too few steps do.

Measured on the weights that come with the package: experiments/few_steps/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from miad_jax.diffusion.joint import Diffusion
from miad_jax.diffusion.lattice import LatticeDDPM
from miad_jax.sampling.control import Control
from miad_jax.sampling.solvers import Solver
from miad_jax.spelling import did_you_mean

QUALITIES = ("draft", "standard", "best", "published")

_NO_CHURN: dict[str, Any] = {
    "solver": "predictor_corrector",
    "visit": (),
    "corrector": "langevin",
    "churn": 0.0,
    "coords_ahead": 0.0,
}
_FAST: dict[str, Any] = {
    "solver": "ancestral",
    "first_time": None,
    "visit": (),
    "churn": 1.0,
    "coords_ahead": 1.0,
    "cell_bounds_angstrom": (2.0, 50.0),
}
_FAST_STEPS: dict[str, int] = {"draft": 50, "standard": 100}

FEWEST_EVALUATIONS = 50
"""Below it cells come out too small and hold too few elements."""

LARGEST_FIRST_FACTOR = 101.0
"""By how much the first step may enlarge an error of the lattice: 100 in the published sampler."""


def settings_of(
    quality: str, num_steps: int, own: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Fields of `config.sampling` for a quality; those it leaves out are the model's.

    Args:
        quality: "draft", 50 evaluations of the network; "standard", 100, at which only the number
            of elements lies below that at 2,000; "best", Algorithm 2 of MiAD with every step, 2,000
            evaluations, in a bounded cell; "published", the same without bounds, and with the
            conditional score of the coordinates.
        num_steps: T of the process.
        own: `config.sampling` of a model. If its solver is the ancestral one, "draft" and
            "standard" change the number of its steps alone.

    Raises:
        ValueError: If there is no such quality, with the nearest one.

    Example:
        >>> settings_of("standard", 1000)["solver"], settings_of("published", 1000)["first_time"]
        ('ancestral', 999)
    """
    if quality not in QUALITIES:
        hint = did_you_mean(quality, QUALITIES)
        raise ValueError(f"no quality is called {quality!r}{hint}; allowed: {', '.join(QUALITIES)}")
    if quality == "published":
        return _NO_CHURN | {
            "steps": None,
            "first_time": num_steps - 1,
            "cell_bounds_angstrom": (),
            "coords_score": "conditional",
        }
    if quality == "best":
        return _NO_CHURN | {
            "steps": num_steps,
            "first_time": None,
            "cell_bounds_angstrom": (2.0, 50.0),
        }
    steps = {"steps": min(_FAST_STEPS[quality], num_steps)}
    if own is not None and own["solver"] == _FAST["solver"]:
        return {"visit": ()} | steps
    return _FAST | steps


def why_too_few(solver: Solver, control: Control, diffusion: Diffusion) -> str:
    """A sentence about steps that are too few for good crystals; empty if they are enough.

    Args:
        solver: With its times.
        control: With or without bounds of the cell.
        diffusion: The process.
    """
    times = solver.times(diffusion)
    count = len(times) * solver.evaluations
    magnifies = isinstance(diffusion.lattice, LatticeDDPM)  # others do not divide by √ᾱ
    if magnifies and control.cell_bounds_angstrom is None and len(times) > 1:
        alpha_bar = np.asarray(diffusion.lattice.alpha_bar)
        factor = np.sqrt(alpha_bar[times[1]] / alpha_bar[times[0]])
        if factor > LARGEST_FIRST_FACTOR:
            return (
                f"the first of {len(times)} steps, from time {times[0]} to {times[1]}, enlarges "
                f"an error of the lattice {factor:.0f} times, and nothing bounds the cell: expect "
                "cells of any size; bound it, or take more steps or a smaller first_time"
            )
    if count < FEWEST_EVALUATIONS:
        return (
            f"{len(times)} steps ask the network {count} times, which is few: expect cells with "
            f"too few atoms and elements; from {FEWEST_EVALUATIONS} on crystals are good"
        )
    return ""
