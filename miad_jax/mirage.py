"""Mirage infusion: atoms that are not there, so that their number can change.

*Infusion* pads a crystal with mirage atoms of type 0; the diffusion over atom types may turn
them into real atoms, and real atoms into mirage. *Reduction* drops the mirage atoms again
(§3 of arXiv:2511.14426).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from miad_jax.crystal import MIRAGE, Crystal, real_atom_mask, wrap
from miad_jax.padding import resize

Placement = Literal["uniform", "center"]


def infuse(
    key: PRNGKeyArray, crystal: Crystal, num_atoms: int, *, placement: Placement = "uniform"
) -> Crystal:
    """Fill a crystal with mirage atoms until it holds `num_atoms` atoms.

    The real atoms stay unchanged in their slots; padding becomes mirage atoms. The result has
    no padding.

    Args:
        key: Random key for the mirage coordinates of all crystals; `jax.vmap` gives each its own.
        crystal: One crystal or a batch. Slots beyond `num_atoms` must be padding.
        num_atoms: N_m, the number of atoms of every infused crystal.
        placement: "uniform" draws each mirage atom uniformly in the cell (MiAD); "center"
            puts all at the circular mean of the real atoms (Table 5).

    Raises:
        ValueError: If a crystal holds more than `num_atoms` atoms, or `placement` is unknown. Under
            `jax.jit` and `jax.vmap` the mask is not known, and larger crystals are cut.

    Example:
        >>> crystals, _ = miad_jax.load_dataset("prototypes", "val")
        >>> infused = miad_jax.infuse(jax.random.key(0), crystals, 25)
        >>> infused.atom_types.shape == (len(crystals), 25), bool(infused.mask.all())
        (True, True)
    """
    if placement not in get_args(Placement):
        raise ValueError(f"placement is {placement!r}; allowed: {', '.join(get_args(Placement))}")
    _check_room(crystal, num_atoms)
    crystal = resize(jax.tree.map(jnp.asarray, crystal), num_atoms)
    if placement == "uniform":
        frac_coords = jax.random.uniform(key, crystal.frac_coords.shape, crystal.frac_coords.dtype)
    else:
        frac_coords = jnp.broadcast_to(_circular_mean(crystal), crystal.frac_coords.shape)
    return Crystal(
        lattice=crystal.lattice,
        frac_coords=jnp.where(crystal.mask[..., None], crystal.frac_coords, frac_coords),
        atom_types=jnp.where(crystal.mask, crystal.atom_types, MIRAGE),
        mask=jnp.ones_like(crystal.mask),
    )


def reduce(crystal: Crystal) -> list[Crystal]:
    """Drop mirage atoms and padding: a list of crystals of their own sizes, on the host.

    A crystal without a real atom becomes one of zero atoms. For the baseline an atom of type 0 is
    a failed sample, which is not to be mended by dropping it.

    Example:
        >>> crystals, _ = miad_jax.load_dataset("prototypes", "val")
        >>> infused = miad_jax.infuse(jax.random.key(0), crystals, 25)
        >>> [c.size for c in miad_jax.reduce(infused)] == crystals.num_atoms.tolist()
        True
    """
    crystal = jax.tree.map(np.asarray, crystal)
    keep = np.asarray(real_atom_mask(crystal)).reshape(-1, crystal.size)
    lattice = crystal.lattice.reshape(-1, 3, 3)
    frac_coords = crystal.frac_coords.reshape(-1, crystal.size, 3)
    atom_types = crystal.atom_types.reshape(-1, crystal.size)
    every: list[Any] = [np.ones(num, bool) for num in keep.sum(-1)]
    return [
        Crystal(lattice[i], frac_coords[i, k], atom_types[i, k], every[i])
        for i, k in enumerate(keep)
    ]


def _check_room(crystal: Crystal, num_atoms: int) -> None:
    """Refuse crystals that do not fit; under jit the values are unknown and not checked."""
    if isinstance(crystal.mask, jax.core.Tracer) or crystal.size <= num_atoms:
        return
    mask = np.asarray(crystal.mask).reshape(-1, crystal.size)
    too_large = np.flatnonzero(mask[:, num_atoms:].any(-1))
    if too_large.size:
        first = too_large[0]
        raise ValueError(
            f"crystal {first} has {mask[first].sum()} atoms, which do not fit the first "
            f"{num_atoms} slots ({too_large.size} such crystals): raise num_atoms or leave it out"
        )


def _circular_mean(crystal: Crystal) -> Float[Array, "*batch 1 3"]:
    """Unweighted circular mean of the real atoms in each direction; commutes with translations."""
    angle = 2 * jnp.pi * crystal.frac_coords
    weight = crystal.mask[..., None].astype(angle.dtype)
    sine = (weight * jnp.sin(angle)).sum(-2, keepdims=True)
    cosine = (weight * jnp.cos(angle)).sum(-2, keepdims=True)
    return wrap(jnp.arctan2(sine, cosine) / (2 * jnp.pi))
