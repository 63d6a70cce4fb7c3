"""What became of a crystal that was to be relaxed, and the record that is kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from miad_jax.evaluation.stability.potential import Record
from miad_jax.evaluation.validity.structure import MIN_VALID_DISTANCE_ANGSTROM, min_distance
from miad_jax.parallel.executor import WorkerFailure

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True)
class Relaxation:
    """What became of one crystal.

    Attributes:
        status: "converged", "not converged" within the steps, or "failed".
        steps: Steps that were made; None if failed.
        energy_ev_per_atom: Total energy of the potential, per atom; None if failed.
        energy_is_corrected: Whether that energy carries the MP2020 corrections; None if failed.
        structure: The relaxed crystal; None if failed.
        potential: What the potential says of itself: `version`, of its package, `weights`, their
            `weights_sha256`, and `energies_are_corrected`; None if failed.
        reason: Why it failed; empty unless it did.
        lost: Whether its worker ended over it: no outcome yet, the next call tries again.
    """

    status: Literal["converged", "not converged", "failed"]
    steps: int | None = None
    energy_ev_per_atom: float | None = None
    energy_is_corrected: bool | None = None
    structure: Structure | None = None
    potential: Mapping[str, Any] | None = None
    reason: str = ""
    lost: bool = False


def record_of(result: Record | WorkerFailure, seconds_per_crystal: float) -> Record:
    """What is kept of a result."""
    if not isinstance(result, WorkerFailure):
        return result
    record: Record = {"status": "failed", "reason": f"the relaxation was lost: {result.reason}"}
    return record | ({"limit_s": seconds_per_crystal} if result.timed_out else {"lost": True})


def outcome_of(
    record: Record | None, structure: Structure, of_potential: Mapping[str, Any]
) -> Relaxation:
    """The outcome that a crystal's record tells."""
    from pymatgen.core import Element, Structure

    assert record is not None
    if record["status"] == "failed":
        return Relaxation("failed", reason=record["reason"], lost=record.get("lost", False))
    lattice, frac_coords = np.array(record["lattice"]), np.array(record["frac_coords"])
    if (distance := min_distance(lattice, frac_coords)) < MIN_VALID_DISTANCE_ANGSTROM:
        reason = f"the relaxed crystal is none: two atoms are {distance:.3g} Å apart"
        return Relaxation("failed", reason=reason)
    return Relaxation(
        status=record["status"],
        steps=record["steps"],
        energy_ev_per_atom=record["energy_ev_per_atom"],
        energy_is_corrected=of_potential["energies_are_corrected"],
        structure=Structure(
            lattice, [Element.from_Z(site.specie.Z) for site in structure], frac_coords
        ),
        potential=of_potential,
    )
