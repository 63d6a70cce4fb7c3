"""The reverse process from pure noise: one `lax.scan` over time, chunk by chunk.

Sample i has the key `fold_in(key, i)`, and every step a key folded from that, so a sample does not
depend on how many others are drawn or in how many calls. `Sampler` runs chunks of one fixed shape,
one on every device at a time, so a sample does not depend on the size of a batch or the number of
devices either: on one kind of device it is the same bit for bit. A CPU that is one device alone is
another kind than one of several: see `devices.cores_as_devices`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from miad_jax.condition import Condition, Known
from miad_jax.crystal import Crystal, real_atom_mask
from miad_jax.diffusion.joint import Denoise, Diffusion, draw_noise, noised, prior
from miad_jax.diffusion.keys import AFTER, BEFORE, START, streams
from miad_jax.mirage import infuse
from miad_jax.network.base import chunk_size_of, takes_times
from miad_jax.parallel.progress import Bar
from miad_jax.sampling.control import Control
from miad_jax.sampling.finite import NOT_FINITE, is_finite
from miad_jax.sampling.solvers import PredictorCorrector, Solver
from miad_jax.sampling.trajectory import Trajectory


def start(diffusion: Diffusion, keys: PRNGKeyArray, mask: Bool[Array, "samples atoms"]) -> Crystal:
    """Crystals of pure noise.

    Args:
        diffusion: The process.
        keys: One key for each sample.
        mask: False on padding; all True for MiAD.
    """
    return prior(diffusion, streams(keys, START), mask)


def start_near(
    diffusion: Diffusion,
    keys: PRNGKeyArray,
    crystal: Crystal,
    t: int,
    *,
    infused: bool,
) -> Crystal:
    """Given crystals, noised up to a time: samples from there are variations of them.

    Args:
        diffusion: The process.
        keys: One key for each sample.
        crystal: A clean crystal for each sample.
        t: The time at which sampling starts.
        infused: Whether slots of padding are filled with mirage atoms.
    """
    fill, noise = (streams(streams(keys, START), i) for i in range(2))
    crystal = jax.tree.map(jnp.asarray, crystal)
    if infused:
        crystal = jax.vmap(lambda key, x: infuse(key, x, crystal.size))(fill, crystal)
    return noised(diffusion, crystal, jnp.int32(t), draw_noise(diffusion, noise, crystal))


def reverse(
    diffusion: Diffusion,
    denoise: Denoise,
    solver: Solver,
    control: Control,
    keys: PRNGKeyArray,
    crystal: Crystal,
    condition: Condition | None,
    steps: Int[Array, "steps 3"],
) -> tuple[Crystal, Int[Array, "samples steps"]]:
    """Run steps of a solver; calls over parts of the steps continue each other.

    Args:
        diffusion: The process.
        denoise: The network.
        solver: How a step is made.
        control: How predictions are used.
        keys: One key for each sample.
        crystal: The samples before the first step.
        condition: What is asked of each sample.
        steps: As `steps_of` lists them.

    Returns:
        The samples after the last step, and the number of real atoms after each.
    """
    known = None if condition is None else condition.known

    def step(crystal: Crystal, t_s_left: Array) -> tuple[Crystal, Array]:
        t, s, left = t_s_left
        step_keys = streams(keys, left)
        controlled = control.applied(diffusion, denoise, condition, is_last=s < 0)
        t, s = (jnp.full(crystal.batch_shape, time) for time in (t, s))
        if known is not None:
            crystal = put_back(diffusion, denoise, streams(step_keys, BEFORE), known, crystal, t)
        crystal = solver.step(diffusion, controlled, step_keys, crystal, t, s)
        if known is not None:
            crystal = put_back(diffusion, denoise, streams(step_keys, AFTER), known, crystal, s)
        return crystal, real_atom_mask(crystal).sum(-1)

    if len(steps) > 1:
        crystal, num_real = jax.lax.scan(step, crystal, steps)
        return crystal, num_real.T
    # XLA would inline a loop that it knows to run once, or move parts of its body out of it, and
    # round otherwise than in a longer one. So one step is a loop over two, whose end hangs on what
    # XLA cannot know: that time falls.
    rows = jnp.concatenate([steps, steps])
    once = (steps[0, 0] > steps[0, 1]).astype(jnp.int32)

    def one(i: Array, state: tuple[Crystal, Array]) -> tuple[Crystal, Array]:
        crystal, num = step(state[0], rows[i])
        return crystal, state[1].at[i].set(num)

    num_real = jnp.zeros((2, *crystal.batch_shape), jnp.int32)
    crystal, num_real = jax.lax.fori_loop(0, once, one, (crystal, num_real))
    return crystal, num_real[:1].T


def put_back(
    diffusion: Diffusion,
    denoise: Denoise,
    keys: PRNGKeyArray,
    known: Known,
    crystal: Crystal,
    t: Int[Array, " samples"],
) -> Crystal:
    """Samples with the parts that are known in their places.

    A network that takes times of their own for parts sees them as they are. Another sees them as
    noisy as the rest (RePaint, arXiv:2201.09865).

    Args:
        diffusion: The process.
        denoise: The network.
        keys: One key for each sample.
        known: The parts.
        crystal: The samples.
        t: The time of the rest; −1 is clean.
    """
    if not takes_times(denoise):
        noise = draw_noise(diffusion, keys, known.crystal)
        known = replace(known, crystal=noised(diffusion, known.crystal, t, noise))
    return known.put_into(crystal)


def steps_of(solver: Solver, diffusion: Diffusion) -> Int[np.ndarray, "steps 3"]:
    """From and to which time each step goes, and how many come after it."""
    times = solver.times(diffusion)
    left = np.arange(len(times))[::-1]
    return np.stack([times, np.append(times[1:], -1), left], -1).astype(np.int32)


LARGEST_CPU_CHUNK = 4
"""Crystals at once on a CPU: few samples cost little, and more at once are hardly faster each."""

_start_on_devices = jax.pmap(start, in_axes=(None, 0, 0))
_reverse_on_devices = jax.pmap(reverse, in_axes=(None, None, None, None, 0, 0, 0, None))


class Sampler:
    """Draws samples chunk by chunk, one chunk on every local device at a time.

    Args:
        diffusion: The process.
        denoise: The network; as a `jax.tree_util.Partial` of its parameters it is compiled once.
        size: Atom slots of a sample.
        solver: None for `PredictorCorrector()`.
        control: None for `Control()`.
        chunk_size: Crystals that the network sees at once; None for the network's own choice, on a
            CPU at most `LARGEST_CPU_CHUNK`.
        steps_per_dispatch: Steps between two reports.

    Attributes:
        size: As given.
        solver: As given, or the default.
        control: As given, or the default.
        chunk_size: As given, or the network's own.
        num_steps: Steps of a sample.
    """

    def __init__(
        self,
        diffusion: Diffusion,
        denoise: Denoise,
        size: int,
        *,
        solver: Solver | None = None,
        control: Control | None = None,
        chunk_size: int | None = None,
        steps_per_dispatch: int = 50,
    ):
        self.size = size
        self.chunk_size = chunk_size or _chunk_size(denoise, size)
        # A Partial in a Partial would hide its parameters, which would become constants.
        is_partial = isinstance(denoise, jax.tree_util.Partial)
        denoise = denoise if is_partial else jax.tree_util.Partial(denoise)
        solver = solver or PredictorCorrector()
        solver.check(diffusion)
        self.solver, self.control = solver, control or Control()
        parts = diffusion, denoise, solver.anywhere(), self.control
        self._parts: tuple[Any, ...] = parts
        self._steps = steps_of(solver, diffusion)
        self.num_steps = len(self._steps)
        self._steps_per_dispatch = steps_per_dispatch

    @property
    def first_time(self) -> int:
        """The time at which sampling starts."""
        return int(self._steps[0, 0])

    @overload
    def draw(
        self,
        keys: PRNGKeyArray,
        num_atoms: Int[np.ndarray, " samples"],
        condition: Condition | None = None,
        bar: Bar | None = None,
        *,
        initial: Crystal | None = None,
        trajectory_every: None = None,
    ) -> tuple[Crystal, Int[np.ndarray, "samples steps"]]: ...

    @overload
    def draw(
        self,
        keys: PRNGKeyArray,
        num_atoms: Int[np.ndarray, " samples"],
        condition: Condition | None = None,
        bar: Bar | None = None,
        *,
        initial: Crystal | None = None,
        trajectory_every: int,
    ) -> tuple[Crystal, Int[np.ndarray, "samples steps"], Trajectory]: ...

    def draw(
        self,
        keys: PRNGKeyArray,
        num_atoms: Int[np.ndarray, " samples"],
        condition: Condition | None = None,
        bar: Bar | None = None,
        *,
        initial: Crystal | None = None,
        trajectory_every: int | None = None,
    ) -> Any:
        """Draw one sample for every key.

        Args:
            keys: One key for each sample.
            num_atoms: Slots of each sample that are no padding, at most `size`.
            condition: What is asked of each sample.
            bar: Moves on by the number of samples while they are made.
            initial: The samples at the first time; None for pure noise.
            trajectory_every: Number of steps between two states to keep; None keeps none.

        Returns:
            The samples, on the host, and their number of real atoms after each step, −1 from the
            step on at which a sample holds NaN or infinity; with `trajectory_every` also their
            states on the way.

        Raises:
            ValueError: If the condition is of another number of samples, or `trajectory_every` is
                not positive.
        """
        if trajectory_every is not None and trajectory_every < 1:
            raise ValueError(
                f"trajectory_every is {trajectory_every}; allowed: a number of steps from 1 on, or "
                "None to keep no states"
            )
        num, num_devices = keys.shape[0], jax.local_device_count()
        for name, given in (("the condition", condition), ("what samples start from", initial)):
            for leaf in jax.tree.leaves(given):
                if np.shape(leaf)[:1] != (num,):
                    raise ValueError(
                        f"{name} has an array of shape {np.shape(leaf)}; allowed: one entry for "
                        f"each of the {num} samples"
                    )
        shape = (-1, num_devices, self.chunk_size)
        whole = num_devices * self.chunk_size
        index = np.minimum(np.arange(-(-num // whole) * whole), num - 1).reshape(shape)
        # States come to the host between dispatches, so that keeping them changes no sample.
        length = trajectory_every or self._steps_per_dispatch
        dispatches = [self._steps[i : i + length] for i in range(0, self.num_steps, length)]
        share = num / len(index) / len(dispatches)
        parts, states = [], []
        for chunk in index:
            chunk_keys = keys[chunk]
            asked = jax.tree.map(lambda x, chunk=chunk: np.asarray(x)[chunk], condition)
            mask = np.arange(self.size) < num_atoms[chunk][..., None]
            if initial is None:
                crystal = _start_on_devices(self._parts[0], chunk_keys, mask)
            else:
                crystal = jax.tree.map(lambda x, chunk=chunk: np.asarray(x)[chunk], initial)
            counts, frames = [], [crystal]
            was_finite = np.full(chunk.shape, True)
            for steps in dispatches:
                before = crystal
                crystal, num_real = _reverse_on_devices(
                    *self._parts, chunk_keys, crystal, asked, steps
                )
                counts.append(np.array(num_real))
                if (was_finite & ~is_finite(crystal)).any():
                    bad = self._not_finite_after(before, chunk_keys, asked, steps)
                    counts[-1][bad] = NOT_FINITE
                counts[-1][~was_finite] = NOT_FINITE
                was_finite &= is_finite(crystal)
                if trajectory_every is not None:
                    frames.append(jax.tree.map(np.asarray, crystal))
                if bar is not None:
                    bar.advance(share)
            parts.append((jax.tree.map(np.asarray, crystal), np.concatenate(counts, -1)))
            if trajectory_every is not None:
                states.append(jax.tree.map(lambda *x: np.stack(x, 2), *frames))

        def join(*chunks: np.ndarray) -> np.ndarray:
            whole = np.stack(chunks)
            return whole.reshape(-1, *whole.shape[3:])[:num]

        crystals, num_real = jax.tree.map(join, *parts)
        if trajectory_every is None:
            return crystals, num_real
        ends = np.cumsum([len(steps) for steps in dispatches])
        return (
            crystals,
            num_real,
            Trajectory(
                crystals=jax.tree.map(join, *states),
                times=np.append(self._steps[0, 0], self._steps[ends - 1, 1]),
                steps=np.append(0, ends),
            ),
        )

    def _not_finite_after(
        self, crystal: Crystal, keys: PRNGKeyArray, asked: Condition | None, steps: np.ndarray
    ) -> Bool[np.ndarray, "devices chunk steps"]:
        """Do steps again one by one, and say after which of them a sample is not finite."""
        found = []
        for i in range(len(steps)):
            crystal, _ = _reverse_on_devices(*self._parts, keys, crystal, asked, steps[i : i + 1])
            found.append(~is_finite(crystal))
        return np.logical_or.accumulate(np.stack(found, -1), -1)


def _chunk_size(denoise: Denoise, size: int) -> int:
    backend = jax.default_backend()
    own = chunk_size_of(denoise, size, backend)
    return min(own, LARGEST_CPU_CHUNK) if backend == "cpu" else own
