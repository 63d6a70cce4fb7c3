"""The losses as values: how they are weighted, and how parts of a batch add up."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses in their sum; in MiAD all 1, and none of the cross-entropy.

    Example:
        >>> miad_jax.LossWeights(types=0.5)
        LossWeights(lattice=1.0, coords=1.0, types=0.5, cross_entropy=0.0)
    """

    lattice: float = 1.0
    coords: float = 1.0
    types: float = 1.0
    cross_entropy: float = 0.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LossTerms:
    """The losses as sums and counts, so that parts of a batch add up to the whole.

    Attributes:
        lattice_sum: Sum of the lattice loss over crystals.
        coords_sum: Sum of the coordinate loss over the atoms that count.
        types_sum: Sum of the type loss over atoms.
        cross_entropy_sum: Sum over atoms of the cross-entropy of the clean types.
        num_crystals: Number of crystals.
        num_coords: Number of atoms in the coordinate loss: the real ones of the clean crystal,
            or all where mirage atoms are not masked.
        num_atoms: Number of atoms, mirage atoms included, padding not.

    Example:
        >>> half = miad_jax.LossTerms(*map(jnp.float32, (4, 6, 8, 9, 2, 3, 4)))
        >>> float((half + half).coords), float(half.total(miad_jax.LossWeights()))
        (2.0, 6.0)
    """

    lattice_sum: Float[Array, "*steps"]
    coords_sum: Float[Array, "*steps"]
    types_sum: Float[Array, "*steps"]
    cross_entropy_sum: Float[Array, "*steps"]
    num_crystals: Float[Array, "*steps"]
    num_coords: Float[Array, "*steps"]
    num_atoms: Float[Array, "*steps"]

    def __add__(self, other: LossTerms) -> LossTerms:
        """The terms of two parts of a batch together."""
        return jax.tree.map(jnp.add, self, other)

    @property
    def lattice(self) -> Float[Array, "*steps"]:
        """Mean over crystals; 0 where there are none, as for the other means."""
        return self.lattice_sum / jnp.maximum(self.num_crystals, 1)

    @property
    def coords(self) -> Float[Array, "*steps"]:
        """Mean over the atoms that count."""
        return self.coords_sum / jnp.maximum(self.num_coords, 1)

    @property
    def types(self) -> Float[Array, "*steps"]:
        """Mean over atoms."""
        return self.types_sum / jnp.maximum(self.num_atoms, 1)

    @property
    def cross_entropy(self) -> Float[Array, "*steps"]:
        """Mean over atoms."""
        return self.cross_entropy_sum / jnp.maximum(self.num_atoms, 1)

    def total(self, weights: LossWeights) -> Float[Array, "*steps"]:
        """L = w_L L_lattice + w_F L_coords + w_A L_types + w_C L_cross-entropy.

        MiAD does not have the last term; see `types.cross_entropy`.
        """
        return (
            weights.lattice * self.lattice
            + weights.coords * self.coords
            + weights.types * self.types
            + weights.cross_entropy * self.cross_entropy
        )
