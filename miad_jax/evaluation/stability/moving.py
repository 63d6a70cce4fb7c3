"""A crystal on its way to its minimum, and several of them as one padded batch.

What a crystal needs of its own lies on the host, in double precision where it adds up: where it
is, its neighbours, and what FIRE remembers of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from miad_jax.evaluation.stability.fire import (
    FIRST_MIXING,
    FIRST_STEP,
    Batch,
    Motion,
    Outcome,
    SiteEnergies,
    exponential,
)
from miad_jax.evaluation.stability.neighbours import Neighbours, Pairs
from miad_jax.evaluation.stability.potential import Record, volume_out_of_bounds

_SMALLEST_HALVING = 1


@dataclass(frozen=True)
class JaxPotential:
    """An interatomic potential in JAX.

    Attributes:
        name: For people.
        cutoff_angstrom: Atoms that are not closer do not see each other.
        species: The potential's number of each element that it knows, by atomic number.
        site_energies: Energies of atoms, a pytree such as `jax.tree_util.Partial`.
        facts: What it says of itself, as `potential.describe_potential` does.
    """

    name: str
    cutoff_angstrom: float
    species: Mapping[int, int]
    site_energies: SiteEnergies
    facts: Mapping[str, Any] = field(default_factory=dict)


class Size(NamedTuple):
    """Slots of a batch for crystals, atoms and pairs of neighbours; the last ones are padding."""

    crystals: int
    atoms: int
    edges: int

    def holds(self, crystals: Sequence[Moving]) -> bool:
        """Whether all these crystals fit in."""
        return (
            len(crystals) < self.crystals
            and sum(x.num_atoms for x in crystals) < self.atoms
            and sum(len(x.pairs.senders) for x in crystals) <= self.edges
        )

    def for_these(self, crystals: Sequence[Moving]) -> Size:
        """The smallest of the allowed sizes that holds all these crystals."""
        size = Size(self.crystals, self.atoms >> _SMALLEST_HALVING, self.edges >> _SMALLEST_HALVING)
        while not size.holds(crystals):
            size = Size(self.crystals, 2 * size.atoms, 2 * size.edges)
        return size


class Moving:
    """A crystal on its way: where it is, its neighbours, and what FIRE remembers of it."""

    def __init__(self, index: int, request: Mapping[str, Any], potential: JaxPotential):
        self.index = index
        self.num_atoms = len(request["atomic_numbers"])
        self.max_steps = request["max_steps"]
        self.fmax = request["fmax_ev_per_angstrom"]
        self.species = np.array([potential.species[z] for z in request["atomic_numbers"]])
        self.first_cell = np.array(request["lattice"], np.float64)
        self.rest_coords = np.array(request["frac_coords"], np.float64) @ self.first_cell
        self.log_deformation = np.zeros((3, 3))
        self.motion = still(self.num_atoms)
        self.steps, self.seconds = 0, 0.0
        self._neighbours = Neighbours(potential.cutoff_angstrom)
        self.pairs: Pairs
        self.cell: np.ndarray
        self.positions: np.ndarray

    def place(self) -> str:
        """Find cell, positions and neighbours; why the cell is no solid's, or an empty string."""
        deformation = exponential(self.log_deformation)
        self.cell = self.first_cell @ deformation.T
        self.positions = self.rest_coords @ deformation.T
        if reason := volume_out_of_bounds(abs(np.linalg.det(self.cell)) / self.num_atoms):
            return reason
        self.pairs = self._neighbours.at(self.positions, self.cell)
        return ""

    def result(self, outcome: Outcome, slot: int) -> Record | None:
        """The record of a crystal that goes no further; None if it goes on."""
        if not outcome.is_finite[slot]:
            return self._diverged("the potential's answer is not finite")
        is_converged = outcome.largest_force[slot] < self.fmax
        if not is_converged and self.steps < self.max_steps:
            return None
        return {
            "status": "converged" if is_converged else "not converged",
            "steps": self.steps,
            "energy_ev_per_atom": float(outcome.energy_ev[slot]) / self.num_atoms,
            "lattice": self.cell.tolist(),
            "frac_coords": np.linalg.solve(self.cell.T, self.positions.T).T.tolist(),
        }

    def advance(self, outcome: Outcome, slot: int, atoms: slice) -> Record | None:
        """Make the step; the record of a crystal whose cell is no solid's, or None."""
        self.rest_coords = self.rest_coords + outcome.move[atoms]
        self.log_deformation = self.log_deformation + outcome.turn[slot]
        velocity, *of_crystal = outcome.motion
        self.motion = Motion(velocity[atoms], *(x[slot] for x in of_crystal))
        self.steps += 1
        reason = self.place()
        return self._diverged(reason) if reason else None

    def _diverged(self, reason: str) -> Record:
        reason = f"the relaxation diverges: at step {self.steps} {reason}"
        return {"status": "failed", "reason": reason}


def still(num_atoms: int, num_crystals: int | None = None) -> Motion:
    """What FIRE remembers before its first step, of one crystal or of several."""
    crystals = () if num_crystals is None else (num_crystals,)
    arrays: list[Any] = [
        np.zeros((num_atoms, 3), np.float32),
        np.zeros((*crystals, 3, 3), np.float32),
        np.full(crystals, FIRST_STEP, np.float32),
        np.full(crystals, FIRST_MIXING, np.float32),
        np.zeros(crystals, np.int32),
        np.ones(crystals, bool),
    ]
    return Motion(*arrays)


def packed(crystals: Sequence[Moving], size: Size, cutoff_angstrom: float) -> tuple[Batch, Motion]:
    """The crystals one after the other, and padding.

    An edge that is padding leads from the last atom to its own image, which is too far away to
    be seen.
    """
    num_crystals, num_atoms, num_edges = size
    species = np.zeros(num_atoms, np.int32)
    crystal = np.full(num_atoms, num_crystals - 1, np.int32)
    rest_coords = np.zeros((num_atoms, 3), np.float32)
    senders = np.full(num_edges, num_atoms - 1, np.int32)
    receivers = np.full(num_edges, num_atoms - 1, np.int32)
    shifts = np.zeros((num_edges, 3), np.float32)
    shifts[:, 0] = 1
    counts = np.zeros(num_crystals, np.int32)
    first_cell = np.zeros((num_crystals, 3, 3), np.float32)
    first_cell[:] = 10 * cutoff_angstrom * np.eye(3)
    log_deformation = np.zeros((num_crystals, 3, 3), np.float32)
    memory: list[Any] = list(still(num_atoms, num_crystals))
    first = first_edge = 0
    for slot, x in enumerate(crystals):
        atoms = slice(first, first + x.num_atoms)
        edges = slice(first_edge, first_edge + len(x.pairs.senders))
        species[atoms], crystal[atoms], counts[slot] = x.species, slot, x.num_atoms
        rest_coords[atoms] = x.rest_coords
        first_cell[slot], log_deformation[slot] = x.first_cell, x.log_deformation
        senders[edges] = x.pairs.senders + first
        receivers[edges] = x.pairs.receivers + first
        shifts[edges] = x.pairs.shifts
        for array, value in zip(memory[1:], x.motion[1:], strict=True):
            array[slot] = value
        memory[0][atoms] = x.motion.velocity
        first, first_edge = atoms.stop, edges.stop
    arrays: list[Any] = [species, crystal, counts, rest_coords, first_cell, log_deformation]
    arrays += [senders, receivers, shifts]
    return Batch(*arrays), Motion(*memory)
