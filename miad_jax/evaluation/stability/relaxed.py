"""A folder of relaxed crystals, for people who only want those.

run.json        what the results depend on
relaxations/    every relaxation as it was done; the same call goes on from there
relaxed.csv     a row for every crystal, also for those that could not be relaxed
relaxed.extxyz  the relaxed crystals, each with its `id`, `energy` and `status`
cif/            the same as CIF files
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from miad_jax.data.formats import csv_text, plain_formula
from miad_jax.evaluation.samples import SampleSet
from miad_jax.evaluation.stability.corrections import corrected_energy_per_atom, guessed_anions
from miad_jax.evaluation.stability.frames import frame_of, frames_text
from miad_jax.evaluation.stability.relax import Relaxation, relax, settings_of
from miad_jax.evaluation.stability.relaxation_folder import check_settings
from miad_jax.evaluation.stability.suitability import request_of
from miad_jax.parallel.executor import Executor
from miad_jax.parallel.progress import Progress
from miad_jax.storage.files import replace_files, write_atomically
from miad_jax.storage.run_record import RunRecord

if TYPE_CHECKING:
    from pymatgen.core import Structure

RECORD = RunRecord("run.json", "miad_jax relaxed crystals 1", "relaxed crystals")
RELAXATIONS = "relaxations"

COLUMNS = (
    *("id", "reduced_formula", "num_atoms", "status", "steps"),
    *("raw_energy_ev_per_atom", "corrected_energy_ev_per_atom"),
    *("volume_change", "rms_displacement_angstrom", "reason", "potential", "weights_sha256"),
)
"""Columns of relaxed.csv.

The raw energy is the potential's own; it is empty where the potential's energies carry the
Materials Project's 2020 corrections. `volume_change` is a share of the volume before. The
displacement is the root mean square of how far atoms moved within the cell, without what moved all
of them.
"""


def open_relaxed(folder: Path, source: str | os.PathLike[str], settings: dict[str, Any]) -> None:
    """Begin a folder of relaxed crystals, or go on with it.

    Args:
        folder: A new or empty folder, or that of the same call.
        source: Where the crystals are from.
        settings: Those of `relax.settings_of`.

    Raises:
        ValueError: If the folder holds anything else.
    """
    # From the folder to the crystals, so that both can be moved together.
    RECORD.open(folder, {"crystals": os.path.relpath(source, folder), **settings})
    check_settings(folder / RELAXATIONS, settings)


def relax_into(
    folder: Path,
    samples: SampleSet,
    *,
    source: str | os.PathLike[str],
    calculator: str,
    weights: str | os.PathLike[str] | None = None,
    max_steps: int = 1500,
    fmax_ev_per_angstrom: float = 0.1,
    seconds_per_crystal: float = 600,
    executor: Executor | None = None,
    progress: Progress | bool = False,
) -> tuple[list[dict[str, Any]], list[Relaxation]]:
    """Relax crystals, and write the files of the folder; arguments as of `relax`.

    Args:
        folder: As of `open_relaxed`.
        samples: The crystals, with a reason where there is none.
        source: Where they are from.
        calculator: The potential.
        weights: Its weights.
        max_steps: Steps at most.
        fmax_ev_per_angstrom: The force at which a crystal has converged.
        seconds_per_crystal: A relaxation that takes longer is failed.
        executor: Where crystals are relaxed.
        progress: Where to show how far it has come.

    Returns:
        The rows of relaxed.csv, and what became of each crystal.

    Raises:
        ValueError: If an argument is wrong, or the folder holds anything else.
    """
    settings = settings_of(calculator, max_steps, fmax_ev_per_angstrom, seconds_per_crystal)
    open_relaxed(folder, source, settings)
    found = relax(
        samples.structures,
        folder / RELAXATIONS,
        ids=[str(row["id"]) for row in samples.rows],
        calculator=calculator,
        weights=weights,
        max_steps=max_steps,
        fmax_ev_per_angstrom=fmax_ev_per_angstrom,
        seconds_per_crystal=seconds_per_crystal,
        executor=executor,
        progress=progress,
    )
    rows = [
        _row(row, structure, relaxation)
        for row, structure, relaxation in zip(samples.rows, samples.structures, found, strict=True)
    ]
    _write(folder, rows, found)
    return rows, found


def _row(row: dict[str, Any], structure: Structure | None, found: Relaxation) -> dict[str, Any]:
    """The line of a crystal in relaxed.csv."""
    line = dict.fromkeys(COLUMNS) | {name: row[name] for name in COLUMNS[:3]}
    line |= {"status": found.status, "steps": found.steps, "reason": row["reason"] or found.reason}
    if structure is None or found.structure is None:
        return line
    assert found.energy_ev_per_atom is not None
    line |= _of_potential(found)
    total: float | str = found.energy_ev_per_atom
    if not found.energy_is_corrected:
        line["raw_energy_ev_per_atom"] = found.energy_ev_per_atom
        total = corrected_energy_per_atom(found.structure, found.energy_ev_per_atom)
    if isinstance(total, str):
        line["reason"] = total
    else:
        line["corrected_energy_ev_per_atom"] = total
        if not found.energy_is_corrected:
            line["reason"] = guessed_anions(found.structure.composition)
    line["volume_change"] = float(found.structure.volume / structure.volume - 1)
    line["rms_displacement_angstrom"] = _rms_displacement(structure, found.structure)
    return line


def _of_potential(found: Relaxation) -> dict[str, Any]:
    """What a result says of the potential that it is of."""
    assert found.potential is not None
    names = {"potential": "version", "weights_sha256": "weights_sha256"}
    return {name: found.potential.get(fact) or "" for name, fact in names.items()}


def _rms_displacement(before: Structure, after: Structure) -> float:
    """How far atoms moved in the cell, in Å, root mean square."""
    moves = after.frac_coords - np.array(request_of(before)["frac_coords"])
    moves = (moves - moves.mean(0)) @ after.lattice.matrix
    return float(np.sqrt((moves**2).sum(1).mean()))


def _write(folder: Path, rows: Sequence[dict[str, Any]], found: Sequence[Relaxation]) -> None:
    """The table, the extxyz and the CIF files, each whole or not at all."""
    good = [(i, x.structure) for i, x in enumerate(found) if x.structure is not None]
    frames = [
        frame_of(
            structure,
            id=rows[i]["id"],
            energy=found[i].energy_ev_per_atom * len(structure),  # type: ignore[operator]
            status=rows[i]["status"],
            energy_is_corrected=found[i].energy_is_corrected,
            **_of_potential(found[i]),
        )
        for i, structure in good
    ]
    texts = {
        f"{i:06d}_{plain_formula(structure.composition.formula)}.cif": structure.to(fmt="cif")
        for i, structure in good
    }
    cifs = {name: text.encode() for name, text in texts.items()}
    replace_files(folder / "cif", cifs, r"\d{6,}_.*\.cif")
    write_atomically(folder / "relaxed.extxyz", frames_text(frames))
    table = csv_text([{name: row[name] for name in COLUMNS} for row in rows])
    write_atomically(folder / "relaxed.csv", table.encode(errors="backslashreplace"))


def counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many crystals converged, did not, and failed."""
    return {
        f"num_{status.replace(' ', '_')}": sum(row["status"] == status for row in rows)
        for status in ("converged", "not converged", "failed")
    }


def sentence(rows: Sequence[Mapping[str, Any]]) -> str:
    """What `counts` says, in words."""
    found = counts(rows)
    return (
        f"{found['num_converged']} of {len(rows)} crystals converged, "
        f"{found['num_not_converged']} did not within the steps, {found['num_failed']} failed"
    )
