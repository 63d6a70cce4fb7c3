"""From samples to a judgement: validity, likeness, coverage, energies, in that order.

Every sample keeps its row to the end; what could not be found of it is None, with a reason.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from miad_jax.data import to_structures
from miad_jax.evaluation.coverage.coverage import coverage, property_distances
from miad_jax.evaluation.coverage.fingerprints import (
    composition_fingerprints,
    structure_fingerprints,
)
from miad_jax.evaluation.describe import describe_all
from miad_jax.evaluation.metrics import (
    DFT,
    composition_statistics,
    matching_rates,
    num_elements,
    stability_rates,
    structure_rates,
    variants,
    with_sun,
)
from miad_jax.evaluation.novelty.matching import match
from miad_jax.evaluation.reference import Reference
from miad_jax.evaluation.results import SAMPLE_COLUMNS, EvaluationResult, Table
from miad_jax.evaluation.samples import SampleSet
from miad_jax.evaluation.stability.corrections import ElementalEnergies
from miad_jax.evaluation.stability.dft import DftEnergy
from miad_jax.evaluation.stability.energies import dft_columns, energy_columns
from miad_jax.evaluation.stability.hull import Hull
from miad_jax.evaluation.stability.relax import Relaxation
from miad_jax.evaluation.statistics import Quantity
from miad_jax.evaluation.validity.composition import valid_composition

if TYPE_CHECKING:
    from pymatgen.core import Structure

EXTRA = ("smact", "matminer", "chgnet")
"""Packages of the extra `eval`."""

CUTOFFS = {"mp": (0.4, 10.0), "perov": (0.2, 4.0), "carbon": (0.2, 4.0)}
"""Cut-offs of coverage, structure and composition, by how a data set's name begins."""


@dataclass(frozen=True)
class Energies:
    """Relaxations of the first samples, and what their energies are measured against.

    Attributes:
        relaxations: Of the first samples, in their order.
        hull: The hull.
        elemental: Elemental energies, for a hull of formation energies.
        dft: Energies of static DFT runs by the sample's id, which need a hull of total energies.
    """

    relaxations: Sequence[Relaxation]
    hull: Hull
    elemental: ElementalEnergies | None = None
    dft: Mapping[str, DftEnergy] = field(default_factory=dict)


@dataclass
class Progress:
    """Says what is being done.

    Attributes:
        say: Called with a line at the beginning of each stage.
        bars: Whether stages show a progress bar.
    """

    say: Callable[[str], None] = field(default=lambda line: None)
    bars: bool = False


def missing_packages() -> list[str]:
    """Packages of the extra `eval` that are not installed."""
    return [name for name in EXTRA if importlib.util.find_spec(name) is None]


