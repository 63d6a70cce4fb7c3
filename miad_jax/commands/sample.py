"""Make crystals: `python -m miad_jax.sample --checkpoint=runs/mp20 --num=1000 --out=samples`.

Without a checkpoint, the weights that come with the package are taken. What is done is on disk; the
same command continues, and a larger --num adds samples. Files for people hold each crystal in its
Niggli cell with its atoms sorted by element; samples.npz holds the arrays as generated.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from jaxtyping import Float
from ml_collections import ConfigDict

from miad_jax import hosts
from miad_jax.build import solver_from
from miad_jax.commands import asking, choosing, output, solving
from miad_jax.commands import cli as command
from miad_jax.commands.relax import POTENTIALS_HELP, WEIGHTS_HELP, relaxed_facts
from miad_jax.commands.sample_record import chunk_size_of, run_of, upgraded
from miad_jax.commands.trajectories import NUM_STATES, TrajectoryWriter
from miad_jax.config import DTYPES, validate
from miad_jax.data.exported import ALWAYS, DEFAULT_FORMATS, PLACES, checked_formats, zip_samples
from miad_jax.data.sample_folder import BYTES_OF_A_SAMPLE, SampleDirectory
from miad_jax.evaluation import describe_all, write_summary
from miad_jax.evaluation.report.summary import refined_sentence
from miad_jax.evaluation.samples import load_samples
from miad_jax.evaluation.stability.potentials import prepare_potential
from miad_jax.evaluation.stability.relaxed import relax_into, sentence
from miad_jax.evaluation.validity.structure import NOT_FINITE
from miad_jax.generation.drawing import Drawn, check, draw, draw_best, sampler_of, samples_at_a_time
from miad_jax.generation.judge import Judge
from miad_jax.model import DEFAULT, TrainedModel, load_model
from miad_jax.plots.trajectory import MAX_CELLS
from miad_jax.request import Request
from miad_jax.sampling import Sampler
from miad_jax.sampling.devices import cores_as_devices
from miad_jax.sampling.finite import first_not_finite, is_finite, why_not_finite
from miad_jax.sampling.quality import why_too_few
from miad_jax.storage.files import check_space
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
flags.DEFINE_enum(
    "dtype",
    None,
    list(DTYPES),
    "Precision of matrix products; bfloat16 is faster on GPUs and on CPUs with AMX; default: "
    "float32 on a CPU, elsewhere that of the training",
    flag_values=FLAGS,
)
solving.define(FLAGS)
asking.define(FLAGS)
choosing.define(FLAGS)
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
flags.DEFINE_list(
    "formats",
    list(DEFAULT_FORMATS),
    f"Formats of the crystals: {', '.join(PLACES)}",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "zip", False, "Also pack the files of all formats as samples.zip", flag_values=FLAGS
)
output.define(FLAGS)


def main(argv: Sequence[str]) -> int:
    """Sample as the command line says."""
    command.parse(FLAGS, argv, str(__doc__))
    out, formats = output.Output.of(FLAGS), checked_formats(FLAGS.formats)
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
    hosts.join()
    if not hosts.is_first():
        out = output.Output.to_nobody()
    if FLAGS.relax is not None:
        prepare_potential(FLAGS.relax, FLAGS.relax_weights, progress=out.progress)
    model = load_model(FLAGS.checkpoint, dtype=FLAGS.dtype)
    config = validate(solving.config_with(FLAGS, model.config), num_devices=1)
    request, judge = asking.request_of(FLAGS, config), choosing.judge_of(FLAGS, out.progress)
    chunk_size = FLAGS.chunk_size or chunk_size_of(Path(FLAGS.out))
    sampler = sampler_of(model, config, request, chunk_size=chunk_size)
    whole_way = solver_from(config)  # a variation takes a part of its steps
    warning = why_too_few(whole_way, sampler.control, model.diffusion)
    if warning and hosts.is_first():
        print(f"warning: {warning}", file=sys.stderr)
    batch_size = hosts.of_first(FLAGS.batch_size or samples_at_a_time(sampler))
    check(request, model, sampler.size)
    with one_writer(Path(FLAGS.out)) if hosts.is_first() else nullcontext():
        return _sample_into_folder(model, config, request, judge, sampler, batch_size, formats, out)


def _sample_into_folder(
    model: TrainedModel,
    config: ConfigDict,
    request: Request,
    judge: Judge | None,
    sampler: Sampler,
    batch_size: int,
    formats: Sequence[str],
    out: output.Output,
) -> int:
    """Draw what is missing in the folder; the first process finishes it. Returns the exit code."""
    with hosts.first_one_first():
        directory = SampleDirectory.open(
            FLAGS.out, run_of(FLAGS, model, config, sampler), upgrade=upgraded
        )
    words = asking.words(FLAGS)
    infused, every = config.infusion.enabled, None
    if FLAGS.trajectory:
        every = FLAGS.trajectory_every or max(1, round(sampler.num_steps / NUM_STATES))
    trajectories = TrajectoryWriter(directory.path)
    done = directory.done()
    has_others, num_left = bool(done), FLAGS.num - sum(index < FLAGS.num for index in done)
    check_space(directory.path, num_left, BYTES_OF_A_SAMPLE, "samples")
    share = _own_share(FLAGS.num, batch_size)
    missing = sorted(share - done)
    num_done = len(share) - len(missing)
    with out.progress.bar("sampling", len(share), "samples", num_done) as bar:
        for indices in _runs(missing, batch_size):
            options: dict[str, Any] = {
                "indices": indices,
                "seed": FLAGS.seed,
                "attempts": FLAGS.attempts,
                "trajectory_every": every,
                "bar": bar,
            }
            if judge is None:
                drawn = draw(sampler, model, request, **options)
            else:
                drawn = draw_best(sampler, model, request, judge, **options)
            _tell_not_finite(drawn, indices, has_others=has_others)
            extra = {"num_real_atoms": drawn.num_real} if FLAGS.record_num_atoms else {}
            rows = describe_all(drawn.crystals, infused=infused, refine_angstrom=FLAGS.refine)
            if not request.asks_nothing:
                rows = _with_answers(rows, drawn, request, [words[i % len(words)] for i in indices])
            if drawn.energies is not None:
                rows = _with_energies(rows, drawn.energies)
            if drawn.trajectory is not None:
                # Before the batch, whose samples are not drawn again once it is on disk.
                trajectories.write_batch(indices[0], drawn.trajectory, rows)
            directory.write_batch(indices[0], drawn.crystals, rows, **extra)
            has_others = True

    hosts.wait_for_all()
    with hosts.first_one_first():
        if not hosts.is_first():
            return 0
        return _finish(directory, model, request, trajectories, formats, out)


def _finish(
    directory: SampleDirectory,
    model: TrainedModel,
    request: Request,
    trajectories: TrajectoryWriter,
    formats: Sequence[str],
    out: output.Output,
) -> int:
    """Make the files of all samples, and say what is there; returns the exit code."""
    samples = directory.finish(formats, progress=out.progress)
    summary = write_summary(
        directory.path,
        samples.rows,
        samples.crystals,
        run=_shown(model),
        refine_angstrom=FLAGS.refine,
        reference_histogram=model.histogram,
    )
    places = [*(PLACES[name] for name in formats), *ALWAYS]
    if FLAGS.zip or (directory.path / "samples.zip").exists():
        places.append(zip_samples(directory.path).name)
    out.say(
        f"{summary['num_crystals']} crystals of {summary['num_samples']} samples, "
        f"{summary['num_valid_structures']} valid and {summary['num_plausible']} plausible "
        f"structures, in {directory.path}: {', '.join(places)}"
    )
    result: dict[str, Any] = {
        "command": "sample",
        "folder": directory.path,
        "files": [directory.path / place for place in places],
        **summary,
    }
    if not request.asks_nothing:
        result |= _answers(samples.rows)
        out.say(
            f"{result['num_as_asked']} of {len(samples.rows)} samples are as asked, of "
            f"{result['num_drawn']} that were drawn"
        )
        if led := asking.unchecked(request):
            out.say(f"not checked, because it only leads the model: {', '.join(led)}")
    if FLAGS.trajectory:
        out.say(trajectories.finish())
    if FLAGS.refine is not None:
        out.say(refined_sentence(summary, FLAGS.refine))
    code = 0
    if FLAGS.relax is not None:
        code, result["relaxed"] = _relax(directory.path, out)
    out.finish(result)
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


def _relax(folder: Path, out: output.Output) -> tuple[int, dict[str, Any]]:
    """Relax all samples of a folder.

    Returns:
        The exit code, 1 if a worker process was lost, and what programs are told.
    """
    rows, found = relax_into(
        folder / "relaxed",
        load_samples(folder, progress=out.progress),
        source=folder,
        calculator=FLAGS.relax,
        weights=FLAGS.relax_weights,
        progress=out.progress,
    )
    out.say(f"{sentence(rows)}; relaxed.csv, relaxed.extxyz and cif/ are in {folder / 'relaxed'}")
    code = command.FAILED if any(x.lost for x in found) else 0
    return code, relaxed_facts(folder / "relaxed", rows)


def _with_answers(
    rows: Sequence[dict[str, Any]], drawn: Drawn, request: Request, words: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows with what was asked of each, in words, and whether the sample is that."""
    group = request.properties.get(asking.SPACE_GROUP)
    found = []
    for row, asked, missed, attempts in zip(rows, words, drawn.missed, drawn.attempts, strict=True):
        there = row["spacegroup_number_0.1"]
        other = [f"has space group {there}"] if group not in (None, there) else []
        missed = [*missed, *other]
        answers = {"asked": asked, "is_as_asked": not missed, "missed": ", ".join(missed)}
        found.append(dict(row) | answers | {"attempts": int(attempts)})
    return found


def _with_energies(
    rows: Sequence[dict[str, Any]], energies: Float[np.ndarray, " samples"]
) -> list[dict[str, Any]]:
    """Rows with the energies by which samples were chosen."""
    known = [float(x) if np.isfinite(x) else None for x in energies]
    return [
        dict(row) | {"best_of": FLAGS.best_of, "e_above_hull_as_generated": x}
        for row, x in zip(rows, known, strict=True)
    ]


def _answers(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    met, attempts = (sum(row[name] for row in rows) for name in ("is_as_asked", "attempts"))
    return {"num_as_asked": met, "num_drawn": attempts}


def _own_share(num: int, batch_size: int) -> set[int]:
    """The indices that this process draws: whole batches, dealt out in turn."""
    index, processes = np.arange(num), jax.process_count()
    return set(index[index // batch_size % processes == jax.process_index()].tolist())


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
