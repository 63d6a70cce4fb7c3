"""Padding: atom slots that hold no atom, so that crystals of different sizes fit one array.

A crystal's mask is False there, and what stands there never reaches a result: `resize` makes and
cuts padding, `keep_padding` leaves it as it was, and `mean_over_atoms` leaves it out.
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from miad_jax.crystal import Crystal


def keep_padding(crystal: Crystal, before: Crystal) -> Crystal:
    """The crystal, but that padding slots hold what they held before.

    Args:
        crystal: What was computed of `before`, in all its slots.
        before: The crystal before, whose mask says what is padding.
    """
    mask = before.mask
    return Crystal(
        crystal.lattice,
        jnp.where(mask[..., None], crystal.frac_coords, before.frac_coords),
        jnp.where(mask, crystal.atom_types, before.atom_types),
        mask,
    )


def resize(crystal: Crystal, size: int) -> Crystal:
    """Cut or pad the atom slots to `size`; new slots are padding.

    NumPy arrays stay NumPy arrays, JAX arrays JAX arrays. Atoms beyond `size` are lost, so check
    that they are padding.

    Args:
        crystal: One crystal, or any batch of them.
        size: Atom slots of the result.

    Example:
        >>> crystals, _ = miad_jax.load_dataset("prototypes", "val")
        >>> resize(crystals, 25).frac_coords.shape[-2:], resize(crystals, 2).size
        ((25, 3), 2)
    """
    if size == crystal.size:
        return crystal

    def slots(x: Array, axis: int) -> Array:
        xp = np if isinstance(x, np.ndarray) else jnp
        axis += x.ndim
        kept = x[(slice(None),) * axis + (slice(size),)]
        width = [(0, 0)] * x.ndim
        width[axis] = (0, size - kept.shape[axis])
        return xp.pad(kept, width)

    return replace(
        crystal,
        frac_coords=slots(crystal.frac_coords, -2),
        atom_types=slots(crystal.atom_types, -1),
        mask=slots(crystal.mask, -1),
    )


def mean_over_atoms(
    x: Float[Array, "*shape"],
    mask: Bool[Array, "*#shape"],
    count: Float[Array, "*#mean"],
    axis: int,
) -> Float[Array, "*mean"]:
    """Mean over an axis of atom slots; NaN in padding is left out too.

    Args:
        x: Values of slots.
        mask: False on padding.
        count: Number of atoms, of the result's shape or one that fits it.
        axis: The axis of slots.
    """
    return jnp.where(mask, x, 0).sum(axis) / count.astype(x.dtype)
