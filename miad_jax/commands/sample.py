"""Make crystals: `python -m miad_jax.sample --checkpoint=runs/mp20 --num=1000 --out=samples`.

Without a checkpoint, the weights that come with the package are taken. What is done is on disk; the
same command continues, and a larger --num adds samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import jax
import numpy as np
from absl import flags

from miad_jax.commands import cli as command
from miad_jax.config import diffusion_from, validate
from miad_jax.data.sample_folder import SampleDirectory
from miad_jax.diffusion.joint import CoordsScore
from miad_jax.diffusion.schedules import Ending
from miad_jax.evaluation import describe_all, write_summary
from miad_jax.model import DEFAULT, TrainedModel, load_model
from miad_jax.network import crystals_per_chunk
from miad_jax.sampling.sample import Sampler, draw_num_atoms, sample_keys

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
flags.DEFINE_integer(
    "steps",
    None,
    "Reverse steps; fewer than trained: respaced; default: the model's",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "ending",
    None,
    list(get_args(Ending)),
    "Last step of the coordinates; default: as trained",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "coords_score",
    None,
    list(get_args(CoordsScore)),
    "Score of atoms that may be mirage: times the probability of being real, or as the network "
    "predicts it; default: as trained",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "corrector_gamma", None, "Strength of the corrector; default: as trained", flag_values=FLAGS
)
flags.DEFINE_float(
    "type_temperature",
    None,
    "Divides the logits of atom types: below 1 fewer elements; default: as trained",
    flag_values=FLAGS,
)
flags.DEFINE_integer("batch_size", None, "Samples at a time; by the device", flag_values=FLAGS)
flags.DEFINE_integer("chunk_size", None, "Samples the network sees at once", flag_values=FLAGS)
flags.DEFINE_bool(
    "record_num_atoms", False, "Keep the number of real atoms after every step", flag_values=FLAGS
)

_KNOBS = ("ending", "coords_score", "corrector_gamma", "type_temperature")
"""Flags that stand for a field of `config.diffusion`."""


def main(argv: Sequence[str]) -> int:
    """Sample as the command line says."""
    command.parse(FLAGS, argv, str(__doc__))
    for name in ("steps", "batch_size", "chunk_size"):
        value = FLAGS[name].value
        if value is not None and value < 1:
            raise ValueError(f"--{name} is {value}; allowed: a whole number from 1 on")
    command.cores_as_devices()
    model = load_model(FLAGS.checkpoint)
    config = model.config.copy_and_resolve_references()
    for name in _KNOBS:
        if (value := FLAGS[name].value) is not None:
            config.diffusion[name] = value
    validate(config, num_devices=1)
    diffusion = diffusion_from(config, FLAGS.steps)
    infused = config.infusion.enabled
    size = config.infusion.num_atoms if infused else len(model.histogram) - 1
    chunk_size = FLAGS.chunk_size or crystals_per_chunk(
        size, jax.default_backend(), config.network.hidden_dim
    )
    sampler = Sampler(diffusion, model.denoise, size, chunk_size=chunk_size)
    at_once = jax.local_device_count() * sampler.chunk_size
    batch_size = FLAGS.batch_size or -(-16 // at_once) * at_once
    directory = SampleDirectory.open(
        FLAGS.out,
        {
            "seed": FLAGS.seed,
            "steps": diffusion.num_steps,
            **{name: config.diffusion[name] for name in _KNOBS},
            "chunk_size": chunk_size,
            "checkpoint_step": model.step,
            "parameters": model.digest,
            "data_fingerprint": model.fingerprint,
            "config": model.config.to_dict(),
        },
    )

    missing = sorted(set(range(FLAGS.num)) - directory.done())
    bar = command.Bar("sampling", " samples")
    num_done = FLAGS.num - len(missing)
    for indices in _runs(missing, batch_size):
        keys = sample_keys(jax.random.key(FLAGS.seed), np.asarray(indices))
        num_atoms = np.full(len(indices), size)
        if not infused:
            num_atoms = draw_num_atoms(keys, model.histogram)

        def report(share: float, before: int = num_done, num: int = len(indices)) -> None:
            bar(round(before + num * share, 1), FLAGS.num, {})

        crystals, num_real = sampler.draw(keys, num_atoms, report)
        extra = {"num_real_atoms": num_real} if FLAGS.record_num_atoms else {}
        rows = describe_all(crystals, infused=infused)
        directory.write_batch(indices[0], crystals, rows, **extra)
        num_done += len(indices)
    bar.close()

    samples = directory.finish()
    summary = write_summary(
        directory.path,
        samples.rows,
        samples.crystals,
        run=_shown(model),
        reference_histogram=model.histogram,
    )
    print(
        f"{summary['num_crystals']} crystals of {summary['num_samples']} samples, "
        f"{summary['num_valid_structures']} valid structures, in {directory.path}: cif/, "
        "samples.extxyz, samples.csv, samples.npz, summary.md, summary.png"
    )
    return 0


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
