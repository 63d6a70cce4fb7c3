"""Train a model: `python -m miad_jax.train --config=configs/mp20.py --workdir=runs/mp20`.

Every field of the configuration is a flag: `--config.batch_size=64`. The same command continues
a run that ended early; Ctrl-C, SIGTERM, SIGHUP and `--config.max_minutes` end a run with a
checkpoint. A new run starts from the parameters of another with `--init_from=runs/other`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from miad_jax import config as config_fields
from miad_jax import hosts
from miad_jax.commands import cli as command
from miad_jax.commands import output
from miad_jax.fine_tuning import load_initial
from miad_jax.spelling import did_you_mean
from miad_jax.training import Checkpoints, Initial, load_training_data
from miad_jax.training.loop import number_of_steps, train
from miad_jax.training.metrics_file import MetricsFile

FLAGS = flags.FlagValues()
config_flags.DEFINE_config_file(
    "config",
    None,
    "Name of a configuration of the package (mp20, perov5, carbon24, alex_mp20, mpts52, prototypes)"
    " or a file, with :VARIANT behind it; default: the embedded data set's",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "workdir", None, "Folder of the run: checkpoints and metrics.jsonl", flag_values=FLAGS
)
flags.DEFINE_string(
    "init_from",
    None,
    "Folder of a run, release file, or weights of the package whose parameters a new run starts "
    "from; a run that has a checkpoint continues from that",
    flag_values=FLAGS,
)
output.define(FLAGS)


def main(argv: Sequence[str]) -> int:
    """Train as the command line says."""
    argv = [_with_file(argument) for argument in argv]
    if not any(argument.startswith("--config=") for argument in argv):
        argv = [argv[0], f"--config={config_fields.__file__}", *argv[1:]]
    command.parse(FLAGS, argv, str(__doc__))
    if FLAGS.workdir is None:
        raise ValueError("no --workdir: name a folder for checkpoints and metrics")
    hosts.join()
    FLAGS.config.data.properties = _names(FLAGS.config.data.properties)
    config = config_fields.validate(FLAGS.config)
    workdir, initial = Path(FLAGS.workdir), None
    if FLAGS.init_from is not None and Checkpoints(workdir).latest() is None:
        initial = load_initial(FLAGS.init_from)
    out = output.Output.of(FLAGS) if hosts.is_first() else output.Output.to_nobody()
    run(config, workdir, initial, out)
    return 0


def _names(given: Sequence[str]) -> tuple[str, ...]:
    """Names that are given one by one, or separated by commas."""
    parts = [name.strip() for names in given for name in names.split(",")]
    return tuple(name for name in parts if name)


def _with_file(argument: str) -> str:
    """`--config=mp20:small`, or `--config=configs/mp20.py` where there is none: the package's.

    Raises:
        ValueError: If no configuration of the package has the name.
    """
    flag, _, value = argument.partition("=")
    name, colon, variant = value.partition(":")
    if flag != "--config" or Path(name).exists():
        return argument
    folder = _configs()
    known = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    asked = Path(name).stem if Path(name).parent == Path("configs") else name
    if asked in known:
        return f"--config={folder / asked}.py{colon}{variant}"
    if Path(name).suffix or Path(name).name != name:
        return argument  # a file that is missing, which is said where it is read
    raise ValueError(
        f"no configuration is called {name!r}{did_you_mean(name, known)}; allowed: "
        f"{', '.join(known)}, or a file"
    )


def _configs() -> Path:
    """Where the configurations lie: beside the package in a checkout, in it once installed."""
    package = Path(config_fields.__file__).parent
    return next(x for x in (package / "configs", package.parent / "configs") if x.is_dir())


def run(
    config: ConfigDict,
    workdir: Path,
    initial: Initial | None,
    out: output.Output,
) -> None:
    """Load the data, train with a progress bar until a signal, say where the result lies."""
    progress = out.progress
    with hosts.first_one_first():
        data = load_training_data(config, progress=progress)
    for line in data.remarks:
        progress.say(line)
    progress.say(f"on {jax.device_count()} × {jax.devices()[0].device_kind}")
    num_steps = number_of_steps(config, len(data.train))
    # From here on there is something to keep; a signal before that ends at once.
    should_stop = command.stop_on_signal()
    with progress.bar("training", num_steps, "steps") as bar:
        state = train(config, data, workdir, initial=initial, bar=bar, should_stop=should_stop)
    if not hosts.is_first():
        return
    step = int(state.step)
    progress.say(f"step {step}: checkpoint and metrics.jsonl in {workdir}")
    out.finish(
        {
            "command": "train",
            "folder": workdir,
            "files": [workdir / "checkpoints" / str(step), workdir / "metrics.jsonl"],
            "step": step,
            "num_steps": num_steps,
            "is_complete": step >= num_steps,
            "num_train": len(data.train),
            "num_validation": len(data.validation),
            "num_left_out": data.num_left_out,
            "remarks": data.remarks,
            "metrics": MetricsFile(workdir / "metrics.jsonl").newest(),
        }
    )
