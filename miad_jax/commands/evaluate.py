"""Judge crystals: `python -m miad_jax.evaluate SAMPLES --reference=DATA --out=DIR`.

SAMPLES is what `python -m miad_jax.sample` wrote, a folder or zip of CIFs, an extxyz, or a CSV
with a column `cif`. DATA is a data set: its training split is what is known already, its test
split what is to be covered, its formation energies make the hull. Cut-offs of coverage follow
its name: 0.2 and 4 (structure, composition) for perov… and carbon…, 0.4 and 10 for all others.

The same command continues relaxations that were interrupted, and a larger --num_relaxed adds some;
a report is not replaced by one that says less. The exit code is 1 if a worker process was lost over
a sample, so that an outcome is missing; the same command tries again.
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from absl import flags

from miad_jax.commands import cli as command
from miad_jax.evaluation.pipeline import EXTRA, Energies, Progress, judge, missing_packages
from miad_jax.evaluation.reference import Reference, load_reference
from miad_jax.evaluation.report.files import FORMAT, tables_text, write_report
from miad_jax.evaluation.results import EvaluationResult
from miad_jax.evaluation.samples import SampleSet, load_samples
from miad_jax.evaluation.stability.dft import DftEnergy, read_dft_energies, write_dft_inputs
from miad_jax.evaluation.stability.energies import elemental_energies
from miad_jax.evaluation.stability.hull import hull_from_dataset, hull_from_entries
from miad_jax.evaluation.stability.relax import relax
from miad_jax.storage.files import is_partial, write_atomically

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "reference", None, "Data set: a name, or a folder with train.csv", flag_values=FLAGS
)
flags.DEFINE_string("out", "report", "Folder for the report", flag_values=FLAGS)
flags.DEFINE_string(
    "calculator",
    "chgnet",
    '"chgnet", "module:factory" of any ASE calculator, or "none" for no energies',
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "hull", None, "JSON of computed entries (.json or .json.gz); default: DATA's", flag_values=FLAGS
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
flags.DEFINE_integer("num_workers", None, "Worker processes; default: cores", flag_values=FLAGS)
flags.DEFINE_string(
    "dft_inputs", None, "Folder for VASP inputs of the crystals worth it", flag_values=FLAGS
)
flags.DEFINE_string(
    "dft_energies", None, "CSV of the energies of those inputs; needs --hull", flag_values=FLAGS
)

_RELAXED = "first samples relaxed"


def main(argv: Sequence[str]) -> int:
    """Judge as the command line says."""
    # pymatgen warns of every noble gas; what matters is in the rows.
    warnings.filterwarnings("ignore", message="No Pauling electronegativity")
    samples = command.parse(FLAGS, argv, str(__doc__), positional="SAMPLES")
    if FLAGS.reference is None:
        raise ValueError("no --reference: name a data set, or a folder with train.csv")
    for name, least in (("num_relaxed", 0), ("max_steps", 0), ("num_workers", 1)):
        if (value := FLAGS[name].value) is not None and value < least:
            raise ValueError(f"--{name} is {value}; allowed: {least} or more")
    with_energies = FLAGS.calculator != "none"
    for name in ("dft_inputs", "dft_energies"):
        if FLAGS[name].value is not None and not with_energies:
            raise ValueError(f"--{name} needs relaxed crystals: leave out --calculator=none")
    if FLAGS.dft_energies is not None and FLAGS.hull is None:
        raise ValueError("--dft_energies needs --hull, a JSON of computed entries")
    dft = {} if FLAGS.dft_energies is None else read_dft_energies(FLAGS.dft_energies)
    if missing := missing_packages():
        print(
            f"{', '.join(missing)} not installed, so what needs them is left out; "
            'to install: pip install "miad_jax[eval]"',
            file=sys.stderr,
        )
        with_energies = with_energies and not (FLAGS.calculator == "chgnet" and "chgnet" in missing)
    progress = Progress(lambda line: print(line, file=sys.stderr), bars=True)
    candidates = load_samples(samples, num_workers=FLAGS.num_workers, progress=True)
    reference = load_reference(FLAGS.reference, progress=True)
    for split, content in reference.contents.items():
        print(f"{split} split of {reference.name}: {content}", file=sys.stderr)
    settings = _settings(samples, with_energies)
    out = _open(Path(FLAGS.out), candidates, reference)
    _check_keeps_what_is_there(out / "report.json", settings)
    judgement = judge(
        candidates,
        reference,
        energies=_energies(candidates, reference, out, dft, progress) if with_energies else None,
        with_coverage=FLAGS.coverage,
        settings=settings,
        num_workers=FLAGS.num_workers,
        progress=progress,
    )
    write_report(out, judgement)
    if FLAGS.dft_inputs is not None:
        _write_dft_inputs(judgement, Path(FLAGS.dft_inputs))
    print(_counts(judgement))
    print(tables_text(judgement))
    print(f"\nreport.html, report.json and crystals.csv in {out}")
    if judgement.lost:
        print(
            f"{len(judgement.lost)} samples lack an outcome, as a worker process was lost; the "
            f"same command tries them again: {', '.join(judgement.lost[:5])}",
            file=sys.stderr,
        )
    return command.FAILED if judgement.lost else 0


def _open(out: Path, candidates: SampleSet, reference: Reference) -> Path:
    """Begin a report in a new or empty folder, or go on with that of the same samples.

    Raises:
        ValueError: If the folder holds anything else.
    """
    digest = hashlib.sha256()
    for row, structure in zip(candidates.rows, candidates.structures, strict=True):
        digest.update(f"{row['id']} {row['reason']}".encode(errors="backslashreplace"))
        if structure is not None:
            digest.update(json.dumps(structure.as_dict(), sort_keys=True, default=str).encode())
    run = {
        "format": FORMAT,
        "samples": digest.hexdigest(),
        "reference": reference.fingerprint,
    }
    record = out / "run.json"
    if record.exists():
        try:
            there = json.loads(record.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{record} is no record of a report: name another --out") from error
        if there != run:
            raise ValueError(
                f"{out} holds the report of other samples or another reference: name another --out"
            )
        return out
    if out.exists() and (not out.is_dir() or any(not is_partial(x) for x in out.iterdir())):
        raise ValueError(f"{out} is not empty and holds no report: name a new folder as --out")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(record, json.dumps(run, indent=1) + "\n")
    return out


def _check_keeps_what_is_there(report: Path, settings: Mapping[str, Any]) -> None:
    """Refuse to replace a report by one that says less, or says it by another potential or hull.

    Raises:
        ValueError: If it would, or the file is no report.
    """
    if not report.exists():
        return
    try:
        there = json.loads(report.read_text(encoding="utf-8"))["settings"]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{report} is no report: name another --out") from error

    def number(settings: Mapping[str, Any]) -> float:
        return float(str(settings.get(_RELAXED, 0)).replace("all", "inf"))

    absent = (None, False, "none")
    lost = [
        name
        for name in ("coverage", "potential", "hull file", "DFT energies")
        if there.get(name) not in absent and settings.get(name) != there[name]
    ]
    if not lost and number(settings) < number(there):
        lost.append(_RELAXED)
    if lost:
        differences = ", ".join(
            f"{name}: {there[name]} there, {settings.get(name, 'none')} here" for name in lost
        )
        raise ValueError(
            f"{report} holds what this run would not ({differences}): name another --out, or give "
            "the same flags as there"
        )


def _settings(samples: str, with_energies: bool) -> dict[str, Any]:
    """What the report says of this run."""
    packages = ("miad_jax", "pymatgen", *EXTRA)
    said: dict[str, Any] = {
        "samples": str(samples),
        "coverage": FLAGS.coverage and not {"matminer", "smact"} & set(missing_packages()),
        "potential": FLAGS.calculator if with_energies else "none",
    }
    if with_energies:
        said |= {
            "hull file": FLAGS.hull or "none: the reference's crystals",
            "DFT energies": FLAGS.dft_energies or "none",
            _RELAXED: "all" if FLAGS.num_relaxed is None else FLAGS.num_relaxed,
            "steps of a relaxation at most": FLAGS.max_steps,
            "seconds of a relaxation at most": FLAGS.seconds_per_crystal,
        }
    missing = missing_packages()
    return said | {"versions": {x: version(x) for x in packages if x not in missing}}


def _energies(
    candidates: SampleSet,
    reference: Reference,
    out: Path,
    dft: Mapping[str, DftEnergy],
    progress: Progress,
) -> Energies:
    """Relax the samples, and make the hull."""
    settings: dict[str, Any] = {"num_workers": FLAGS.num_workers, "progress": True}
    if FLAGS.hull is not None:
        hull, elemental = hull_from_entries(FLAGS.hull), None
    else:
        formation = reference.required_formation_energies()
        hull = hull_from_dataset(reference.compositions(), formation.tolist())
        progress.say("elemental energies of the potential")
        elemental = elemental_energies(reference, FLAGS.calculator, **settings)
        print(
            f"elemental energies: fitted to {elemental.num_crystals} crystals, mean absolute error "
            f"{elemental.mae_ev_per_atom:.3f}, root mean square {elemental.rmse_ev_per_atom:.3f} "
            "eV/atom",
            file=sys.stderr,
        )
    progress.say("relaxation")
    chosen = slice(0, FLAGS.num_relaxed)
    relaxations = relax(
        candidates.structures[chosen],
        out / "relaxations",
        ids=[row["id"] for row in candidates.rows[chosen]],
        calculator=FLAGS.calculator,
        max_steps=FLAGS.max_steps,
        seconds_per_crystal=FLAGS.seconds_per_crystal,
        **settings,
    )
    return Energies(relaxations, hull, elemental, dft)


def _write_dft_inputs(judgement: EvaluationResult, folder: Path) -> None:
    """Inputs of the metastable, unique and novel crystals, the most stable first."""
    chosen = [
        (structure, row["id"], row["e_above_hull_ev_per_atom"])
        for row, structure in zip(judgement.rows, judgement.relaxed, strict=True)
        if row["msun"] and structure is not None
    ]
    if not chosen:
        print("no crystal is metastable, unique and novel: no DFT inputs", file=sys.stderr)
        return
    structures, ids, energies = zip(*chosen, strict=True)
    write_dft_inputs(structures, ids, folder, e_above_hull_ev_per_atom=energies)
    print(f"VASP inputs of {len(ids)} crystals in {folder}", file=sys.stderr)


def _counts(judgement: EvaluationResult) -> str:
    rows = judgement.rows
    read = sum(not row["reason"] for row in rows)
    relaxed = sum(row["relaxation"] in ("converged", "not converged") for row in rows)
    judged = sum(row["e_above_hull_ev_per_atom"] is not None for row in rows)
    return f"{len(rows)} samples, {read} read, {relaxed} relaxed, {judged} with a known energy\n"
