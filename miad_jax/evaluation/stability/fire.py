"""FIRE over the positions and cells of many crystals at once, in JAX.

The method is that of ASE's `FIRE` with `FrechetCellFilter` (Bitzek et al., Phys. Rev. Lett. 97,
170201, 2006), which `potential.relax` runs crystal by crystal. What moves are the positions r that
the atoms have in the undeformed cell, and U, the logarithm of the deformation F = exp(U):

    cell = cell_0 Fᵀ,   positions = r Fᵀ,   forces = −∂E/∂(r, n U),   n = number of atoms

The crystals lie one after the other in flat arrays: `atoms` slots for atoms, `crystals` slots for
crystals, and `edges` slots for pairs of neighbours. The last slot for a crystal is never one: slots
without an atom or an edge belong to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

SiteEnergies = Callable[
    [Float[Array, "edges 3"], Int[Array, " atoms"], Int[Array, " edges"], Int[Array, " edges"]],
    Float[Array, " atoms"],
]
"""A potential: displacements in Å, species, senders, receivers → energies of the atoms in eV.

A displacement leads from a receiver to a sender. One that is not shorter than the potential's
cutoff adds nothing, exactly.
"""

# ASE's own settings.
FIRST_STEP, LONGEST_STEP, FIRST_MIXING = 0.1, 1.0, 0.1
GROWTH, SHRINKAGE, MIXING_DECAY = 1.1, 0.5, 0.99
STEPS_BEFORE_GROWTH = 5
LONGEST_MOVE_ANGSTROM = 0.2


class Batch(NamedTuple):
    """The crystals of a batch, where they are now.

    Attributes:
        species: The potential's number of each element.
        crystal: The crystal that each atom belongs to.
        num_atoms: Atoms of each crystal.
        rest_coords: Positions in the undeformed cells, in Å.
        first_cell: The undeformed cells, vectors as rows, in Å.
        log_deformation: U of each crystal.
        senders: The neighbour of each edge.
        receivers: The atom whose neighbour it is.
        shifts: Cells between the neighbour and its image that is meant.
    """

    species: Int[Array, " atoms"]
    crystal: Int[Array, " atoms"]
    num_atoms: Int[Array, " crystals"]
    rest_coords: Float[Array, "atoms 3"]
    first_cell: Float[Array, "crystals 3 3"]
    log_deformation: Float[Array, "crystals 3 3"]
    senders: Int[Array, " edges"]
    receivers: Int[Array, " edges"]
    shifts: Float[Array, "edges 3"]


class Motion(NamedTuple):
    """What FIRE remembers of each crystal.

    Attributes:
        velocity: Of the atoms.
        cell_velocity: Of the cells.
        step: The time step.
        mixing: How much of the velocity is turned into the direction of the forces.
        downhill: Steps since the motion last went uphill.
        is_first: Whether no step was made yet.
    """

    velocity: Float[Array, "atoms 3"]
    cell_velocity: Float[Array, "crystals 3 3"]
    step: Float[Array, " crystals"]
    mixing: Float[Array, " crystals"]
    downhill: Int[Array, " crystals"]
    is_first: Bool[Array, " crystals"]


class Outcome(NamedTuple):
    """What a step found where the crystals are, and the way it goes from there.

    Attributes:
        energy_ev: Of each crystal.
        largest_force: The largest force on an atom or a row of the cell, in eV/Å.
        is_finite: Whether energy and forces are numbers.
        move: How far the atoms go, in the undeformed cells.
        turn: How U changes.
        motion: What FIRE remembers.
    """

    energy_ev: Float[Array, " crystals"]
    largest_force: Float[Array, " crystals"]
    is_finite: Bool[Array, " crystals"]
    move: Float[Array, "atoms 3"]
    turn: Float[Array, "crystals 3 3"]
    motion: Motion


@jax.jit
def fire_step(site_energies: SiteEnergies, batch: Batch, motion: Motion) -> Outcome:
    """Evaluate the crystals where they are, and find the next step of each.

    Args:
        site_energies: The potential, a pytree such as `jax.tree_util.Partial`.
        batch: The crystals.
        motion: What FIRE remembers of them.
    """
    energy, (forces, cell_forces) = _energies_and_forces(site_energies, batch)

    def total(atoms: Float[Array, " atoms"], cells: Float[Array, "crystals 3 3"]) -> Array:
        """Sum over all degrees of freedom of each crystal."""
        summed = jax.ops.segment_sum(atoms, batch.crystal, len(batch.num_atoms))
        return summed + cells.sum((1, 2))

    def of_atoms(per_crystal: Float[Array, " crystals"]) -> Float[Array, "atoms 1"]:
        return per_crystal[batch.crystal][:, None]

    def of_cells(per_crystal: Float[Array, " crystals"]) -> Float[Array, "crystals 1 1"]:
        return per_crystal[:, None, None]

    velocity, cell_velocity, step, mixing, downhill, is_first = motion
    power = total((forces * velocity).sum(1), cell_forces * cell_velocity)
    force_norm = jnp.sqrt(total((forces**2).sum(1), cell_forces**2))
    speed = jnp.sqrt(total((velocity**2).sum(1), cell_velocity**2))
    goes_down = power > 0
    # A crystal without forces has converged: its next step is made of zeros, and is not taken.
    turned = jnp.where(goes_down, mixing * speed / jnp.where(force_norm > 0, force_norm, 1), 0)
    kept = jnp.where(goes_down, 1 - mixing, 0)
    grows = goes_down & (downhill > STEPS_BEFORE_GROWTH)
    shrunk = jnp.where(is_first, step, step * SHRINKAGE)
    step = jnp.where(
        goes_down, jnp.where(grows, jnp.minimum(step * GROWTH, LONGEST_STEP), step), shrunk
    )
    mixing = jnp.where(goes_down, jnp.where(grows, mixing * MIXING_DECAY, mixing), FIRST_MIXING)
    downhill = jnp.where(goes_down, downhill + 1, 0)

    velocity = of_atoms(kept) * velocity + of_atoms(turned + step) * forces
    cell_velocity = of_cells(kept) * cell_velocity + of_cells(turned + step) * cell_forces
    move, cell_move = of_atoms(step) * velocity, of_cells(step) * cell_velocity
    length = jnp.sqrt(total((move**2).sum(1), cell_move**2))
    shortened = jnp.where(length > LONGEST_MOVE_ANGSTROM, LONGEST_MOVE_ANGSTROM / length, 1.0)
    largest = jax.ops.segment_max(
        jnp.linalg.norm(forces, axis=1), batch.crystal, len(batch.num_atoms)
    )
    cell_largest = jnp.linalg.norm(cell_forces, axis=2).max(1)
    return Outcome(
        energy_ev=energy,
        largest_force=jnp.maximum(largest, cell_largest),
        is_finite=jnp.isfinite(energy) & jnp.isfinite(force_norm),
        move=of_atoms(shortened) * move,
        turn=of_cells(shortened / jnp.maximum(batch.num_atoms, 1)) * cell_move,
        motion=Motion(velocity, cell_velocity, step, mixing, downhill, jnp.zeros_like(is_first)),
    )


def exponential(matrix: Float[Any, "*batch 3 3"]) -> Float[Any, "*batch 3 3"]:
    """The exponential of 3×3 matrices, of NumPy or JAX: ten terms of the series of U/8, to the 8th.

    Good to 1e-7 for the largest U that a cell of a solid can have. JAX's own takes seconds to
    compile with its derivative, and SciPy's gives small matrices to several threads, for which it
    waits milliseconds on a busy machine.
    """
    scaled = matrix / 8
    term = scaled
    result = np.eye(3, dtype=matrix.dtype) + term
    for i in range(2, 11):
        term = term @ scaled / i
        result = result + term
    for _ in range(3):
        result = result @ result
    return result


def _energies_and_forces(
    site_energies: SiteEnergies, batch: Batch
) -> tuple[Float[Array, " crystals"], tuple[Float[Array, "atoms 3"], Float[Array, "crystals 3 3"]]]:
    """Energies in eV, and the forces −∂E/∂r and −∂E/∂(n U) in eV/Å."""
    num_crystals = len(batch.num_atoms)
    of_edge = batch.crystal[batch.receivers]

    def total_energy(
        rest_coords: Float[Array, "atoms 3"], log_deformation: Float[Array, "crystals 3 3"]
    ) -> tuple[Array, Array]:
        transposed = jnp.swapaxes(exponential(log_deformation), 1, 2)
        positions = jnp.einsum("ai,aij->aj", rest_coords, transposed[batch.crystal])
        cell = batch.first_cell @ transposed
        displacements = (
            positions[batch.senders]
            - positions[batch.receivers]
            + jnp.einsum("ei,eij->ej", batch.shifts, cell[of_edge])
        )
        of_atoms = site_energies(displacements, batch.species, batch.senders, batch.receivers)
        energy = jax.ops.segment_sum(of_atoms, batch.crystal, num_crystals)
        return energy[:-1].sum(), energy

    # Single precision is what potentials are trained for, and TF32 is less: a GPU's default.
    with jax.default_matmul_precision("highest"):
        gradient = jax.value_and_grad(total_energy, argnums=(0, 1), has_aux=True)
        (_, energy), (by_coords, by_deformation) = gradient(
            batch.rest_coords, batch.log_deformation
        )
    size = jnp.maximum(batch.num_atoms, 1)[:, None, None]
    return energy, (-by_coords, -by_deformation / size)
