"""What training changes: parameters, their moving average, the optimiser's state, the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PRNGKeyArray
from ml_collections import ConfigDict


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """The whole state of a run; a checkpoint holds this and the configuration.

    Attributes:
        params: The network's parameters, float32.
        ema_params: Exponential moving average of the parameters: what samples are drawn with.
        opt_state: State of the optimiser.
        step: Number of steps done.
        key: Key of the run; the keys of step n are folded from it and n.
    """

    params: Any
    ema_params: Any
    opt_state: Any
    step: Int[Array, ""]
    key: PRNGKeyArray


def create(params: Any, optimizer: optax.GradientTransformation, key: PRNGKeyArray) -> TrainState:
    """The state before the first step."""
    ema_params = jax.tree.map(jnp.array, params)  # a copy: the step donates both
    return TrainState(params, ema_params, optimizer.init(params), jnp.int32(0), key)


def make_optimizer(
    config: ConfigDict, num_steps: int, steps_per_epoch: int
) -> optax.GradientTransformationExtraArgs:
    """Adam with clipping, warm-up and a schedule, as `config.optimizer` says.

    "plateau" multiplies the learning rate by `plateau_factor` when the mean training loss of
    an epoch has not improved for `plateau_patience` epochs (DiffCSP watches the validation
    loss), down to `final_learning_rate`.

    Args:
        config: `config.optimizer`.
        num_steps: Length of the run, at the end of which "cosine" arrives.
        steps_per_epoch: Steps whose mean loss "plateau" compares.
    """
    rate = config.learning_rate
    if config.schedule == "cosine":
        schedule = optax.cosine_decay_schedule(
            rate, max(num_steps - config.warmup_steps, 1), config.final_learning_rate / rate
        )
    else:
        schedule = optax.constant_schedule(rate)
    if config.warmup_steps:
        warmup = optax.linear_schedule(0.0, rate, config.warmup_steps)
        schedule = optax.join_schedules([warmup, schedule], [config.warmup_steps])
    parts = [optax.adam(schedule)]
    if config.clip_norm is not None:
        parts.insert(0, optax.clip_by_global_norm(config.clip_norm))
    if config.schedule == "plateau":
        parts.append(
            optax.contrib.reduce_on_plateau(
                factor=config.plateau_factor,
                patience=config.plateau_patience,
                accumulation_size=steps_per_epoch,
                min_scale=config.final_learning_rate / rate,
            )
        )
    return optax.with_extra_args_support(optax.chain(*parts))
