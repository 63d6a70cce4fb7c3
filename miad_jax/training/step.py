"""One training step: a pure function of the state and a batch, sharded by an axis name or not.

Noise, times and mirage atoms are drawn for the whole batch, from one key for each crystal; only
the network and the loss run in chunks, whose gradients are summed. Losses are sums and counts
throughout, so neither the chunks nor the devices change what a step computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from miad_jax.condition import Condition
from miad_jax.crystal import Crystal
from miad_jax.diffusion.joint import Diffusion, draw_times
from miad_jax.diffusion.keys import streams
from miad_jax.diffusion.losses import (
    Example,
    LossTerms,
    LossWeights,
    example_at,
    loss_counts,
    loss_terms,
)
from miad_jax.mirage import Placement, infuse
from miad_jax.network import Network
from miad_jax.training.axes import draw_axes
from miad_jax.training.ema import update_ema
from miad_jax.training.state import TrainState
from miad_jax.training.tasks import Tasks, drop_properties

TASK, DROPOUT, AXES = 2**31, 2**31 + 1, 2**31 + 2
"""Streams of a crystal's key in a step: its use, the properties left out, the order of its axes."""


@dataclass(frozen=True)
class Objective:
    """What is minimised: everything in a step that does not change during training.

    Attributes:
        net: The network.
        diffusion: The process.
        num_atoms: N_m of the infused crystals; None is the baseline without infusion.
        placement: Where mirage atoms are put.
        mask_mirage: Leave mirage atoms out of the coordinate loss.
        weights: Weights of the losses.
        chunk_size: Crystals that the network sees at once; divides the batch.
        ema_decay: Decay of the averaged parameters.
        tasks: What crystals are used for in training.
        property_dropout: Probability that a property of a crystal is left out in training.
        any_axes: Whether the axes of a training crystal are drawn anew in every step.
    """

    net: Network
    diffusion: Diffusion
    num_atoms: int | None
    placement: Placement = "uniform"
    mask_mirage: bool = True
    weights: LossWeights = field(default_factory=LossWeights)
    chunk_size: int = 1
    ema_decay: float = 0.999
    tasks: Tasks = field(default_factory=Tasks)
    property_dropout: float = 0.0
    any_axes: bool = False


def train_step(
    objective: Objective,
    optimizer: optax.GradientTransformationExtraArgs,
    state: TrainState,
    crystal: Crystal,
    slots: Int[Array, " batch"],
    condition: Condition | None = None,
    *,
    axis_name: str | None = None,
) -> tuple[TrainState, LossTerms]:
    """Draw noise, take the gradient, move the parameters and their average.

    Args:
        objective: What is minimised.
        optimizer: As from `make_optimizer`.
        state: Before the step.
        crystal: This device's part of the batch, as packed.
        slots: Places of these crystals in the whole batch, from which their keys come.
        condition: What the network is told of each crystal.
        axis_name: Axis over which devices add up losses and gradients; None for one device.
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(state.key, state.step), slots)
    example = _example(objective, keys, crystal, jnp.ones(slots.shape, bool))
    condition = drop_properties(streams(keys, DROPOUT), condition, objective.property_dropout)
    counts = loss_counts(example, mask_mirage=objective.mask_mirage)
    if axis_name is not None:
        counts = jax.lax.psum(counts, axis_name)
    gradients, terms = _over_chunks(objective, state.params, (example, condition), counts)
    if axis_name is not None:
        gradients, terms = jax.lax.psum((gradients, terms), axis_name)

    updates, opt_state = optimizer.update(
        gradients, state.opt_state, state.params, value=terms.total(objective.weights)
    )
    params = optax.apply_updates(state.params, updates)
    ema_params = update_ema(state.ema_params, params, state.step, objective.ema_decay)
    return TrainState(params, ema_params, opt_state, state.step + 1, state.key), terms


def validation_loss(
    objective: Objective,
    params: Any,
    crystal: Crystal,
    key: PRNGKeyArray,
    index: Int[Array, " part"] | None = None,
) -> LossTerms:
    """The losses of a data set or a part of it, once, on keys that are the same at every call.

    Crystals are generated from nothing, whatever the tasks of training are, no property is told,
    and axes are as they came: so losses of runs that differ in these can be compared.

    Args:
        objective: What is minimised.
        params: Parameters to judge.
        crystal: The data set, as packed.
        key: Folded with the index of each crystal.
        index: Which crystals; those behind the last one count nothing. None takes all.
    """
    num = len(crystal)
    index = jnp.arange(num) if index is None else index
    index = jnp.pad(index, (0, -len(index) % objective.chunk_size), constant_values=num)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    there = jnp.minimum(index, num - 1)
    crystal = jax.tree.map(lambda x: x[there], crystal)
    as_they_are = replace(objective, tasks=Tasks(), any_axes=False)
    example = _example(as_they_are, keys, crystal, index < num)

    def add(total: LossTerms, part: Any) -> tuple[LossTerms, None]:
        return total + _terms(objective, params, part), None

    return jax.lax.scan(add, _zero_terms(example), _chunks(objective, (example, None)))[0]


def _example(
    objective: Objective, keys: PRNGKeyArray, crystal: Crystal, valid: Bool[Array, " batch"]
) -> Example:
    """Infused and noised crystals; those that are not valid become padding."""
    infuse_keys, time_keys, noise_keys = jax.vmap(jax.random.split, (0, None), 1)(keys, 3)
    if objective.any_axes:
        crystal = jax.vmap(draw_axes)(streams(keys, AXES), crystal)
    if objective.num_atoms is not None:

        def infuse_one(key: PRNGKeyArray, crystal: Crystal) -> Crystal:
            assert objective.num_atoms is not None
            return infuse(key, crystal, objective.num_atoms, placement=objective.placement)

        crystal = jax.vmap(infuse_one)(infuse_keys, crystal)
    crystal = replace(crystal, mask=crystal.mask & valid[:, None])
    t = draw_times(objective.diffusion, time_keys, crystal.batch_shape)
    crystal, time = objective.tasks.draw(streams(keys, TASK), crystal, t)
    return example_at(objective.diffusion, noise_keys, crystal, time)


def _chunks(objective: Objective, batch: Any) -> Any:
    return jax.tree.map(lambda x: x.reshape(-1, objective.chunk_size, *x.shape[1:]), batch)


def _terms(objective: Objective, params: Any, part: tuple[Example, Condition | None]) -> LossTerms:
    example, condition = part
    return loss_terms(
        objective.diffusion,
        partial(objective.net.denoise, params),
        example,
        mask_mirage=objective.mask_mirage,
        condition=condition,
    )


def _over_chunks(
    objective: Objective, params: Any, batch: Any, counts: Mapping[str, Array]
) -> tuple[Any, LossTerms]:
    """Sum of gradients and losses over chunks, divided by the counts of the whole batch."""

    def loss(params: Any, part: Any) -> tuple[Array, LossTerms]:
        terms = _terms(objective, params, part)
        return replace(terms, counts=counts).total(objective.weights), terms

    def add(total: Any, part: Any) -> tuple[Any, None]:
        gradients, terms = jax.grad(loss, has_aux=True)(params, part)
        return jax.tree.map(jnp.add, total, (gradients, terms)), None

    zero = jax.tree.map(jnp.zeros_like, params), _zero_terms(batch[0])
    return jax.lax.scan(add, zero, _chunks(objective, batch))[0]


def _zero_terms(example: Example) -> LossTerms:
    zero = dict.fromkeys(loss_counts(example), jnp.float32(0))
    return LossTerms(zero, zero)
