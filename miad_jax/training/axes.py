"""Other axes of the same cell, so that a network sees each crystal in more than one way."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from miad_jax.crystal import Crystal, wrap


def draw_axes(key: PRNGKeyArray, crystal: Crystal) -> Crystal:
    """A crystal whose axes are in one of the 6 orders, each in one of the 2 directions.

    All 48 are equally likely. Lengths, angles and coordinates move with the axes. A cell of the
    other handedness is reflected back at the origin, and so are its atoms with it: the result is
    the crystal or its mirror image, whose energy is the same.

    Args:
        key: One key.
        crystal: One crystal; what stands in padding moves too.

    Example:
        >>> crystals, _ = miad_jax.load_dataset("prototypes", "val")
        >>> turned = draw_axes(jax.random.key(0), crystals[0])
        >>> before, after = (sorted(jnp.linalg.norm(x.lattice, axis=1).tolist())
        ...                  for x in (crystals[0], turned))
        >>> before == after
        True
    """
    order_key, sign_key = jax.random.split(key)
    order = jax.random.permutation(order_key, 3)
    sign = jax.random.rademacher(sign_key, (3,), jnp.float32)
    axes = jnp.eye(3)[order] * sign[:, None]
    handedness = jnp.round(jnp.linalg.det(axes))
    return replace(
        crystal,
        lattice=handedness * sign[:, None] * jnp.asarray(crystal.lattice)[order],
        frac_coords=wrap(jnp.asarray(crystal.frac_coords)[:, order] * sign),
    )
