"""Make crystals: `python -m miad_jax.sample --checkpoint=runs/mp20 --num=1000 --out=samples`.

Without a checkpoint, the weights that come with the package are taken. What is done is on disk; the
same command continues, and a larger --num adds samples. Files for people hold each crystal in its
Niggli cell with its atoms sorted by element; samples.npz holds the arrays as generated.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import jax
from absl import flags
from ml_collections import ConfigDict

from miad_jax.build import control_from, solver_from
from miad_jax.commands import asking
from miad_jax.commands import cli as command
from miad_jax.commands.drawing import Drawn, check, draw
from miad_jax.commands.relax import POTENTIALS_HELP, WEIGHTS_HELP
from miad_jax.commands.trajectories import NUM_STATES, TrajectoryWriter
from miad_jax.config import LAST_STEPS, load_config, upgraded, validate
from miad_jax.data.sample_folder import SampleDirectory
from miad_jax.evaluation import describe_all, write_summary
from miad_jax.evaluation.report.summary import refined_sentence
from miad_jax.evaluation.samples import load_samples
from miad_jax.evaluation.stability.potentials import prepare_potential
from miad_jax.evaluation.stability.relaxed import counts, relax_into
from miad_jax.evaluation.validity.structure import NOT_FINITE
from miad_jax.model import DEFAULT, TrainedModel, load_model
from miad_jax.parallel.progress import TerminalProgress
from miad_jax.plots.trajectory import MAX_CELLS
from miad_jax.request import Request
from miad_jax.sampling import SOLVERS, Sampler
from miad_jax.sampling.control import CoordsScore
from miad_jax.sampling.devices import cores_as_devices
from miad_jax.sampling.finite import first_not_finite, is_finite, why_not_finite
from miad_jax.sampling.quality import QUALITIES, settings_of, why_too_few
from miad_jax.sampling.solvers import settings_of_solver
from miad_jax.storage.lock import one_writer

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "checkpoint",
    DEFAULT,
    "Folder of a training run (its --workdir) or of one of its checkpoints, a release file, or "
    "weights of the package",
    flag_values=FLAGS,
)
flags.DEFINE_integer("num", 16, "Number of samples", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_string("out", "samples", "Folder for the crystals", flag_values=FLAGS)
flags.DEFINE_integer(
    "seed",
    0,
    "Seed of the samples",
    lower_bound=0,
    upper_bound=2**32 - 1,
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "quality",
    None,
    f"How good and how fast: {', '.join(QUALITIES)}; sets solver, steps and times; default: the "
    "model's",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "steps",
    None,
    "Steps, at most as many as trained; default: the model's",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "first_time",
    None,
    "The noisiest time, where sampling starts; default: the model's, or where ᾱ is 0.001",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "visit", None, "The times to visit, falling, instead of steps and first_time", flag_values=FLAGS
)
flags.DEFINE_string(
    "solver",
    None,
    f"How steps are made: {', '.join(SOLVERS)}; default: the model's",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "ending",
    None,
    list(LAST_STEPS),
    "Last step of the coordinates: to no noise at all, or as published, where they stay; default: "
    "the model's",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "coords_score",
    None,
    list(get_args(CoordsScore)),
    "Score of atoms that may be mirage: times the probability of being real, or as the network "
    "predicts it; default: the model's",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "corrector_gamma", None, "Strength of the corrector; default: the model's", flag_values=FLAGS
)
flags.DEFINE_float(
    "churn",
    None,
    "How far ancestral steps go back up, in lengths of a step; default: the model's",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "coords_ahead",
    None,
    "How far ancestral steps take the coordinates ahead of their schedule; default: the model's",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "type_temperature",
    None,
    "Divides the logits of atom types: below 1 fewer elements; default: the model's",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "guidance",
    None,
    "Weight of properties that are asked; 1 is the model's own; default: the model's",
    flag_values=FLAGS,
)
asking.define(FLAGS)
flags.DEFINE_float(
    "refine",
    None,
    "Move crystals onto the symmetry found within so many Å (0.1, say), if no atom moves by more; "
    "default: as generated",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "relax",
    None,
    "Relax the crystals as a last step, into relaxed/ beside the unrelaxed; the potential: "
    f"{POTENTIALS_HELP}",
    flag_values=FLAGS,
)
flags.DEFINE_string("relax_weights", None, WEIGHTS_HELP, flag_values=FLAGS)
flags.DEFINE_integer("batch_size", None, "Samples at a time; by the device", flag_values=FLAGS)
flags.DEFINE_integer("chunk_size", None, "Samples the network sees at once", flag_values=FLAGS)
flags.DEFINE_bool(
    "record_num_atoms", False, "Keep the number of real atoms after every step", flag_values=FLAGS
)
flags.DEFINE_bool(
    "trajectory",
    False,
    "Also write how the samples that this call makes came about: trajectories/, an extxyz a sample "
    f"with mirage atoms as X, and trajectory.gif of the first {MAX_CELLS}; samples that are on "
    "disk already have none",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "trajectory_every",
    None,
    f"Steps between two states of a trajectory; default: about {NUM_STATES} states in all",
    flag_values=FLAGS,
)


def main(argv: Sequence[str]) -> int:
    """Sample as the command line says."""
    command.parse(FLAGS, argv, str(__doc__))
    for name in ("steps", "batch_size", "chunk_size", "trajectory_every"):
        value = FLAGS[name].value
        if value is not None and value < 1:
            raise ValueError(f"--{name} is {value}; allowed: a whole number from 1 on")
    if FLAGS.refine is not None and not 0 < FLAGS.refine < math.inf:
        raise ValueError(
            f"--refine is {FLAGS.refine:g}; allowed: a positive, finite number of Å, such as 0.1"
        )
    if FLAGS.trajectory_every is not None and not FLAGS.trajectory:
        raise ValueError("--trajectory_every is given without --trajectory: add it, or leave both")
    if FLAGS.relax_weights is not None and FLAGS.relax is None:
        raise ValueError("--relax_weights is given without --relax: add it, or leave both")
    cores_as_devices()
    if FLAGS.relax is not None:
        prepare_potential(FLAGS.relax, FLAGS.relax_weights, progress=True)
    model = load_model(FLAGS.checkpoint)
    config = validate(_with_flags(model.config), num_devices=1)
    size = config.infusion.num_atoms if config.infusion.enabled else len(model.histogram) - 1
    request = asking.request_of(FLAGS, config)
    solver, control = solver_from(config), control_from(config)
    if request.like is not None:
        last = round(request.strength * model.diffusion.num_steps) - 1
        solver = solver.not_before(model.diffusion, last)
    sampler = Sampler(
        model.diffusion,
        model.denoise,
        size,
        solver=solver,
        control=control,
        chunk_size=FLAGS.chunk_size or _chunk_size_of(Path(FLAGS.out)),
    )
    if warning := why_too_few(solver, control, model.diffusion):
        print(f"warning: {warning}", file=sys.stderr)
    at_once = jax.local_device_count() * sampler.chunk_size
    batch_size = FLAGS.batch_size or -(-16 // at_once) * at_once
    check(request, model, sampler.size)
    with one_writer(Path(FLAGS.out)):
        return _sample_into_folder(model, config, request, sampler, batch_size)


def _sample_into_folder(
    model: TrainedModel, config: ConfigDict, request: Request, sampler: Sampler, batch_size: int
) -> int:
    """Draw what is missing in the folder, and say what is there; returns the exit code."""
    directory = SampleDirectory.open(FLAGS.out, _run(model, config, sampler), upgrade=_upgraded)

    infused, every = config.infusion.enabled, None
    if FLAGS.trajectory:
        every = FLAGS.trajectory_every or max(1, round(sampler.num_steps / NUM_STATES))
    trajectories = TrajectoryWriter(directory.path)
    missing = sorted(set(range(FLAGS.num)) - directory.done())
    num_done = FLAGS.num - len(missing)
    with TerminalProgress().bar("sampling", FLAGS.num, "samples", num_done) as bar:
        for indices in _runs(missing, batch_size):
            drawn = draw(
                sampler,
                model,
                request,
                indices,
                seed=FLAGS.seed,
                attempts=FLAGS.attempts,
                trajectory_every=every,
                bar=bar,
            )
            _tell_not_finite(drawn, indices, has_others=bool(directory.done()))
            extra = {"num_real_atoms": drawn.num_real} if FLAGS.record_num_atoms else {}
            rows = describe_all(drawn.crystals, infused=infused, refine_angstrom=FLAGS.refine)
            if not request.asks_nothing:
                rows = _with_answers(rows, drawn)
            if drawn.trajectory is not None:
                # Before the batch, whose samples are not drawn again once it is on disk.
                trajectories.write_batch(indices[0], drawn.trajectory, rows)
            directory.write_batch(indices[0], drawn.crystals, rows, **extra)

    samples = directory.finish()
    summary = write_summary(
        directory.path,
        samples.rows,
        samples.crystals,
        run=_shown(model),
        refine_angstrom=FLAGS.refine,
        reference_histogram=model.histogram,
    )
    print(
        f"{summary['num_crystals']} crystals of {summary['num_samples']} samples, "
        f"{summary['num_valid_structures']} valid and {summary['num_plausible']} plausible "
        f"structures, in {directory.path}: cif/, samples.extxyz, samples.csv, samples.npz, "
        "summary.md, summary.png"
    )
    if not request.asks_nothing:
        print(_met(samples.rows))
    if FLAGS.trajectory:
        print(trajectories.finish())
    if FLAGS.refine is not None:
        print(refined_sentence(summary, FLAGS.refine))
    code = 0 if FLAGS.relax is None else _relax(directory.path)
    if bad := [str(row["index"]) for row in samples.rows if row["reason"] == NOT_FINITE]:
        print(
            f"{len(bad)} of {len(samples.rows)} samples hold NaN or infinity: "
            f"{', '.join(bad[:5])}{', …' * (len(bad) > 5)}",
            file=sys.stderr,
        )
        return command.FAILED
    return code


def _tell_not_finite(drawn: Drawn, indices: Sequence[int], *, has_others: bool) -> None:
    """Name samples that hold NaN or infinity, and end if there are only such.

    Raises:
        FloatingPointError: If all that were drawn do, and there are no other samples.
    """
    if is_finite(drawn.crystals).all():
        return
    said = why_not_finite(drawn.num_real, indices)
    if not has_others and first_not_finite(drawn.num_real).all():
        raise FloatingPointError(f"{said}: look at the parameters in {FLAGS.checkpoint}")
    print(f"\nwarning: {said}", file=sys.stderr)


def _relax(folder: Path) -> int:
    """Relax all samples of a folder; returns the exit code, 1 if a worker process was lost."""
    rows, found = relax_into(
        folder / "relaxed",
        load_samples(folder, progress=True),
        source=folder,
        calculator=FLAGS.relax,
        weights=FLAGS.relax_weights,
        progress=True,
    )
    print(f"{counts(rows)}; relaxed.csv, relaxed.extxyz and cif/ are in {folder / 'relaxed'}")
    return command.FAILED if any(x.lost for x in found) else 0


def _with_answers(rows: Sequence[dict[str, Any]], drawn: Drawn) -> list[dict[str, Any]]:
    """Rows with what was asked, and whether the sample is that."""
    words = ", ".join(f"{name} {_word(value)}" for name, value in asking.asked(FLAGS).items())
    found = []
    for row, missed, attempts in zip(rows, drawn.missed, drawn.attempts, strict=True):
        missed = [*missed, *_other_space_group(row)]
        answers = {"asked": words, "is_as_asked": not missed, "missed": ", ".join(missed)}
        found.append(dict(row) | answers | {"attempts": int(attempts)})
    return found


def _word(value: Any) -> str:
    return " and ".join(map(str, value)) if isinstance(value, list) else str(value)


def _other_space_group(row: dict[str, Any]) -> list[str]:
    """The space group of a crystal, if it is not that which was asked."""
    found = row["spacegroup_number_0.1"]
    return [f"has space group {found}"] if FLAGS.space_group not in (None, found) else []


def _met(rows: Sequence[dict[str, Any]]) -> str:
    met, attempts = (sum(row[name] for row in rows) for name in ("is_as_asked", "attempts"))
    return f"{met} of {len(rows)} samples are as asked, of {attempts} that were drawn"


def _with_flags(config: ConfigDict) -> ConfigDict:
    """The configuration of a model, with the fields of `sampling` that flags give."""
    config = config.copy_and_resolve_references()
    if FLAGS.quality is not None:
        config.sampling.update(settings_of(FLAGS.quality, config.diffusion.num_steps))
    given = {name: FLAGS[name].value for name in _OF_SAMPLING}
    given["last_step"] = LAST_STEPS.get(FLAGS.ending)
    if FLAGS.visit is not None:
        given |= {"visit": _times(FLAGS.visit)}
        config.sampling.steps = config.sampling.first_time = None
    given = {name: value for name, value in given.items() if value is not None}
    config.sampling.update(given)
    _refuse_what_the_solver_lacks(config, given)
    return config


def _refuse_what_the_solver_lacks(config: ConfigDict, given: Iterable[str]) -> None:
    """A flag that would change nothing is refused."""
    solver = config.sampling.solver
    if solver not in SOLVERS:
        return  # which `validate` says
    owners = {kind: settings_of_solver(kind) for kind in SOLVERS}
    for name in given:
        others = [kind for kind, settings in owners.items() if name in settings]
        if others and solver not in others:
            flag = "ending" if name == "last_step" else name
            raise ValueError(
                f"--{flag} is no setting of the solver {solver}: leave it out, or choose "
                f"--solver={' or '.join(others)}"
            )


def _chunk_size_of(folder: Path) -> int | None:
    """That of the samples in a folder, which more of them share; None where there are none."""
    if not (folder / "run.json").is_file():
        return None
    return SampleDirectory.read_only(folder).run.get("chunk_size")


_OF_SAMPLING = (
    *("solver", "steps", "first_time", "corrector_gamma", "churn", "coords_ahead"),
    *("type_temperature", "coords_score", "guidance"),
)
"""Flags that are fields of `config.sampling` of the same name."""


def _times(listed: Sequence[str]) -> tuple[int, ...]:
    try:
        return tuple(int(time) for time in listed)
    except ValueError as error:
        raise ValueError(
            f"--visit is {','.join(listed)}; allowed: whole numbers, as in 975,500,20"
        ) from error


def _run(model: TrainedModel, config: ConfigDict, sampler: Sampler) -> dict[str, Any]:
    """What the samples and their files depend on.

    A run that refines nothing says nothing of it, as folders of version 0.1 do.
    """
    more: dict[str, Any] = {} if FLAGS.refine is None else {"refine_angstrom": FLAGS.refine}
    if asked := asking.asked(FLAGS):
        more |= {"asked": asked, "attempts": FLAGS.attempts}
    trained = model.config.to_dict()
    del trained["sampling"]  # what is taken of it stands beside it
    return {
        "seed": FLAGS.seed,
        "sampling": {**config.sampling.to_dict(), "steps": sampler.num_steps},
        "chunk_size": sampler.chunk_size,
        **more,
        "checkpoint_step": model.step,
        "parameters": model.digest,
        "data_fingerprint": model.fingerprint,
        "config": trained,
    }


def _upgraded(run: dict[str, Any]) -> dict[str, Any]:
    """The record of an older version: fields stand where they are now, new ones at their defaults.

    Version 0.1 wrote the fields of sampling beside the seed.
    """
    old = {name: run.pop(name) for name in _OF_0_1 if name in run}
    config = upgraded(run["config"])
    if old:
        old["sampling_steps"] = old.pop("steps")
        config = upgraded({**config, "diffusion": {**config["diffusion"], **old}})
    else:
        config["sampling"] = run["sampling"]
    trained = json.loads(json.dumps(load_config(config).to_dict()))
    return {**run, "sampling": trained.pop("sampling"), "config": trained}


_OF_0_1 = ("steps", "ending", "coords_score", "corrector_gamma", "type_temperature")


def _runs(indices: list[int], longest: int) -> Iterator[list[int]]:
    """Cut ascending indices into runs without gaps, of a length of at most `longest`."""
    run: list[int] = []
    for index in indices:
        if run and (index != run[-1] + 1 or len(run) == longest):
            yield run
            run = []
        run.append(index)
    if run:
        yield run


def _shown(model: TrainedModel) -> dict[str, Any]:
    shown = {
        "data": model.config.data.path,
        "training steps": model.step,
        "infusion": model.config.infusion.enabled,
    }
    if start := model.init_from:
        shown["started from"] = f"{start['name']} after {start['step']} steps"
    return shown
