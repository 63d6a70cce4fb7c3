"""What is asked of a sample, and the times of a crystal's parts: the denoiser's other arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from miad_jax.crystal import MIRAGE, NUM_TYPES, Crystal


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Times:
    """How noisy each part of a crystal is: integers of the full process, −1 where it is known.

    Where all parts are equally noisy, as in MiAD, one integer a crystal stands for the three.

    Attributes:
        lattice: Time of the cell.
        coords: Time of each atom's coordinates.
        types: Time of each atom's type.

    Example:
        >>> times = miad_jax.Times.same(jnp.array([500]), size=3)
        >>> times.lattice.shape, times.coords.tolist()
        ((1,), [[500, 500, 500]])
    """

    lattice: Int[Array, "*batch"]
    coords: Int[Array, "*batch atoms"]
    types: Int[Array, "*batch atoms"]

    @classmethod
    def same(cls, t: Int[Array, "*batch"] | int, size: int) -> Times:
        """All parts of a crystal of `size` atom slots at one time."""
        t = jnp.asarray(t, jnp.int32)
        atoms = jnp.broadcast_to(t[..., None], (*t.shape, size))
        return cls(t, atoms, atoms)


Time: TypeAlias = Int[Array, "*#batch"] | Times
"""One time for all parts of a crystal, or one for each."""


def each_part(t: Time) -> Times:
    """The time of each part; that of atoms is [*batch, 1] where one stands for all."""
    return t if isinstance(t, Times) else Times(t, t[..., None], t[..., None])


KNOWN = -1
"""The time of a part that is known."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Known:
    """Parts of crystals that are given: a sample has them as they are.

    Attributes:
        crystal: The crystals that they are parts of; what is not given may be anything.
        lattice: Whether the cell is given.
        coords: Which atoms' coordinates are.
        types: Which atoms' types are; a mirage atom that is given stays one.

    Example:
        >>> crystals, _ = miad_jax.load_dataset("prototypes", "val")
        >>> known = miad_jax.Known.atoms(crystals[:2], keep_cell=True)
        >>> known.lattice.tolist(), known.coords.shape
        ([True, True], (2, 20))
    """

    crystal: Crystal
    lattice: Bool[Array, "*batch"]
    coords: Bool[Array, "*batch atoms"]
    types: Bool[Array, "*batch atoms"]

    @classmethod
    def atoms(cls, crystals: Crystal, *, keep_cell: bool) -> Known:
        """All atoms of these crystals; what stands in the slots of their padding is to be found.

        Args:
            crystals: Crystals of the size of the samples.
            keep_cell: Whether the cell is given too.
        """
        cell = jnp.full(crystals.batch_shape, keep_cell)
        return cls(crystals, cell, jnp.asarray(crystals.mask), jnp.asarray(crystals.mask))

    @classmethod
    def formula(cls, atom_types: Int[Array, "*batch atoms"]) -> Known:
        """The types of all slots, mirage among them where there are fewer atoms."""
        types = jnp.asarray(atom_types, jnp.int32)
        batch, nothing = types.shape[:-1], jnp.zeros(types.shape, bool)
        cell = jnp.broadcast_to(jnp.eye(3), (*batch, 3, 3))
        crystal = Crystal(cell, jnp.zeros((*types.shape, 3)), types, ~nothing)
        return cls(crystal, jnp.zeros(batch, bool), nothing, ~nothing)

    def times(self, t: Int[Array, "*batch"]) -> Times:
        """The times of all parts, of which those that are not given are at t."""
        times = Times.same(t, self.crystal.size)
        return Times(
            jnp.where(self.lattice, KNOWN, times.lattice),
            jnp.where(self.coords, KNOWN, times.coords),
            jnp.where(self.types, KNOWN, times.types),
        )

    def put_into(self, crystal: Crystal) -> Crystal:
        """A crystal with the given parts in their places."""
        given = self.crystal
        return Crystal(
            jnp.where(self.lattice[..., None, None], given.lattice, crystal.lattice),
            jnp.where(self.coords[..., None], given.frac_coords, crystal.frac_coords),
            jnp.where(self.types, given.atom_types, crystal.atom_types),
            crystal.mask,
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Condition:
    """What is asked of each crystal of a batch; what is None is not asked.

    Attributes:
        allowed_types: Which elements may occur, by atomic number; mirage atoms always may.
        properties: Values that the crystal is to have, by the name of a column of the data set;
            NaN where a crystal's value is free. They reach a network that was trained on them.
        required_types: Which elements must occur. Samples are led there, and may miss it.
        oxidation_states: The least and the greatest of each type, between which compositions are to
            be neutral. Samples are led there, and may miss it.
        num_atoms: The least and the greatest number of atoms.
        num_is_led: Where the sample is led to that number and then decides, so that it may miss it;
            None where it is held to the end.
        known: Parts that are given.

    Example:
        >>> condition = miad_jax.Condition.of_elements([3, 8], num_samples=2)
        >>> condition.allowed_types.shape, int(condition.allowed_types[0].sum())
        ((2, 100), 3)
    """

    allowed_types: Bool[Array, "*batch types"] | None = None
    properties: Mapping[str, Float[Array, "*batch"]] = field(default_factory=dict)
    required_types: Bool[Array, "*batch types"] | None = None
    num_atoms: Int[Array, "*batch 2"] | None = None
    num_is_led: Bool[Array, "*batch"] | None = None
    known: Known | None = None
    oxidation_states: Float[Array, "*batch types 2"] | None = None

    @classmethod
    def of_elements(cls, atomic_numbers: Any, num_samples: int) -> Condition:
        """Crystals that hold none but these elements.

        Args:
            atomic_numbers: Of the elements, 1 … 99.
            num_samples: Size of the batch.

        Raises:
            ValueError: If there is none, or one is no atomic number from 1 to 99.
        """
        numbers = jnp.asarray(atomic_numbers, jnp.int32).reshape(-1)
        if not numbers.size or bool((numbers < 1).any() | (numbers >= NUM_TYPES).any()):
            raise ValueError(
                f"atomic_numbers are {numbers.tolist()}; allowed: at least one, each from 1 to "
                f"{NUM_TYPES - 1}"
            )
        allowed = jnp.zeros(NUM_TYPES, bool).at[numbers].set(True).at[MIRAGE].set(True)
        return cls(allowed_types=jnp.broadcast_to(allowed, (num_samples, NUM_TYPES)))
