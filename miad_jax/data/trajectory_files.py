"""Trajectories as files: an extxyz for every sample, a record for every state of it.

Mirage atoms are there as ASE's species `X`, of atomic number 0, so that viewers show them, and
every record has the same number of atoms; atoms of undecided type are `X` too. Cells and
coordinates stand as generated.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from miad_jax.crystal import MIRAGE, UNDECIDED, Crystal
from miad_jax.data.formats import plain_formula
from miad_jax.storage.files import remove_partial_files, write_atomically


def write_trajectories(
    folder: Path,
    first_index: int,
    crystals: Crystal,
    times: Int[np.ndarray, " frames"],
    steps: Int[np.ndarray, " frames"],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Write `000123_NaCl.extxyz` for every sample; earlier files of these samples are replaced.

    Args:
        folder: Made if it is missing.
        first_index: Number in the run of the first sample; the others follow.
        crystals: States [samples, frames], mirage atoms included, numpy-backed.
        times: Time of each state, −1 for the last.
        steps: Number of steps before each state.
        rows: A row each, as `describe` returns it; the file of a sample without a formula is
            called by its number alone.

    Raises:
        ValueError: If there is not one row for every sample.
    """
    if len(rows) != len(crystals):
        raise ValueError(f"{len(crystals)} samples, but {len(rows)} rows: give one each")
    folder.mkdir(exist_ok=True)
    remove_partial_files(folder)
    for index, (states, row) in enumerate(zip(crystals, rows, strict=True), first_index):
        formula = "" if row["reason"] else "_" + plain_formula(row["formula"])
        text = trajectory_text(states, times, steps, index)
        write_atomically(folder / f"{index:06d}{formula}.extxyz", text)


def trajectory_text(
    states: Crystal,
    times: Int[np.ndarray, " frames"],
    steps: Int[np.ndarray, " frames"],
    index: int,
) -> str:
    """The states of one sample [frames] as extxyz, each with its `index`, `time` and `step`.

    States that are not finite are left out.
    """
    from ase import Atoms
    from ase.io import write

    frames = []
    for state, time, step in zip(states, times, steps, strict=True):
        mask = np.asarray(state.mask)
        lattice = np.asarray(state.lattice, np.float64)
        frac_coords = np.asarray(state.frac_coords, np.float64)[mask]
        if not (np.isfinite(lattice).all() and np.isfinite(frac_coords).all()):
            continue
        types = np.asarray(state.atom_types)[mask]
        atoms = Atoms(
            numbers=np.where(types == UNDECIDED, MIRAGE, types),
            scaled_positions=frac_coords,
            cell=lattice,
            pbc=True,
            info={"index": index, "time": int(time), "step": int(step)},
        )
        frames.append(atoms)
    buffer = io.StringIO()
    write(buffer, frames, format="extxyz")
    return buffer.getvalue()
