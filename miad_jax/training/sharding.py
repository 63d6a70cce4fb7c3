"""The state and the data set on all devices, and many steps a dispatch over them.

A dispatch gets only the indices of its batches; they are a function of the seed and the step.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int, PRNGKeyArray

from miad_jax.diffusion.losses import LossTerms
from miad_jax.parallel.progress import Bar
from miad_jax.training.data import TrainingData
from miad_jax.training.state import TrainState
from miad_jax.training.step import Objective, train_step, validation_loss


class ShardedTraining:
    """A run on all devices: `pmap` shards the batch, every device holds the whole state.

    Where several processes do a run, each feeds its own devices.

    Args:
        objective: What is minimised.
        optimizer: As from `make_optimizer`.
        state: The state to continue from.
        data: Packed crystals, and what the network is told of each; those of training are copied
            to every device.
        validation_key: Fixes times and noise of the validation.
        batch_size: Crystals in a step on all devices together.
        seed: Fixes the order of the crystals.
        validated_at_once: Validation crystals in a dispatch.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: optax.GradientTransformationExtraArgs,
        state: TrainState,
        data: TrainingData,
        validation_key: PRNGKeyArray,
        *,
        batch_size: int,
        seed: int,
        validated_at_once: int,
    ):
        self.num_devices = jax.device_count()
        # Which parts of a batch are of this process.
        self._own = [
            i for i, x in enumerate(jax.devices()) if x.process_index == jax.process_index()
        ]
        self.num_train, self.batch_size, self.seed = len(data.train), batch_size, seed
        self._state = _replicate(state)
        self._train = _replicate((data.train, data.train_condition))
        self._validation = jax.device_put(data.validation)
        self._slots = np.arange(batch_size, dtype=np.int32).reshape(self.num_devices, -1)[self._own]

        def many_steps(
            state: TrainState, train: Any, index: Array, slots: Array
        ) -> tuple[TrainState, LossTerms]:
            def step(state: TrainState, index: Array) -> tuple[TrainState, LossTerms]:
                crystal, condition = jax.tree.map(lambda x: x[index], train)
                return train_step(
                    objective, optimizer, state, crystal, slots, condition, axis_name="batch"
                )

            return jax.lax.scan(step, state, index)

        self._many_steps = jax.pmap(many_steps, axis_name="batch", donate_argnums=0)
        num = self._num_validation = len(data.validation)
        parts = -(-num // validated_at_once)
        self._validated = np.arange(parts * -(-num // parts)).reshape(parts, -1)
        self._validate = jax.jit(
            lambda params, crystal, index: validation_loss(
                objective, params, crystal, validation_key, index
            )
        )

    def advance(self, step: int, count: int) -> LossTerms:
        """Start `count` steps from `step` on; their terms come without waiting for them."""
        index = batch_indices(self.seed, self.num_train, self.batch_size, step, count)
        index = index.reshape(count, self.num_devices, -1)[:, self._own].swapaxes(0, 1)
        self._state, terms = self._many_steps(self._state, self._train, index, self._slots)
        if self.num_devices > 1 and jax.default_backend() == "cpu":
            # Several CPU devices share their threads: two programs with collectives at once can
            # wait for each other for ever.
            jax.block_until_ready((self._state, terms))
        return _first(terms)

    def validate(self, bar: Bar) -> LossTerms:
        """Losses of the averaged parameters on the validation crystals; the bar counts these."""
        ema_params = _first(self._state.ema_params)
        parts = []
        for index in self._validated:
            terms = self._validate(ema_params, self._validation, index)
            parts.append(jax.tree.map(np.asarray, terms))
            bar.advance(int(np.sum(index < self._num_validation)))
        return jax.tree.map(lambda *terms: np.stack(terms), *parts)

    def state(self) -> TrainState:
        """The state of one device; all are equal."""
        return _first(self._state)


def batch_indices(
    seed: int, num_crystals: int, batch_size: int, first_step: int, num_steps: int
) -> Int[np.ndarray, "steps batch"]:
    """Which crystals make the batches of some steps: permuted epochs, one after the other.

    Every crystal comes once in an epoch; a batch may span the end of one.
    """
    position = np.arange(first_step * batch_size, (first_step + num_steps) * batch_size)
    epoch, place = np.divmod(position, num_crystals)
    index = np.empty(position.shape, np.int32)
    for e in np.unique(epoch):
        order = np.random.default_rng([seed, e]).permutation(num_crystals)
        index[epoch == e] = order[place[epoch == e]]
    return index.reshape(num_steps, batch_size)


def _replicate(tree: Any) -> Any:
    """A copy on every device, laid out as `pmap` leaves its results: it compiles once for both."""
    copy = jax.pmap(lambda device, tree: tree, in_axes=(0, None), axis_name="batch")
    return copy(np.arange(jax.local_device_count()), jax.tree.map(jnp.asarray, tree))


def _first(tree: Any) -> Any:
    """What the first device of this process has."""
    return jax.tree.map(lambda x: x.addressable_data(0)[0], tree)
