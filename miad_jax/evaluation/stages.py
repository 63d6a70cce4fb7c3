"""The stages of an evaluation in their order: cheap ones first, relaxation last.

A stage fills in columns of the samples' rows, and tables. Each can be done again at little cost:
fingerprints and elemental energies are kept in the cache folder, matches and relaxations in the
folder of the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from miad_jax.data import to_structures
from miad_jax.data.properties import density_g_per_cm3
from miad_jax.evaluation import metrics, peers
from miad_jax.evaluation.coverage import (
    composition_fingerprints,
    coverage,
    cutoffs,
    property_distances,
    structure_fingerprints,
)
from miad_jax.evaluation.novelty import novelty_columns
from miad_jax.evaluation.novelty.nearest import nearest_columns
from miad_jax.evaluation.plan import Plan
from miad_jax.evaluation.reference import Reference
from miad_jax.evaluation.stability.energies import (
    check_dft_energies,
    dft_columns,
    elemental_energies,
    energy_columns,
)
from miad_jax.evaluation.stability.hull import hull_from_dataset
from miad_jax.evaluation.stability.hull_report import (
    POTENTIAL_ERROR,
    hull_rates,
    radioactive_elements,
    radioactive_rate,
)
from miad_jax.evaluation.stability.potentials import error_sentence
from miad_jax.evaluation.stability.relax import ask_potential, relax, settings_of
from miad_jax.evaluation.stability.relaxation_folder import check_settings, open_folder
from miad_jax.evaluation.validity.composition import valid_composition
from miad_jax.evaluation.work import Work

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True)
class Stage:
    """One step of an evaluation.

    Attributes:
        name: For people, in the report.
        run: Does it.
        is_asked: Whether a plan asks for it.
    """

    name: str
    run: Callable[[Work], None]
    is_asked: Callable[[Plan, Reference], bool] = lambda plan, reference: True


def stages_of(plan: Plan, reference: Reference) -> list[Stage]:
    """The stages that a plan asks for, in order."""
    return [stage for stage in STAGES if stage.is_asked(plan, reference)]


def _structures(work: Work) -> None:
    """What was read: valid structures, sizes, elements, symmetry."""
    for row in work.rows:
        system = None if row["reason"] else row["chemical_system"]
        row["radioactive_elements"] = radioactive_elements(system)
    work.tables["Validity"] = metrics.structure_rates(work.rows)
    work.tables["Sizes, elements, symmetry"] = [
        *metrics.composition_statistics(work.rows, work.reference.histogram),
        radioactive_rate(work.rows),
    ]


def _compositions(work: Work) -> None:
    """Which compositions are valid."""
    with work.progress.bar("compositions", len(work.rows), "crystals") as bar:
        for row, structure in zip(work.rows, work.samples.structures, strict=True):
            numbers = None if structure is None else _numbers(structure)
            row["valid_composition"] = numbers is not None and valid_composition(numbers)
            bar.advance()
    work.tables["Validity"] = metrics.structure_rates(work.rows)


def _potential_and_hull(work: Work) -> None:
    """Make the hull, and ask the potential what it is: errors come early."""
    plan, reference = work.plan, work.reference
    if plan.hull is not None:
        work.hull = plan.hull
    else:
        formation = reference.required_formation_energies()
        work.hull = hull_from_dataset(reference.compositions(), formation.tolist())
    work.settings["hull"] = work.hull.definition
    work.progress.say(f"hull: {work.hull.definition}")
    if plan.dft:
        check_dft_energies(plan.dft, work.ids, work.hull)
    known = settings_of(plan.calculator, plan.max_steps)
    open_folder(work.relaxations, known)
    work.facts = ask_potential(work.relaxations, known, work.executor, plan.weights, work.progress)
    check_settings(work.relaxations, {**known, **work.facts})
    work.settings["relaxed with"] = dict(work.facts)
    work.settings[POTENTIAL_ERROR] = error_sentence(plan.calculator, work.facts)


def _uniqueness_and_novelty(work: Work) -> None:
    """Who matches whom among the samples as generated."""
    _match(work, work.samples.structures, "")
    work.tables["Uniqueness and novelty"] = metrics.matching_rates(work.rows)


def _nearest(work: Work) -> None:
    """The nearest reference crystal of each sample as generated."""
    _update(work.rows, nearest_columns(work.samples.structures, work.reference, work.progress))


def _coverage(work: Work) -> None:
    """Coverage of the test split, and distances of properties to it."""
    reference, executor, progress = work.reference, work.executor, work.progress
    assert reference.test is not None
    test = to_structures(list(reference.test))
    prints = {}
    for name, found in (("sample", work.samples.structures), ("test", test)):
        prints[name] = (
            structure_fingerprints(found, executor=executor, progress=progress),
            composition_fingerprints([None if x is None else x.composition for x in found]),
        )
    structure_cutoff, composition_cutoff = cutoffs(reference.name)
    covered = coverage(
        *prints["sample"],
        *prints["test"],
        structure_cutoff=structure_cutoff,
        composition_cutoff=composition_cutoff,
    )
    good = [
        structure
        for row, structure in zip(work.rows, work.samples.structures, strict=True)
        if structure is not None and row["valid_structure"] and row["valid_composition"]
    ]
    work.tables["Coverage of the test split"] = covered.table()
    work.tables["Distances to the test split"] = property_distances(
        *_properties(good), *_properties(test), max_num=len(test)
    )


def _properties(structures: Sequence[Structure]) -> tuple[np.ndarray, np.ndarray]:
    """Densities in g/cm³ and numbers of elements."""
    numbers = [_numbers(structure) for structure in structures]
    densities = [
        density_g_per_cm3(structure.lattice.matrix, z)
        for structure, z in zip(structures, numbers, strict=True)
    ]
    return np.array(densities, float), np.array([len(np.unique(z)) for z in numbers], int)


def _numbers(structure: Structure) -> np.ndarray:
    """Atomic numbers of the sites."""
    return np.array([site.specie.Z for site in structure])


def _elemental_energies(work: Work) -> None:
    """Fit what turns a potential's total energies into formation energies."""
    work.elemental = fit = elemental_energies(
        work.reference,
        work.plan.calculator,
        facts=work.facts,
        weights=work.plan.weights,
        executor=work.executor,
        progress=work.progress,
    )
    quality = (
        f"fitted to {fit.num_crystals} crystals, mean absolute error "
        f"{fit.mae_ev_per_atom:.3f} eV/atom"
    )
    work.progress.say(f"elemental energies: {quality}")
    energies = ", ".join(f"{e} {x:.3f}" for e, x in sorted(fit.energies_ev.items()))
    work.settings["elemental energies"] = f"{quality}; in eV: {energies}"


