"""Relax many crystals with an interatomic potential, in workers that may hang or die.

    settings.json    what the results depend on
    crystals/        one file a crystal, named by the hash of the crystal and the settings
    workers.log      what the potential prints, and the last words of a worker that ended

A crystal's file is moved into place whole as soon as it is done, so a second call goes on where
a killed one stopped and loses at most the crystals in flight. Every crystal has an outcome: one
that cannot be relaxed, outlasts its limit or takes its worker down is failed, with the reason,
and the rest goes on. One that took its worker down is tried again by the next call, one that
outlasted its limit when that is longer; to try another again, delete its file.

The potential is CHGNet, whose weights come with it, or any ASE calculator as "module:factory".
The factory is called without arguments, and it or its module says what its energies are:

    from fairchem.core import OCPCalculator

    energies_are_corrected = False  # eqV2's are not; True if they carry the MP2020 corrections

    def eqv2():
        return OCPCalculator(checkpoint_path="eqV2_153M_omat_mp_salex.pt", cpu=True)

(The paper relaxed with eqV2 by LBFGS in a fixed cell, 100 steps at most; here every potential
relaxes cell and positions by FIRE.)

Energies that are not corrected are brought to the Materials Project's scale by
`miad_jax.evaluation.stability.corrections.corrected_energy_per_atom`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from miad_jax.evaluation.stability import potential
from miad_jax.evaluation.stability.potential import CHGNET, Record
from miad_jax.evaluation.stability.relaxation_folder import (
    LOG,
    SETTINGS,
    key_of,
    open_folder,
    read_record,
    write_record,
)
from miad_jax.evaluation.stability.suitability import request_of, why_not
from miad_jax.evaluation.validity.structure import MIN_VALID_DISTANCE_ANGSTROM, min_distance
from miad_jax.parallel.executor import Executor, WorkerFailure
from miad_jax.parallel.pool import Pool
from miad_jax.parallel.progress import Progress, as_progress

if TYPE_CHECKING:
    from pymatgen.core import Structure

METHOD = "FIRE over positions and cell (FrechetCellFilter)"


@dataclass(frozen=True)
class Relaxation:
    """What became of one crystal.

    Attributes:
        status: "converged", "not converged" within the steps, or "failed".
        steps: Steps that were made; None if failed.
        energy_ev_per_atom: Total energy of the potential, per atom; None if failed.
        energy_is_corrected: Whether that energy carries the MP2020 corrections; None if failed.
        structure: The relaxed crystal; None if failed.
        reason: Why it failed; empty unless it did.
        lost: Whether its worker ended over it: no outcome yet, the next call tries again.
    """

    status: Literal["converged", "not converged", "failed"]
    steps: int | None = None
    energy_ev_per_atom: float | None = None
    energy_is_corrected: bool | None = None
    structure: Structure | None = None
    reason: str = ""
    lost: bool = False


def relax(
    structures: Sequence[Structure | None],
    directory: str | os.PathLike[str],
    *,
    ids: Sequence[str],
    calculator: str = CHGNET,
    max_steps: int = 1500,
    fmax_ev_per_angstrom: float = 0.1,
    seconds_per_crystal: float = 600,
    facts: Mapping[str, Any] | None = None,
    executor: Executor | None = None,
    progress: Progress | bool = False,
) -> list[Relaxation]:
    """Relax cell and positions of every crystal.

    Args:
        structures: The crystals; None where there is none.
        directory: Where results are kept; made if missing.
        ids: A name for each crystal, for the people who read the files.
        calculator: "chgnet", or "module:factory" for any ASE calculator.
        max_steps: Steps at most; 0 gives the energy of the crystal as it is.
        fmax_ev_per_angstrom: Converged if no force, on atoms or cell, is larger.
        seconds_per_crystal: A relaxation that takes longer is failed; the first of a worker, and
            the first after a loss, has the few seconds that loading the potential takes in it.
        facts: What `ask_potential` returned; the potential is asked when None, which loads it once
            more.
        executor: Where crystals are relaxed; local worker processes of one thread each, one for
            each usable core, when None. `Serial` relaxes in this process, without the limit.
        progress: Where to show how far it has come.

    Returns:
        What became of each crystal, in order.

    Raises:
        ValueError: If an argument is wrong, the calculator cannot be loaded or does not declare
            its energies, or the directory holds other files or relaxations of other settings.
    """
    settings = settings_of(calculator, max_steps, fmax_ev_per_angstrom, seconds_per_crystal)
    if len(ids) != len(structures):
        raise ValueError(f"{len(structures)} structures but {len(ids)} ids: give one for each")
    reasons = [why_not(structure) for structure in structures]
    given = {i: s for i, s in enumerate(structures) if s is not None and not reasons[i]}
    if not given:
        return [Relaxation("failed", reason=reason) for reason in reasons]

    folder, executor = Path(directory), executor or Pool()
    open_folder(folder, settings)
    settings |= facts or ask_potential(folder, settings, executor)
    SETTINGS.open(folder, settings)
    keys = {i: key_of(request_of(structure), settings) for i, structure in given.items()}
    first: dict[str, int] = {}
    for i, key in keys.items():
        first.setdefault(key, i)
    records = {key: read_record(folder, key, seconds_per_crystal) for key in first}
    todo = [key for key, record in records.items() if record is None]
    process = _process(folder)
    requests = [settings | process | request_of(given[first[key]]) for key in todo]
    found = executor.map(potential.relax, requests, seconds=seconds_per_crystal)
    bar = as_progress(progress).bar(
        "relaxing", len(records), unit="crystal", done=len(records) - len(todo)
    )
    with closing(found), bar:
        for index, result in found:
            key = todo[index]
            record = {"id": str(ids[first[key]]), **_record(result, seconds_per_crystal)}
            if not record.get("lost"):
                write_record(folder, key, record)
            records[key] = record
            bar.advance()
    corrected = bool(settings["energies_are_corrected"])
    return [
        _outcome(records[keys[i]], given[i], corrected)
        if i in given
        else Relaxation("failed", reason=reason)
        for i, reason in enumerate(reasons)
    ]


def settings_of(
    calculator: str,
    max_steps: int,
    fmax_ev_per_angstrom: float = 0.1,
    seconds_per_crystal: float = 600,
) -> dict[str, Any]:
    """What results depend on, as far as it is known before the potential is asked.

    Raises:
        ValueError: If an argument is wrong.
    """
    module, colon, factory = calculator.partition(":")
    if calculator != CHGNET and not (module and colon and factory):
        raise ValueError(
            f"the calculator is {calculator!r}; allowed: {CHGNET!r}, or 'module:factory', a "
            "function that takes no argument and returns an ASE calculator"
        )
    if max_steps < 0:
        raise ValueError(f"max_steps is {max_steps}; allowed: 0 or more")
    positive = {
        "fmax_ev_per_angstrom": fmax_ev_per_angstrom,
        "seconds_per_crystal": seconds_per_crystal,
    }
    for argument, value in positive.items():
        if not value > 0:
            raise ValueError(f"{argument} is {value:g}; allowed: a positive number")
    return {
        "calculator": calculator,
        "max_steps": max_steps,
        "fmax_ev_per_angstrom": float(fmax_ev_per_angstrom),
        "method": METHOD,
    }


def ask_potential(folder: Path, settings: Mapping[str, Any], executor: Executor) -> Record:
    """What a potential says of itself: whether its energies are corrected, and its version.

    Args:
        folder: An open folder of relaxations, whose log takes what the potential prints.
        settings: Those of `settings_of`.
        executor: Where the potential is loaded.

    Raises:
        ValueError: If it cannot be loaded, or does not declare what its energies are.
    """
    request = {**settings, **_process(folder)}
    ((_, facts),) = executor.map(potential.describe_potential, [request])
    if isinstance(facts, WorkerFailure):
        raise ValueError(
            f"the calculator {request['calculator']!r} could not be loaded: {facts.reason}; see "
            f"{request['log']}"
        )
    if "refused" in facts:
        raise ValueError(facts["refused"])
    return facts


def _process(folder: Path) -> Record:
    """What a worker needs to be ready for a potential."""
    return {"path": list(sys.path), "log": str(folder.absolute() / LOG), "parent": os.getpid()}


def _record(result: Record | WorkerFailure, seconds_per_crystal: float) -> Record:
    """What is kept of a result."""
    if not isinstance(result, WorkerFailure):
        return result
    record: Record = {"status": "failed", "reason": f"the relaxation was lost: {result.reason}"}
    return record | ({"limit_s": seconds_per_crystal} if result.timed_out else {"lost": True})


def _outcome(record: Record | None, structure: Structure, corrected: bool) -> Relaxation:
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
        energy_is_corrected=corrected,
        structure=Structure(
            lattice, [Element.from_Z(site.specie.Z) for site in structure], frac_coords
        ),
    )
