"""Energies above a hull of relaxed samples, whatever potential and hull they come from."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from miad_jax.evaluation.reference import Reference
from miad_jax.evaluation.stability.corrections import (
    ElementalEnergies,
    choose_for_fit,
    corrected_energy_per_atom,
    fit_elemental_energies,
    guessed_anions,
)
from miad_jax.evaluation.stability.dft import DftEnergy
from miad_jax.evaluation.stability.hull import Hull
from miad_jax.evaluation.stability.relax import Relaxation, relax
from miad_jax.parallel.executor import Executor
from miad_jax.parallel.progress import Progress, as_progress
from miad_jax.storage.cache import default_cache_dir, is_writable

if TYPE_CHECKING:
    from pymatgen.core import Structure


def elemental_energies(
    reference: Reference,
    calculator: str,
    *,
    facts: Mapping[str, Any],
    weights: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    progress: Progress | bool = False,
) -> ElementalEnergies:
    """Fit a potential's elemental energies to a data set's formation energies, once; cached.

    Some thirty crystals of each element are enough, and get an energy as they are. The cache is
    named by all that the energies depend on: the potential, its weights and version, the version of
    pymatgen, which corrects them, and the data set.

    Args:
        reference: The data set.
        calculator: The potential, as of `relax`.
        facts: What the potential says of itself; see `relax.ask_potential`.
        weights: As of `relax`.
        executor: Where crystals get their energies.
        progress: Where to show how far it has come.

    Raises:
        ValueError: If the data set has no formation energies, or the potential gave no energy.
    """
    formation = reference.required_formation_energies()
    depends = {"calculator": calculator, **facts, "pymatgen": version("pymatgen")}
    identity = f"{json.dumps(depends, sort_keys=True)} {reference.fingerprint}"
    name = hashlib.sha256(identity.encode()).hexdigest()[:16]
    folder = default_cache_dir() / "elemental_energies" / name
    file = folder.with_suffix(".json")
    if file.exists():
        try:
            return ElementalEnergies.load(file)
        except ValueError as error:
            warnings.warn(f"{error}, and they are fitted again", stacklevel=2)
    compositions = reference.compositions()
    known = np.flatnonzero(np.isfinite(formation)).tolist()
    chosen = [known[i] for i in choose_for_fit([compositions[i] for i in known])]
    structures = reference.structures(chosen)
    keeps = is_writable(folder.parent)
    found = relax(
        structures,
        folder if keeps else None,
        ids=[str(i) for i in chosen],
        calculator=calculator,
        weights=weights,
        max_steps=0,
        facts=facts,
        executor=executor,
        progress=progress,
    )
    totals = [total_energy_ev_per_atom(r) for r in found]
    good = [
        (compositions[i], total, formation[i])
        for i, total in zip(chosen, totals, strict=True)
        if isinstance(total, float)
    ]
    if not good:
        raise ValueError(
            f"{calculator} gave no energy of any crystal of {reference.name}; the first: "
            f"{totals[0]}"
        )
    if lost := [x for x in totals if isinstance(x, str)]:
        as_progress(progress).say(
            f"{len(lost)} of {len(totals)} crystals have no energy, and elemental energies are "
            f"fitted to the others; the first: {lost[0]}"
        )
    fit = fit_elemental_energies(*(list(column) for column in zip(*good, strict=True)))
    if keeps and not any(relaxation.lost for relaxation in found):
        fit.save(file)
    return fit


def total_energy_ev_per_atom(relaxation: Relaxation) -> float | str:
    """A corrected total energy, or the reason why there is none."""
    if relaxation.energy_ev_per_atom is None or relaxation.structure is None:
        return relaxation.reason
    if relaxation.energy_is_corrected:
        return relaxation.energy_ev_per_atom
    return corrected_energy_per_atom(relaxation.structure, relaxation.energy_ev_per_atom)


def e_above_hull(
    structure: Structure,
    total: float | str,
    hull: Hull,
    elemental: ElementalEnergies | None = None,
) -> float | str:
    """Energy above the hull in eV/atom, or the reason why there is none.

    Args:
        structure: What the energy is of.
        total: Its corrected total energy in eV/atom, or why there is none.
        hull: The hull.
        elemental: Fitted elemental energies, for a hull of formation energies without its own.
    """
    if isinstance(total, str):
        return total
    energy: float | str = total
    if hull.scale == "formation":
        elemental = hull.elemental or elemental
        if elemental is None:
            return "the hull is one of formation energies, and no elemental energies were fitted"
        energy = elemental.formation_energy_ev_per_atom(structure.composition, total)
    if isinstance(energy, str):
        return energy
    return hull.e_above_hull_ev_per_atom(structure.composition, energy)


def check_dft_energies(energies: Mapping[str, DftEnergy], ids: Sequence[str], hull: Hull) -> None:
    """Refuse DFT energies that belong to other samples, or to another kind of hull.

    Raises:
        ValueError: If the hull is one of formation energies without energies of the elements, or
            an id is none of the samples.
    """
    if hull.scale != "total" and hull.elemental is None:
        raise ValueError(
            "DFT energies need a hull of computed entries, or one of formation energies with the "
            "elements' entries: give --hull, a JSON of entries, or a table and --elements"
        )
    if unknown := sorted(set(energies) - set(ids)):
        raise ValueError(
            f"the DFT energies name {unknown[0]!r}, which is no sample: give the table of the "
            "inputs that were made from these samples"
        )


def dft_columns(
    structures: Sequence[Structure | None],
    ids: Sequence[str],
    energies: Mapping[str, DftEnergy],
    hull: Hull,
) -> list[dict[str, Any]]:
    """What the rows get from a table of DFT energies, corrected as the Materials Project's.

    Args:
        structures: The crystals that were handed off; None where there is none.
        ids: Their names.
        energies: Total energies by name; those without the corrections get them.
        hull: A hull of total energies, or one with energies of the elements.

    Raises:
        ValueError: What `check_dft_energies` refuses.
    """
    check_dft_energies(energies, ids, hull)
    found = []
    for structure, name in zip(structures, ids, strict=True):
        total = above = None
        reason = ""
        if name in energies and structure is None:
            reason = "the sample has no relaxed structure"
        elif name in energies and structure is not None:
            total = _corrected_dft_energy(structure, energies[name])
            above = e_above_hull(structure, total, hull)
            reason = _remark(structure, above, energies[name].is_corrected)
        found.append(
            {
                "dft_energy_ev_per_atom": total if isinstance(total, float) else None,
                "dft_e_above_hull_ev_per_atom": above if isinstance(above, float) else None,
                "dft_reason": reason,
            }
        )
    return found


def _corrected_dft_energy(structure: Structure, dft: DftEnergy) -> float | str:
    """The corrected energy in eV/atom, or the reason why there is none."""
    if dft.is_corrected:
        return dft.energy_ev / len(structure)
    return corrected_energy_per_atom(
        structure,
        dft.energy_ev / len(structure),
        hubbards=dft.hubbards,
        potcar_symbols=dft.potcar_symbols,
    )


def _remark(structure: Structure, above: float | str, is_corrected: bool) -> str:
    """Why there is no energy above the hull, or what of it is a guess."""
    if isinstance(above, str):
        return above
    return "" if is_corrected else guessed_anions(structure.composition)


def energy_columns(
    relaxations: Sequence[Relaxation], hull: Hull, elemental: ElementalEnergies | None
) -> list[dict[str, Any]]:
    """What the row of each relaxed sample gets: outcome, energy, distance to the hull, reasons."""
    found = []
    for relaxation in relaxations:
        total = total_energy_ev_per_atom(relaxation)
        above: float | str | None = None
        num_phases, reason = None, ""
        if relaxation.structure is not None:
            above = e_above_hull(relaxation.structure, total, hull, elemental)
            reason = _remark(relaxation.structure, above, bool(relaxation.energy_is_corrected))
            num_phases = hull.num_competing_phases(relaxation.structure.composition)
        found.append(
            {
                "relaxation": relaxation.status,
                "relaxation_steps": relaxation.steps,
                "relaxation_reason": relaxation.reason,
                "energy_ev_per_atom": total if isinstance(total, float) else None,
                "e_above_hull_ev_per_atom": above if isinstance(above, float) else None,
                "hull_reason": reason,
                "num_competing_phases": num_phases,
            }
        )
    return found
