"""Relax crystals: `python -m miad_jax.relax CRYSTALS --out=DIR --calculator=nequix`.

CRYSTALS is what `python -m miad_jax.sample` wrote, a folder of CIFs or POSCARs, a zip of CIFs, an
extxyz, or a CSV with a column `cif`. Cell and positions are relaxed by FIRE. DIR gets relaxed.csv
with a row and a reason for every crystal, relaxed.extxyz, and a CIF of each relaxed crystal.

Every relaxation is kept as soon as it is done, so the same command continues what was interrupted.
With --scheduler a Dask cluster does the work (`miad_jax.parallel.dask`). The exit code is 1 if a
worker process was lost over a crystal; the same command tries it again.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from miad_jax.commands import cli as command
from miad_jax.commands import output, workers
from miad_jax.evaluation.samples import load_samples
from miad_jax.evaluation.stability.nequix import NEQUIX
from miad_jax.evaluation.stability.potentials import prepare_potential
from miad_jax.evaluation.stability.relax import settings_of
from miad_jax.evaluation.stability.relaxed import counts, relax_into, sentence
from miad_jax.parallel.pool import Pool
from miad_jax.sampling.devices import cores_as_devices
from miad_jax.storage.lock import one_writer

POTENTIALS_HELP = '"chgnet", "nequix", "sevennet", or "module:factory" of any ASE calculator'
WEIGHTS_HELP = (
    "Weights of NequIX (nequix-oam-1, nequix-mp-1) or SevenNet (7net-l3i5, 7net-0), or their file; "
    "default: the first"
)

FLAGS = flags.FlagValues()
flags.DEFINE_string("out", "relaxed", "Folder for the relaxed crystals", flag_values=FLAGS)
flags.DEFINE_string("calculator", "chgnet", POTENTIALS_HELP, flag_values=FLAGS)
flags.DEFINE_string("weights", None, WEIGHTS_HELP, flag_values=FLAGS)
flags.DEFINE_integer("max_steps", 1500, "Steps at most", flag_values=FLAGS)
flags.DEFINE_float("fmax", 0.1, "Converged below this force, in eV/Å", flag_values=FLAGS)
flags.DEFINE_float(
    "seconds_per_crystal", 600, "A relaxation that takes longer is failed", flag_values=FLAGS
)
workers.define(FLAGS)
output.define(FLAGS)


def main(argv: Sequence[str]) -> int:
    """Relax as the command line says."""
    # pymatgen warns of every noble gas; what matters is in the rows.
    warnings.filterwarnings("ignore", message="No Pauling electronegativity")
    given = copy.deepcopy(FLAGS)  # a second call in one process begins with the defaults
    source = command.parse(given, argv, str(__doc__), positional="CRYSTALS")
    settings_of(given.calculator, given.max_steps, given.fmax, given.seconds_per_crystal)
    pool, folder, out = Pool(given.num_workers), Path(given.out), output.Output.of(given)
    if given.calculator == NEQUIX:
        cores_as_devices()
    prepare_potential(given.calculator, given.weights, progress=out.progress)
    with workers.cluster_of(given) as cluster, one_writer(folder):
        rows, found = relax_into(
            folder,
            load_samples(
                source, num_workers=given.num_workers, executor=cluster, progress=out.progress
            ),
            source=source,
            calculator=given.calculator,
            weights=given.weights,
            max_steps=given.max_steps,
            fmax_ev_per_angstrom=given.fmax,
            seconds_per_crystal=given.seconds_per_crystal,
            executor=cluster or pool,
            progress=out.progress,
        )
    out.say(f"{sentence(rows)}; relaxed.csv, relaxed.extxyz and cif/ are in {folder}")
    lost = [row["id"] for row, x in zip(rows, found, strict=True) if x.lost]
    out.finish({"command": "relax", **relaxed_facts(folder, rows), "lost": lost})
    if lost:
        print(
            f"{len(lost)} crystals lack an outcome, as a worker process was lost; the same command "
            f"tries them again: {', '.join(lost[:5])}",
            file=sys.stderr,
        )
    return command.FAILED if lost else 0


def relaxed_facts(folder: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What programs are told of a folder of relaxed crystals."""
    files = [folder / name for name in ("relaxed.csv", "relaxed.extxyz", "cif")]
    return {"folder": folder, "files": files, "num_crystals": len(rows), **counts(rows)}