def _relaxation(work: Work) -> None:
    """Relax the first samples, and measure them against the hull."""
    assert work.hull is not None
    plan, num = work.plan, work.num_relaxed
    relaxations = relax(
        work.samples.structures[:num],
        work.relaxations,
        ids=work.ids[:num],
        calculator=plan.calculator,
        weights=plan.weights,
        max_steps=plan.max_steps,
        seconds_per_crystal=plan.seconds_per_crystal,
        facts=work.facts,
        executor=work.executor,
        progress=work.progress,
    )
    work.relaxed[:num] = [x.structure for x in relaxations]
    work.lost |= {i for i, x in enumerate(relaxations) if x.lost}
    _update(work.rows, energy_columns(relaxations, work.hull, work.elemental))
    for row in work.rows[num:]:
        row["relaxation_reason"] = f"not asked for: only the first {num} were to be relaxed"


def _relaxed_uniqueness_and_novelty(work: Work) -> None:
    """Who matches whom after relaxation, as we compare crystals and as peers do."""
    relaxed = work.relaxed[: work.num_relaxed]
    _match(work, relaxed, "_relaxed")
    _match(work, relaxed, "_disordered", as_disordered=True)
    _match(work, peers.on_the_hull(work.rows, relaxed), "_among_stable")
    _update(work.rows, peers.symmetry_columns(relaxed))


def _stability(work: Work) -> None:
    """Stable, unique, novel."""
    num = work.num_relaxed
    work.rows[:num] = metrics.with_sun(work.rows[:num])
    work.tables["Hull"] = hull_rates(work.rows[:num])
    work.tables["Stability"] = metrics.stability_rates(work.rows[:num])
    work.tables["S.U.N. by every definition"] = metrics.variants(work.rows[:num])
    work.tables["Definitions of peers"] = peers.peer_rates(work.rows[:num])


def _dft(work: Work) -> None:
    """Stability by the energies of DFT runs."""
    assert work.hull is not None
    _update(work.rows, dft_columns(work.relaxed, work.ids, work.plan.dft, work.hull))
    rows = work.rows[: work.num_relaxed]
    work.tables["Stability by DFT"] = metrics.stability_rates(rows, metrics.DFT)


def _match(
    work: Work, structures: Sequence[Structure | None], end: str, as_disordered: bool = False
) -> None:
    """Write uniqueness and novelty of the first samples into their rows."""
    columns, lost = novelty_columns(
        structures,
        work.ids,
        work.reference,
        as_disordered=as_disordered,
        executor=work.executor,
        kept=work.matches,
        progress=work.progress,
    )
    for row, found in zip(work.rows, columns, strict=False):
        reason = found.pop("matching_reason")
        row |= {f"{name}{end}": value for name, value in found.items()}
        row["matching_reason"] = row["matching_reason"] or reason
    work.lost |= set(np.flatnonzero(lost).tolist())


def _update(rows: Sequence[dict[str, Any]], columns: Sequence[Mapping[str, Any]]) -> None:
    """Add columns to the first rows."""
    for row, found in zip(rows, columns, strict=False):
        row |= found


def _asks_for_energies(plan: Plan, reference: Reference) -> bool:
    return plan.has_energies


def _asks_for_elemental_energies(plan: Plan, reference: Reference) -> bool:
    return plan.fits_elemental_energies


STAGES = (
    Stage("structures", _structures),
    Stage("compositions", _compositions, lambda plan, reference: "smact" not in plan.missing),
    Stage("potential and hull", _potential_and_hull, _asks_for_energies),
    Stage("uniqueness and novelty", _uniqueness_and_novelty),
    Stage("nearest reference crystals", _nearest, lambda plan, reference: plan.nearest),
    Stage(
        "coverage",
        _coverage,
        lambda plan, reference: plan.coverage and reference.test is not None,
    ),
    Stage("elemental energies", _elemental_energies, _asks_for_elemental_energies),
    Stage("relaxation", _relaxation, _asks_for_energies),
    Stage(
        "uniqueness and novelty of the relaxed",
        _relaxed_uniqueness_and_novelty,
        _asks_for_energies,
    ),
    Stage("stability", _stability, _asks_for_energies),
    Stage("DFT energies", _dft, lambda plan, reference: plan.has_energies and bool(plan.dft)),
)
"""All stages in their order."""
