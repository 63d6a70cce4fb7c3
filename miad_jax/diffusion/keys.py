"""Keys of crystals and samples: every one has a key of its own, whatever batch it is in.

A single key is folded with the index of each crystal, so what happens to a crystal does not depend
on the others. The key of sample i is the run's key folded with i, and each of its steps has a
stream of it: the number of steps that are left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

T = TypeVar("T")

START, NUM_ATOMS = 2**31, 2**31 + 1
"""Streams of a sample's key beyond those of all steps: its pure noise, and its number of atoms."""

CANDIDATES = 2**31 + 512
"""Streams of a sample's key from here on: the keys of samples of which the best is kept."""

ATTEMPTS = 2**31 + 1024
"""Streams of a sample's key from here on: the keys of further attempts."""

BEFORE, AFTER = 2**31 + 2, 2**31 + 3
"""Streams of a step's key: the noise of parts that are known, before the step and after it."""


def crystal_keys(key: PRNGKeyArray, batch_shape: tuple[int, ...]) -> PRNGKeyArray:
    """One key for each crystal: `key` itself if it is that already, else folded with the index.

    Raises:
        ValueError: If the keys fit neither one crystal nor the batch.
    """
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    if key.shape == batch_shape:
        return key
    if key.shape == () and len(batch_shape) == 1:
        return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch_shape[0]))
    raise ValueError(
        f"keys of shape {key.shape} do not fit crystals of batch shape {batch_shape}: "
        "give one key, or one for each crystal"
    )


def for_each(
    draw: Callable[[PRNGKeyArray], T], key: PRNGKeyArray, batch_shape: tuple[int, ...]
) -> T:
    """Call `draw` with the key of each crystal."""
    for _ in batch_shape:
        draw = jax.vmap(draw)
    return draw(crystal_keys(key, batch_shape))


def sample_keys(key: PRNGKeyArray, index: Int[np.ndarray, " samples"]) -> PRNGKeyArray:
    """The keys of samples by their index in the run."""
    return jax.vmap(jax.random.fold_in, (None, 0))(crystal_keys(key, ()), jnp.asarray(index))


def streams(keys: PRNGKeyArray, stream: int | Int[Array, ""]) -> PRNGKeyArray:
    """One stream of every sample's key: `START`, `NUM_ATOMS`, or the number of steps left."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, stream)
