"""The values that everything passes: a `Crystal`, and a `Prediction` of how to denoise one.

Both are pytrees of arrays with the same leading batch dimensions (none, one or several), so
every function that takes them can be jitted and vmapped. Indexing a crystal indexes its
batch: `crystals[3]` is the fourth crystal, `crystals[:8]` the first eight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

MIRAGE = 0
"""Atom type of a mirage atom; every other type is the atomic number of an element."""

NUM_TYPES = 100
"""Atom types run from 0 (mirage) to 99 (einsteinium)."""

UNDECIDED = NUM_TYPES
"""Type of an atom that a masked diffusion has not decided yet: neither an element nor mirage.

Only noised crystals hold it. As a one-hot vector of `NUM_TYPES` it is 0, which is how networks see
it: no type's embedding, and so one of its own.
"""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Crystal:
    """One crystal, or a batch of crystals of equal array size; NumPy arrays do on the host.

    Attributes:
        lattice: Cell vectors as rows, in Å; `cart = frac_coords @ lattice`.
        frac_coords: Fractional coordinates in [0, 1).
        atom_types: Atomic numbers; 0 is a mirage atom, and in noised crystals 100 is `UNDECIDED`.
        mask: False on padding, which takes no part in anything.

    Example:
        >>> crystals, records = miad_jax.load_dataset("prototypes", "val")
        >>> crystals[0].lattice.shape, crystals[:3].batch_shape, crystals.size
        ((3, 3), (3,), 20)
    """

    lattice: Float[Array, "*batch 3 3"]
    frac_coords: Float[Array, "*batch atoms 3"]
    atom_types: Int[Array, "*batch atoms"]
    mask: Bool[Array, "*batch atoms"]

    def __getitem__(self, index: Any) -> Crystal:
        """Index the batch dimensions."""
        if not self.batch_shape:
            raise IndexError("this Crystal has no batch dimension to index; its lattice is [3, 3]")
        if isinstance(index, int | np.integer) and not -len(self) <= index < len(self):
            # JAX would clamp the index and return the last crystal.
            raise IndexError(f"index {index} is out of range: there are {len(self)} crystals")
        return jax.tree.map(lambda x: x[index], self)

    def __iter__(self) -> Iterator[Crystal]:
        """The crystals of the leading batch dimension, one after the other."""
        return (self[i] for i in range(len(self)))

    def __len__(self) -> int:
        """Size of the leading batch dimension."""
        if not self.batch_shape:
            raise TypeError("this Crystal has no batch dimension; its lattice is [3, 3]")
        return self.batch_shape[0]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading dimensions: () for one crystal."""
        return self.lattice.shape[:-2]

    @property
    def size(self) -> int:
        """Number of atom slots: real atoms, mirage atoms and padding."""
        return self.atom_types.shape[-1]

    @property
    def num_atoms(self) -> Int[Array, "*batch"]:
        """Number of atoms, mirage atoms included, padding not."""
        return self.mask.sum(-1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Prediction:
    """What a denoiser says of a noised crystal.

    Attributes:
        lattice: ε̂, the noise in the lattice, or what else its process asks for: a matrix times the
            noised lattice.
        coords: The negative score of the coordinates over √λ_t, or what else that process asks.
        types: Logits of the clean atom types.

    Example:
        >>> zero = miad_jax.Prediction(jnp.zeros((3, 3)), jnp.zeros((5, 3)), jnp.zeros((5, 100)))
        >>> zero.types.shape
        (5, 100)
    """

    lattice: Float[Array, "*batch 3 3"]
    coords: Float[Array, "*batch atoms 3"]
    types: Float[Array, "*batch atoms types"]


def real_atom_mask(crystal: Crystal) -> Bool[Array, "*batch atoms"]:
    """True on real atoms: neither mirage nor padding, nor undecided.

    Example:
        >>> crystals, _ = miad_jax.load_dataset("prototypes", "val")
        >>> infused = miad_jax.infuse(jax.random.key(0), crystals, 25)
        >>> bool((miad_jax.real_atom_mask(infused).sum(-1) == crystals.num_atoms).all())
        True
    """
    types = crystal.atom_types
    return crystal.mask & (types != MIRAGE) & (types != UNDECIDED)


def wrap(frac_coords: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Fractional coordinates modulo 1, in [0, 1) also after rounding.

    In floating point -1e-9 mod 1 rounds to 1; it is mapped to 0.
    """
    wrapped = frac_coords - jnp.floor(frac_coords)
    return jnp.where(wrapped >= 1, 0, wrapped)


def volume(lattice: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch"]:
    """Volume of the cell in Å³: |a · (b × c)|."""
    a, b, c = lattice[..., 0, :], lattice[..., 1, :], lattice[..., 2, :]
    return jnp.abs((a * jnp.cross(b, c)).sum(-1))
