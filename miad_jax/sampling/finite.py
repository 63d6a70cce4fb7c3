"""Which samples came to hold NaN or infinity, and at which step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from miad_jax.crystal import Crystal

NOT_FINITE = -1
"""The number of real atoms of a sample that holds NaN or infinity."""


def is_finite(crystal: Crystal) -> Bool[np.ndarray, "*batch"]:
    """Which crystals hold finite numbers only, those of padding among them."""
    parts = (np.asarray(crystal.lattice), np.asarray(crystal.frac_coords))
    return np.logical_and.reduce([np.isfinite(x).all((-2, -1)) for x in parts])


def first_not_finite(num_real: Int[np.ndarray, "samples steps"]) -> Int[np.ndarray, " samples"]:
    """The step, counted from 1, at which each sample came to hold NaN or infinity; 0 for none.

    Args:
        num_real: Real atoms after each step, as `Sampler.draw` gives them.
    """
    is_bad = num_real == NOT_FINITE
    return np.where(is_bad.any(-1), is_bad.argmax(-1) + 1, 0)


def why_not_finite(num_real: Int[np.ndarray, "samples steps"], indices: Sequence[int]) -> str:
    """Which samples hold NaN or infinity from which step on, in words; empty if none does.

    Args:
        num_real: Real atoms after each step, as `Sampler.draw` gives them.
        indices: The samples' numbers in the run.
    """
    first = first_not_finite(num_real)
    bad = [f"sample {indices[i]} from step {step}" for i, step in enumerate(first) if step]
    if not bad:
        return ""
    named = ", ".join(bad[:5]) + ", …" * (len(bad) > 5)
    return (
        f"{len(bad)} of {len(first)} samples hold NaN or infinity: {named} (of "
        f"{num_real.shape[-1]} steps)"
    )
