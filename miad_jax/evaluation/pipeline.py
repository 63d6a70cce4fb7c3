"""`evaluate`: the stages one after the other, and the report written again after each."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from miad_jax.evaluation.plan import make_plan
from miad_jax.evaluation.reference import Reference, load_reference
from miad_jax.evaluation.report.folder import ReportFolder
from miad_jax.evaluation.report.lemat import write_lemat_tables
from miad_jax.evaluation.results import EvaluationResult
from miad_jax.evaluation.samples import SampleSet, Source, load_samples
from miad_jax.evaluation.stability.dft import DftEnergy, write_dft_inputs
from miad_jax.evaluation.stability.hull import Hull
from miad_jax.evaluation.stability.potential import CHGNET
from miad_jax.evaluation.stability.relax import settings_of
from miad_jax.evaluation.stability.relaxation_folder import check_settings
from miad_jax.evaluation.stages import stages_of
from miad_jax.evaluation.work import Work
from miad_jax.parallel.executor import Executor
from miad_jax.parallel.pool import Pool
from miad_jax.parallel.progress import Progress, as_progress
from miad_jax.storage.lock import one_writer

if TYPE_CHECKING:
    from pymatgen.core import Structure


def evaluate(
    structures: Source,
    reference: str | os.PathLike[str] | Sequence[Structure] | Reference,
    *,
    out: str | os.PathLike[str] | None = None,
    calculator: str = CHGNET,
    weights: str | os.PathLike[str] | None = None,
    hull: str | os.PathLike[str] | Hull | None = None,
    elements: str | os.PathLike[str] | None = None,
    num_relaxed: int | None = None,
    max_steps: int = 1500,
    seconds_per_crystal: float = 600,
    coverage: bool = True,
    nearest: bool = False,
    lemat: str | os.PathLike[str] | None = None,
    dft_inputs: str | os.PathLike[str] | None = None,
    dft_energies: str | os.PathLike[str] | Mapping[str, DftEnergy] | None = None,
    num_workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | bool = False,
) -> EvaluationResult:
    """Evaluate generated crystals: validity, uniqueness, novelty, coverage, stability, S.U.N.

    Cheap stages come first and relaxation comes last. With `out`, the report there is written
    again after every stage, and the same call continues what was interrupted.

    Example:
        >>> crystals, _ = miad_jax.load_dataset("prototypes", "test")
        >>> found = miad_jax.evaluate(
        ...     crystals[:4], "prototypes", calculator="none", coverage=False
        ... )
        >>> found.table["valid_structure"].tolist()
        [True, True, True, True]

    Args:
        structures: The folder of samples that `python -m miad_jax.sample` wrote; a folder of
            CIFs or POSCARs, a zip of CIFs, an extxyz, or a CSV with a column `cif`; a batch of
            crystals; or a list of pymatgen Structures, None for a sample that failed.
        reference: A data set, its name or its path, or a list of pymatgen Structures. Its training
            split is what is known already, its test split what is to be covered, its formation
            energies make the hull.
        out: Folder for the report, for what continues an interrupted call, and for relaxations.
            None writes nothing, and keeps neither matches nor relaxations.
        calculator: Potential that relaxes the samples: "chgnet", "nequix", "sevennet",
            "module:factory" of any ASE calculator, or "none" for no energies.
        weights: Weights of NequIX or SevenNet, by name or as a file; the potential's own when None.
        hull: A hull; a JSON of computed entries at total energies (.json or .json.gz); or a table
            (.csv or .csv.gz) with a column `formula` and one of formation energies in eV/atom, such
            as `formation_energy_per_atom`. None makes that of the reference's crystals.
        elements: JSON of the elements' entries at total energies, for a table: the formation
            energy of a crystal is its corrected total energy less theirs.
        num_relaxed: Relax the first so many samples; None, or more than there are, for all.
        max_steps: Steps of a relaxation at most.
        seconds_per_crystal: A relaxation that takes longer is failed.
        coverage: Whether to compute fingerprints and the coverage of the test split, which takes
            17 ms a site.
        nearest: Whether to search the nearest reference crystal of each sample by average minimum
            distance; see `novelty.nearest`.
        lemat: Folder for the crystals as LeMat-GenBench reads them; see `report.lemat`.
        dft_inputs: Folder for VASP inputs of the metastable, unique and novel crystals.
        dft_energies: Energies by DFT of these inputs, or a CSV of them; needs `hull`.
        num_workers: Local worker processes; one for each usable core when None.
        executor: Where work outside JAX runs instead of local worker processes, such as
            `miad_jax.parallel.dask.Dask("tcp://host:8786")`, a Dask cluster.
        progress: Where to show what is done; True for standard error.

    Raises:
        ValueError: If an argument is wrong, samples or reference cannot be read, or `out` holds
            anything else than a report of the same samples that this call completes, or another
            process writes to it.
        FileNotFoundError: If a file is missing.
    """
    plan = make_plan(
        calculator=calculator,
        weights=weights,
        hull=hull,
        elements=elements,
        num_relaxed=num_relaxed,
        max_steps=max_steps,
        seconds_per_crystal=seconds_per_crystal,
        coverage=coverage,
        nearest=nearest,
        dft_inputs=dft_inputs,
        dft_energies=dft_energies,
    )
    progress, pool = as_progress(progress), Pool(num_workers)
    samples = load_samples(
        structures, num_workers=num_workers, executor=executor, progress=progress
    )
    num_samples = len(samples.rows)
    if num_relaxed is not None and num_relaxed > num_samples:
        progress.say(f"num_relaxed is {num_relaxed}: all {num_samples} samples are relaxed")
        plan = replace(plan, num_relaxed=None)
    if not isinstance(reference, Reference):
        reference = load_reference(
            reference, splits=plan.splits, executor=executor, progress=progress
        )
    for split, content in reference.contents.items():
        progress.say(f"{split} split of {reference.name}: {content}")
    if plan.fits_elemental_energies:
        reference.required_formation_energies()
    stages = stages_of(plan, reference)
    names = [stage.name for stage in stages]
    settings = plan.settings(_name(structures))
    report, matches = None, None
    with ExitStack() as stack:
        if out is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            relaxations = Path(folder) / "relaxations"
        else:
            relaxations = Path(out) / "relaxations"
            stack.enter_context(one_writer(Path(out)))
            report = ReportFolder(Path(out), samples, reference, settings, names)
            if plan.has_energies:
                check_settings(relaxations, settings_of(plan.calculator, max_steps))
            matches = report.matches
        settings |= {"reference": reference.name, "reference crystals": dict(reference.contents)}
        work = Work(
            samples,
            reference,
            plan,
            relaxations,
            matches,
            executor or pool,
            progress,
            settings,
        )
        for i, stage in enumerate(stages):
            progress.say(stage.name)
            stage.run(work)
            result = work.result(names[: i + 1], names[i + 1 :])
            if report is not None:
                report.write(result)
    if lemat is not None:
        for name, num in write_lemat_tables(result, Path(lemat)).items():
            progress.say(f"{num} crystals for LeMat-GenBench in {Path(lemat) / name}")
    if dft_inputs is not None:
        _write_dft_inputs(result, Path(dft_inputs), progress)
    return result


def _name(structures: Source) -> str:
    """Where samples are from, for people."""
    if isinstance(structures, str | os.PathLike):
        return os.fspath(structures)
    size = len(structures.rows) if isinstance(structures, SampleSet) else len(structures)
    return f"{size} structures"


def _write_dft_inputs(result: EvaluationResult, folder: Path, progress: Progress) -> None:
    """Inputs of the metastable, unique and novel crystals, the most stable first."""
    chosen = [
        (structure, row["id"], row["e_above_hull_ev_per_atom"])
        for row, structure in zip(result.rows, result.relaxed, strict=True)
        if row["msun"] and structure is not None
    ]
    if not chosen:
        progress.say("no crystal is metastable, unique and novel: no DFT inputs")
        return
    structures, ids, energies = zip(*chosen, strict=True)
    write_dft_inputs(structures, ids, folder, e_above_hull_ev_per_atom=energies)
    progress.say(f"VASP inputs of {len(ids)} crystals in {folder}")
