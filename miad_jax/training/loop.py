"""The loop around the training step: metrics, validation, checkpoints, and when to end.

All that is random is a function of the seed and the step, so a run that continues from a
checkpoint goes exactly the way it would have gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from miad_jax import hosts
from miad_jax.build import diffusion_from, loss_weights_from, network_from
from miad_jax.diffusion.losses import LossTerms
from miad_jax.parallel.progress import Bar
from miad_jax.training.checkpoint import Checkpoints
from miad_jax.training.data import TrainingData
from miad_jax.training.initial import Initial
from miad_jax.training.metrics_file import MetricsFile
from miad_jax.training.sharding import ShardedTraining
from miad_jax.training.state import TrainState, create, make_optimizer
from miad_jax.training.step import Objective
from miad_jax.training.tasks import Tasks, check_network

Metrics = dict[str, float]


class NonFiniteLossError(FloatingPointError):
    """The loss became infinite or not a number; the last good checkpoint is kept."""


def train(
    config: ConfigDict,
    data: TrainingData,
    workdir: str | Path,
    *,
    initial: Initial | None = None,
    bar: Bar | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainState:
    """Train from the newest checkpoint of `workdir`, or from the start, to the end.

    Args:
        config: The configuration, checked.
        data: The data set.
        workdir: Folder for checkpoints and `metrics.jsonl`.
        initial: Parameters to start from where there is no checkpoint; None draws them.
        bar: Moves to the step after every dispatch, with the newest metrics.
        should_stop: Asked after every dispatch; True ends the run with a checkpoint.

    Returns:
        The last state, which is also the newest checkpoint.

    Raises:
        NonFiniteLossError: Naming the step; no checkpoint is written then.
        ValueError: If `workdir` holds a run of another configuration or data set, or `initial`
            has other parameters than the network.
    """
    started, bar = time.monotonic(), bar or Bar()
    workdir = Path(workdir)
    num_train = len(data.train)
    num_steps = number_of_steps(config, num_train)
    objective = make_objective(config, data.train.size)
    optimizer = make_optimizer(config.optimizer, num_steps, max(num_train // config.batch_size, 1))
    params_key, train_key, validation_key = jax.random.split(jax.random.key(config.seed), 3)
    params = jax.jit(objective.net.init_params)(params_key)
    if initial is not None:
        params = initial.fitted_to(params)
    state = create(params, optimizer, train_key)
    meta = {
        "config": config.to_dict(),
        "histogram": data.histogram.tolist(),
        "data_fingerprint": data.fingerprint,
        "num_train": num_train,
        "init_from": None if initial is None else dict(initial.source),
    }
    checkpoints = Checkpoints(workdir, keep=config.keep_checkpoints)
    lines = MetricsFile(workdir / "metrics.jsonl" if hosts.is_first() else None)
    lacks_validation = False
    if checkpoints.latest() is not None:
        state, meta, validates = checkpoints.resume(state, meta)
        lacks_validation = validates and not lines.has_validation(int(state.step))
        lines.append({"event": "resume", "step": int(state.step)})
    _check_same_step(int(state.step), workdir)
    length = steps_per_dispatch(config, objective, data.train.size)
    run = ShardedTraining(
        objective,
        optimizer,
        state,
        data,
        validation_key,
        batch_size=config.batch_size,
        seed=config.seed,
        # A validation has no backward pass, which is two thirds of a step.
        validated_at_once=3 * length * config.batch_size,
    )

    step = int(state.step)
    metrics: Metrics = {}
    window = _Window()

    def settle(dispatch: _Dispatch, *, last: bool = False) -> None:
        """Wait for a dispatch; check, log and report it."""
        terms = jax.tree.map(np.asarray, dispatch.terms)
        _check_finite(terms.total(objective.weights), dispatch.before, checkpoints)
        window.add(terms)
        if last or dispatch.passes(config.log_every):
            epoch = dispatch.after * config.batch_size / num_train
            found = window.close(objective) | {"epoch": epoch}
            if last:  # the device may have done it while the one before was settled
                del found["steps_per_second"]
            metrics.update(found)
            lines.append({"step": dispatch.after, **found})
        bar.update(dispatch.after, _shown(metrics))

    def validate() -> None:
        """Log and report the losses on the validation crystals."""
        with bar.part("validating", len(data.validation), "crystals") as part:
            found = _means(run.validate(part), objective, "validation_")
        metrics.update(found)
        lines.append({"step": step, **found})
        bar.update(step, _shown(metrics))

    if lacks_validation:  # the run was killed between its checkpoint and the end of that
        validate()
    running: _Dispatch | None = None
    while step < num_steps:
        count = length if num_steps - step >= length else 1
        previous = running
        running = _Dispatch(step, step + count, run.advance(step, count))
        step += count
        if previous is not None:  # settled while the device is at work on the next
            settle(previous)
        out_of_time = config.max_minutes is not None and (
            time.monotonic() - started > 60 * config.max_minutes
        )
        ended = step >= num_steps or hosts.any_process(out_of_time or should_stop())
        validates = ended or running.passes(config.validate_every)
        saves = ended or running.passes(config.checkpoint_every)
        if validates or saves:
            settle(running, last=ended)
            if saves:
                state = run.state()
                _check_finite_params(state, checkpoints)
                if hosts.is_first():
                    checkpoints.save(state, meta, validates=validates)
            if ended:  # whoever asked for the end may not wait for the validation
                checkpoints.wait()
            if validates:
                validate()
            running = None
        if ended:
            break
    hosts.wait_for_all()  # whoever ends early may end the others
    return run.state()


def number_of_steps(config: ConfigDict, num_train: int) -> int:
    """Steps of a whole run over so many training crystals."""
    if config.num_steps is not None:
        return int(config.num_steps)
    return max(round(config.num_epochs * num_train / config.batch_size), 1)


@dataclass(frozen=True)
class _Dispatch:
    """Steps that the device has been told to do, and their losses, which may still be on it."""

    before: int
    after: int
    terms: LossTerms

    def passes(self, every: int) -> bool:
        """Whether a multiple of `every` lies in it."""
        return self.after // every > self.before // every


def make_objective(config: ConfigDict, size: int) -> Objective:
    """What a configuration minimises.

    Args:
        config: The configuration.
        size: Atom slots of a packed crystal, which the baseline trains on as they are.

    Raises:
        ValueError: If `config.tasks` has known parts, and the network takes one time for all.
    """
    infused = config.infusion.enabled
    local_batch = config.batch_size // jax.device_count()
    net, tasks = network_from(config), Tasks(**config.tasks.to_dict())
    check_network(tasks, net)
    largest = config.chunk_size or net.chunk_size(
        config.infusion.num_atoms if infused else size, jax.default_backend()
    )
    divisors = [n for n in range(1, local_batch + 1) if local_batch % n == 0]
    return Objective(
        net=net,
        diffusion=diffusion_from(config),
        num_atoms=config.infusion.num_atoms if infused else None,
        placement=config.infusion.placement,
        mask_mirage=config.infusion.mask_mirage,
        weights=loss_weights_from(config),
        chunk_size=max(n for n in divisors if n <= largest),
        ema_decay=config.optimizer.ema_decay,
        tasks=tasks,
        property_dropout=config.data.property_dropout,
        any_axes=config.data.any_axes,
    )


def steps_per_dispatch(config: ConfigDict, objective: Objective, size: int) -> int:
    """Steps in one scan: about four seconds of work, so that a stop is soon heard."""
    local_batch = config.batch_size // jax.device_count()
    flop = 3 * local_batch * objective.net.flops(objective.num_atoms or size)
    flop_per_second = 1e11 if jax.default_backend() == "cpu" else 1e14
    return int(np.clip(4 * flop_per_second / flop, 1, config.log_every))


class _Window:
    """The terms of the steps since the last line of metrics."""

    def __init__(self) -> None:
        self._terms: list[LossTerms] = []
        self._started = time.monotonic()

    def add(self, terms: LossTerms) -> None:
        self._terms.append(terms)

    def close(self, objective: Objective) -> Metrics:
        """Means over the window; a new one begins."""
        terms = jax.tree.map(lambda *parts: np.concatenate(parts), *self._terms)
        now = time.monotonic()
        found = _means(terms, objective, "")
        found["steps_per_second"] = len(terms.counts["types"]) / (now - self._started)
        self._terms, self._started = [], now
        return found


def _means(terms: LossTerms, objective: Objective, prefix: str) -> Metrics:
    terms = jax.tree.map(np.sum, terms)
    named = {"loss": terms.total(objective.weights), **terms.means()}
    return {prefix + name: float(value) for name, value in named.items()}


def _shown(metrics: Metrics) -> Metrics:
    """The metrics that find room beside a bar."""
    names = ("loss", "lattice", "coords", "types", "validation_loss")
    return {name: metrics[name] for name in names if name in metrics}


def _check_same_step(step: int, workdir: Path) -> None:
    """Refuse processes that found different checkpoints, as where each has a disk of its own."""
    if hosts.any_process(step != hosts.of_first(step)):
        raise ValueError(
            f"process {jax.process_index()} starts at step {step}, the first one at another: name "
            f"a --workdir that all hosts share; this one is {workdir}"
        )


def _check_finite(losses: Any, first_step: int, checkpoints: Checkpoints) -> None:
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size:
        raise NonFiniteLossError(_non_finite("loss", first_step + int(bad[0]), checkpoints))


def _check_finite_params(state: TrainState, checkpoints: Checkpoints) -> None:
    if not all(np.isfinite(x).all() for x in jax.tree.leaves(state.params)):
        raise NonFiniteLossError(_non_finite("gradient", int(state.step) - 1, checkpoints))


def _non_finite(what: str, step: int, checkpoints: Checkpoints) -> str:
    latest, workdir = checkpoints.latest(), checkpoints.directory.parent
    other = "a lower config.optimizer.learning_rate, or config.optimizer.clip_norm = 1.0"
    if latest is None:
        then = f"there is no checkpoint yet: give the same command {other}"
    else:
        then = (
            f"the checkpoint of step {latest} is kept: start from its parameters in a new "
            f"--workdir, with --init_from={workdir / 'checkpoints' / str(latest)}, and {other}"
        )
    return f"the {what} of step {step} is not finite; {then}"
