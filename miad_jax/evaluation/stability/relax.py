"""Relax many crystals with an interatomic potential, and keep what is done.

    settings.json    what the results depend on
    crystals/        one file a crystal, named by the hash of the crystal and the settings
    workers.log      what the potential prints, and the last words of a worker that ended

A crystal's file is moved into place whole as soon as it is done, so a second call goes on where
a killed one stopped and loses at most the crystals in flight. Every crystal has an outcome: one
that cannot be relaxed, outlasts its limit or takes its worker down is failed, with the reason,
and the rest goes on. One that took its worker down is tried again by the next call, one that
outlasted its limit when that is longer; to try another again, delete its file.

The potential is "chgnet" or "sevennet", whose weights come with them, "nequix", or any ASE
calculator as "module:factory". NequIX runs in batches (`batches`), in this process or, a few
crystals a task, on a Dask cluster (`on_cluster`); the others run crystal by crystal in workers,
which may hang or die. A factory is called without arguments, and it or its module says what its
energies are and, if it has any, where its weights are:

    from fairchem.core import OCPCalculator

    energies_are_corrected = False  # eqV2's are not; True if they carry the MP2020 corrections
    weights = "eqV2_153M_omat_mp_salex.pt"  # results of other weights never mix with these

    def eqv2():
        return OCPCalculator(checkpoint_path=weights, cpu=True)

(The paper relaxed with eqV2 by LBFGS in a fixed cell, 100 steps at most; here every potential
relaxes cell and positions by FIRE.)

Energies that are not corrected are brought to the Materials Project's scale by
`miad_jax.evaluation.stability.corrections.corrected_energy_per_atom`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miad_jax.evaluation.stability import potential
from miad_jax.evaluation.stability.batches import relax_in_batches
from miad_jax.evaluation.stability.nequix import NEQUIX, find_weights, load_nequix
from miad_jax.evaluation.stability.on_cluster import relax_on_cluster
from miad_jax.evaluation.stability.potential import CHGNET, Record
from miad_jax.evaluation.stability.potentials import check_potential
from miad_jax.evaluation.stability.relaxation import Relaxation, outcome_of, record_of
from miad_jax.evaluation.stability.relaxation_folder import (
    LOG,
    begin,
    key_of,
    open_folder,
    read_record,
    write_record,
)
from miad_jax.evaluation.stability.suitability import request_of, why_not
from miad_jax.parallel.dask import Dask
from miad_jax.parallel.executor import Executor, WorkerFailure
from miad_jax.parallel.pool import Pool
from miad_jax.parallel.progress import Progress, as_progress

if TYPE_CHECKING:
    from pymatgen.core import Structure

METHOD = "FIRE over positions and cell (FrechetCellFilter)"

FACTS = ("energies_are_corrected", "version", "weights", "weights_sha256")
"""What a potential says of itself, which results depend on."""


def relax(
    structures: Sequence[Structure | None],
    directory: str | os.PathLike[str] | None = None,
    *,
    ids: Sequence[str] | None = None,
    calculator: str = CHGNET,
    weights: str | os.PathLike[str] | None = None,
    max_steps: int = 1500,
    fmax_ev_per_angstrom: float = 0.1,
    seconds_per_crystal: float = 600,
    facts: Mapping[str, Any] | None = None,
    executor: Executor | None = None,
    progress: Progress | bool = False,
) -> list[Relaxation]:
    """Relax cell and positions of every crystal.

    Example:
        >>> crystals, _ = miad_jax.load_dataset("prototypes", "test")
        >>> structures = miad_jax.to_structures(crystals[:4])
        >>> relaxed = miad_jax.relax(structures, calculator="nequix")  # doctest: +SKIP
        >>> relaxed[0].energy_ev_per_atom  # doctest: +SKIP

    Args:
        structures: The crystals; None where there is none.
        directory: Where results are kept; made if missing. None keeps nothing.
        ids: A name for each crystal, for the people who read the files; its number when None.
        calculator: "chgnet", "nequix", "sevennet", or "module:factory" for any ASE calculator.
        weights: Name or file of the potential's weights; see `potentials.NAMED_WEIGHTS`. None takes
            its own.
        max_steps: Steps at most; 0 gives the energy of the crystal as it is.
        fmax_ev_per_angstrom: Converged if no force, on atoms or cell, is larger.
        seconds_per_crystal: A relaxation that takes longer is failed; the first of a worker, and
            the first after a loss, has the few seconds that loading the potential takes in it.
        facts: What `ask_potential` returned; the potential is asked when None, which loads it once
            more.
        executor: Where crystals are relaxed; local worker processes of one thread each, one for
            each usable core, when None. `Serial` relaxes in this process, without the limit. NequIX
            runs on a `Dask` cluster; of other executors it takes the number of workers: so many
            devices of JAX at most.
        progress: Where to show how far it has come.

    Returns:
        What became of each crystal, in order.

    Raises:
        ValueError: If an argument is wrong, the calculator cannot be loaded or does not declare
            its energies, or the directory holds other files or relaxations of other settings.
    """
    settings = settings_of(calculator, max_steps, fmax_ev_per_angstrom, seconds_per_crystal)
    check_potential(calculator, weights)
    ids = [str(i) for i in range(len(structures))] if ids is None else ids
    if len(ids) != len(structures):
        raise ValueError(f"{len(structures)} structures but {len(ids)} ids: give one for each")
    reasons = [why_not(structure) for structure in structures]
    given = {i: s for i, s in enumerate(structures) if s is not None and not reasons[i]}
    if not given:
        return [Relaxation("failed", reason=reason) for reason in reasons]

    with _folder(directory) as folder:
        executor = executor or Pool()
        open_folder(folder, settings)
        settings |= facts or ask_potential(folder, settings, executor, weights, progress)
        settings = begin(folder, settings)
        keys = {i: key_of(request_of(structure), settings) for i, structure in given.items()}
        first: dict[str, int] = {}
        for i, key in keys.items():
            first.setdefault(key, i)
        records = {key: read_record(folder, key, seconds_per_crystal) for key in first}
        todo = [key for key, record in records.items() if record is None]
        process = _process(folder, weights)
        requests = [settings | process | request_of(given[first[key]]) for key in todo]
        found = _run(requests, calculator, weights, seconds_per_crystal, executor, progress)
        bar = as_progress(progress).bar(
            "relaxing", len(records), unit="crystal", done=len(records) - len(todo)
        )
        with closing(found), bar:
            for index, result in found:
                key = todo[index]
                record = {"id": str(ids[first[key]]), **record_of(result, seconds_per_crystal)}
                if not record.get("lost"):
                    write_record(folder, key, record)
                records[key] = record
                bar.advance()
    of_potential = {name: settings[name] for name in FACTS}
    return [
        outcome_of(records[keys[i]], given[i], of_potential)
        if i in given
        else Relaxation("failed", reason=reason)
        for i, reason in enumerate(reasons)
    ]


@contextmanager
def _folder(directory: str | os.PathLike[str] | None) -> Iterator[Path]:
    """The folder in which results are kept, one that is gone afterwards when None."""
    if directory is not None:
        yield Path(directory)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _run(
    requests: Sequence[Record],
    calculator: str,
    weights: str | os.PathLike[str] | None,
    seconds: float,
    executor: Executor,
    progress: Progress | bool,
) -> Generator[tuple[int, Record | WorkerFailure], None, None]:
    """Relax what is asked for, in workers or in batches."""
    if calculator != NEQUIX or not requests:
        return executor.map(potential.relax, requests, seconds=seconds)
    if isinstance(executor, Dask):
        return relax_on_cluster(requests, executor, seconds)
    return relax_in_batches(
        load_nequix(find_weights(weights, progress)),
        requests,
        seconds=seconds,
        num_lanes=executor.num_workers,
    )


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
    check_potential(calculator)
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


def ask_potential(
    folder: Path,
    settings: Mapping[str, Any],
    executor: Executor,
    weights: str | os.PathLike[str] | None = None,
    progress: Progress | bool = False,
) -> Record:
    """What a potential says of itself: the entries `FACTS`.

    Args:
        folder: An open folder of relaxations, whose log takes what the potential prints.
        settings: Those of `settings_of`.
        executor: Where the potential is loaded.
        weights: Name or file of its weights; None for its own.
        progress: Where to show how weights are fetched.

    Raises:
        ValueError: If it cannot be loaded, or does not declare what its energies are.
        ConnectionError: If its weights cannot be fetched.
    """
    if settings["calculator"] == NEQUIX:
        return dict(load_nequix(find_weights(weights, progress)).facts)
    request = {**settings, **_process(folder, weights)}
    ((_, facts),) = executor.map(potential.describe_potential, [request])
    if isinstance(facts, WorkerFailure):
        raise ValueError(
            f"the calculator {request['calculator']!r} could not be loaded: {facts.reason}; see "
            f"{request['log']}"
        )
    if "refused" in facts:
        raise ValueError(facts["refused"])
    return facts


def _process(folder: Path, weights: str | os.PathLike[str] | None) -> Record:
    """What a worker needs to be ready for a potential."""
    file = "" if weights is None else os.fspath(weights)
    return {
        "path": list(sys.path),
        "log": str(folder.absolute() / LOG),
        "parent": os.getpid(),
        "weights_file": str(Path(file).absolute()) if os.path.isfile(file) else file,
    }