def judge(
    candidates: SampleSet,
    reference: Reference,
    *,
    energies: Energies | None = None,
    with_coverage: bool = True,
    settings: Mapping[str, Any] | None = None,
    num_workers: int | None = None,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Judge samples against a data set.

    Args:
        candidates: The samples.
        reference: The data set: its training split is what is known, its test split what is to
            be covered.
        energies: Relaxations and a hull; None leaves stability out.
        with_coverage: Whether to compute fingerprints, which takes 16 ms a site.
        settings: What the report should say of this run besides.
        num_workers: Worker processes; one for each usable core when None.
        progress: Where to say what is being done.
    """
    progress = progress or Progress()
    missing = missing_packages()
    rows = [dict.fromkeys(SAMPLE_COLUMNS) | row for row in candidates.rows]
    structures = candidates.structures
    if "smact" not in missing:
        progress.say("compositions")
        for row, structure in zip(rows, structures, strict=True):
            row["valid_composition"] = structure is not None and valid_composition(
                np.array([site.specie.Z for site in structure])
            )
    progress.say("uniqueness and novelty")
    lost = _match(rows, structures, reference, "", num_workers, progress)
    tables: dict[str, Table] = {"Validity": structure_rates(rows)}
    tables["Uniqueness and novelty"] = matching_rates(rows)
    tables["Sizes, elements, symmetry"] = composition_statistics(rows, reference.histogram)
    if with_coverage and reference.test is not None and not {"matminer", "smact"} & set(missing):
        progress.say("coverage of the test split")
        tables |= _coverage(rows, structures, reference, num_workers, progress)

    relaxed: list[Structure | None] = [None] * len(rows)
    shown = dict(settings or {}) | {
        "reference": reference.name,
        "reference crystals": reference.contents,
    }
    if energies is not None:
        progress.say("stability")
        num = len(energies.relaxations)
        for row in rows[num:]:
            row["relaxation_reason"] = f"not asked for: only the first {num} were to be relaxed"
        relaxed[:num] = [x.structure for x in energies.relaxations]
        found = energy_columns(energies.relaxations, energies.hull, energies.elemental)
        _update(rows, found)
        lost |= {i for i, x in enumerate(energies.relaxations) if x.lost}
        lost |= _match(rows[:num], relaxed[:num], reference, "_relaxed", num_workers, progress)
        rows[:num] = with_sun(rows[:num])
        tables["Stability"] = stability_rates(rows[:num])
        tables["S.U.N. by every definition"] = variants(rows[:num])
        if energies.dft:
            ids = [str(row["id"]) for row in rows]
            _update(rows, dft_columns(relaxed, ids, energies.dft, energies.hull))
            tables["Stability by DFT"] = stability_rates(rows[:num], DFT)
        shown |= _said_of(energies)
    return EvaluationResult(
        rows,
        tables,
        structures,
        relaxed,
        reference.histogram,
        shown,
        lost=[str(rows[i]["id"]) for i in sorted(lost)],
    )


def _update(rows: Sequence[dict[str, Any]], columns: Sequence[Mapping[str, Any]]) -> None:
    """Add columns to the first rows."""
    for row, found in zip(rows, columns, strict=False):
        row |= found


def _said_of(energies: Energies) -> dict[str, str]:
    """What the report says of the hull."""
    said = {"hull": energies.hull.definition}
    if energies.elemental is not None:
        said["elemental energies"] = (
            f"fitted to {energies.elemental.num_crystals} crystals, mean absolute error "
            f"{energies.elemental.mae_ev_per_atom:.3f} eV/atom; in eV: "
            + ", ".join(f"{e} {x:.3f}" for e, x in sorted(energies.elemental.energies_ev.items()))
        )
    return said


def _match(
    rows: Sequence[dict[str, Any]],
    structures: Sequence[Structure | None],
    reference: Reference,
    end: str,
    num_workers: int | None,
    progress: Progress,
) -> set[int]:
    """Write who matches whom into the rows; what is no crystal is neither unique nor novel.

    Of a crystal that could not be compared neither is known.

    Returns:
        The rows over which a worker was lost.
    """
    found = match(structures, reference.train, num_workers=num_workers, progress=progress.bars)
    for i, row in enumerate(rows):
        duplicate, known = found.duplicate_of[i], found.known_as[i]
        unknown = bool(found.reasons[i])
        row[f"unique{end}"] = None if unknown else found.judged[i] and duplicate is None
        row[f"novel{end}"] = None if unknown else found.judged[i] and known is None
        row[f"duplicate_of{end}"] = None if duplicate is None else rows[duplicate]["id"]
        row[f"known_as{end}"] = None if known is None else reference.train_records.ids[known]
        row["matching_reason"] = row.get("matching_reason") or found.reasons[i]
    return set(np.flatnonzero(found.lost).tolist())


def _coverage(
    rows: Sequence[Mapping[str, Any]],
    structures: Sequence[Structure | None],
    reference: Reference,
    num_workers: int | None,
    progress: Progress,
) -> dict[str, Table]:
    """Coverage of the test split, and distances of properties to it."""
    assert reference.test is not None
    test = to_structures(list(reference.test))
    prints = {}
    for name, found in (("sample", structures), ("test", test)):
        prints[name] = (
            structure_fingerprints(found, num_workers=num_workers, progress=progress.bars),
            composition_fingerprints([None if x is None else x.composition for x in found]),
        )
    structure_cutoff, composition_cutoff = cutoffs(reference.name)
    covered = coverage(
        *prints["sample"],
        *prints["test"],
        structure_cutoff=structure_cutoff,
        composition_cutoff=composition_cutoff,
    )
    good = [row for row in rows if row["valid_structure"] and row["valid_composition"]]
    described = describe_all(reference.test)
    distances: Sequence[Quantity] = property_distances(
        *_properties(good), *_properties(described), max_num=len(described)
    )
    return {
        "Coverage of the test split": [
            covered.recall,
            covered.precision,
            covered.amsd_recall,
            covered.amsd_precision,
            covered.amcd_recall,
            covered.amcd_precision,
        ],
        "Distances to the test split": distances,
    }


def cutoffs(name: str) -> tuple[float, float]:
    """Cut-offs of coverage for a data set, by its name; those of MP-20 for others."""
    last = Path(name).resolve().name.lower()
    return next((c for start, c in CUTOFFS.items() if last.startswith(start)), CUTOFFS["mp"])


def _properties(rows: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Densities and numbers of elements."""
    return (
        np.array([row["density_g_per_cm3"] for row in rows], float),
        np.array([num_elements(row) for row in rows], int),
    )
