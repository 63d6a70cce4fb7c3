"""Evaluate crystals: `python -m miad_jax.evaluate SAMPLES --reference=DATA --out=DIR`.

SAMPLES is what `python -m miad_jax.sample` wrote, a folder of CIFs or POSCARs, a zip of CIFs, an
extxyz, or a CSV with a column `cif`. DATA is a data set: its training split is what is known
already, its test split what is to be covered, its formation energies make the hull. Cut-offs of
coverage follow its name: 0.2 and 4 (structure, composition) for perov… and carbon…, 0.4 and 10 for
all others.

Cheap stages come first and relaxation comes last; the report is written again after every stage.
The same command continues what was interrupted, and a larger --num_relaxed adds relaxations; a
report is not replaced by one that says less, and one process at a time writes to it. With
--scheduler a Dask cluster does the work (`miad_jax.parallel.dask`). The exit code is 1 if a worker
process was lost over a sample, so that an outcome is missing; the same command tries again.
"""

from __future__ import annotations

import copy
import json
import sys
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from miad_jax.commands import cli as command
from miad_jax.commands import output, workers
from miad_jax.commands.relax import WEIGHTS_HELP
from miad_jax.evaluation.pipeline import evaluate
from miad_jax.evaluation.plan import EXTRA
from miad_jax.evaluation.results import EvaluationResult
from miad_jax.evaluation.stability.hull_report import judge_sentences
from miad_jax.evaluation.stability.nequix import NEQUIX
from miad_jax.evaluation.tables import MAX_LINE_LENGTH, tables_text
from miad_jax.parallel.executor import Executor
from miad_jax.sampling.devices import cores_as_devices

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "reference", None, "Data set: a name, or a folder with train.csv", flag_values=FLAGS
)
flags.DEFINE_string("out", "report", "Folder for the report", flag_values=FLAGS)
flags.DEFINE_string(
    "calculator",
    "chgnet",
    '"chgnet", "nequix", "sevennet", "module:factory" of any ASE calculator, or "none" for no '
    "energies",
    flag_values=FLAGS,
)
flags.DEFINE_string("weights", None, WEIGHTS_HELP, flag_values=FLAGS)
flags.DEFINE_string(
    "hull",
    None,
    "JSON of computed entries at total energies (.json, .json.gz), or a table (.csv, .csv.gz) of "
    "formation energies in eV/atom by formula, which needs --elements; default: DATA's crystals, "
    "whose hull lies above the true one",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "elements",
    None,
    "JSON of the elements' entries at total energies, for a table of formation energies",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "num_relaxed", None, "Relax the first so many samples; default: all", flag_values=FLAGS
)
flags.DEFINE_integer("max_steps", 1500, "Steps of a relaxation at most", flag_values=FLAGS)
flags.DEFINE_float(
    "seconds_per_crystal", 600, "A relaxation that takes longer is failed", flag_values=FLAGS
)
flags.DEFINE_bool(
    "coverage", True, "Fingerprints and coverage of the test split", flag_values=FLAGS
)
flags.DEFINE_bool(
    "nearest", False, "Nearest reference crystals by average minimum distance", flag_values=FLAGS
)
flags.DEFINE_string(
    "lemat", None, "Folder for the crystals as LeMat-GenBench reads them", flag_values=FLAGS
)
workers.define(FLAGS)
flags.DEFINE_string(
    "dft_inputs", None, "Folder for VASP inputs of the crystals worth it", flag_values=FLAGS
)
flags.DEFINE_string(
    "dft_energies", None, "CSV of the energies of those inputs; needs --hull", flag_values=FLAGS
)
output.define(FLAGS)


def main(argv: Sequence[str]) -> int:
    """Evaluate as the command line says."""
    # pymatgen warns of every noble gas; what matters is in the rows.
    warnings.filterwarnings("ignore", message="No Pauling electronegativity")
    given = copy.deepcopy(FLAGS)  # a second call in one process begins with the defaults
    samples = command.parse(given, argv, str(__doc__), positional="SAMPLES")
    if given.reference is None:
        raise ValueError("no --reference: name a data set, or a folder with train.csv")
    if given.calculator == NEQUIX:
        cores_as_devices()
    with workers.cluster_of(given, packages=EXTRA) as cluster:
        return _evaluate(given, samples, cluster)


def _evaluate(given: flags.FlagValues, samples: str, executor: Executor | None) -> int:
    """Evaluate as the flags say, and print what was found."""
    out = output.Output.of(given)
    result = evaluate(
        samples,
        given.reference,
        out=given.out,
        calculator=given.calculator,
        weights=given.weights,
        hull=given.hull,
        elements=given.elements,
        num_relaxed=given.num_relaxed,
        max_steps=given.max_steps,
        seconds_per_crystal=given.seconds_per_crystal,
        coverage=given.coverage,
        nearest=given.nearest,
        lemat=given.lemat,
        dft_inputs=given.dft_inputs,
        dft_energies=given.dft_energies,
        num_workers=given.num_workers,
        executor=executor,
        progress=out.progress,
    )
    counts, sentences = _counts(result), judge_sentences(result.rows, result.settings)
    out.say(
        f"{counts['num_samples']} samples, {counts['num_read']} read, {counts['num_relaxed']} "
        f"relaxed, {counts['num_with_energy']} with a known energy"
    )
    for sentence in sentences:
        out.say(textwrap.fill(sentence, MAX_LINE_LENGTH))
    out.say()
    out.say(tables_text(result.tables))
    out.say(f"\nreport.html, report.json and crystals.csv in {given.out}")
    files = [Path(given.out) / x for x in ("report.html", "report.json", "crystals.csv")]
    out.finish(
        {
            "command": "evaluate",
            "folder": given.out,
            "files": files,
            **counts,
            "rates": json.loads(result.rates().to_json(orient="records")),
            "remarks": sentences,
            "lost": result.lost,
        }
    )
    if result.lost:
        print(
            f"{len(result.lost)} samples lack an outcome, as a worker process was lost; the "
            f"same command tries them again: {', '.join(result.lost[:5])}",
            file=sys.stderr,
        )
    return command.FAILED if result.lost else 0


def _counts(result: EvaluationResult) -> dict[str, int]:
    rows = result.rows
    relaxed = sum(row["relaxation"] in ("converged", "not converged") for row in rows)
    return {
        "num_samples": len(rows),
        "num_read": sum(not row["reason"] for row in rows),
        "num_relaxed": relaxed,
        "num_with_energy": sum(row["e_above_hull_ev_per_atom"] is not None for row in rows),
    }
