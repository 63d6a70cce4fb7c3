"""New crystals: the reverse process from pure noise, one `lax.scan` over time.

Sample i has the key `fold_in(key, i)`, and every step a key folded from that, so a sample does not
depend on how many others are drawn or in how many calls. `Sampler` runs chunks of one fixed shape,
one on every device at a time, so a sample does not depend on the size of a batch or the number of
devices either: on one kind of device it is the same bit for bit. A CPU that is one device alone is
another kind than one of several: see `devices.cores_as_devices`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from miad_jax.condition import Condition
from miad_jax.crystal import Crystal, real_atom_mask
from miad_jax.diffusion.joint import Denoise, Diffusion, prior
from miad_jax.diffusion.keys import NUM_ATOMS, START, sample_keys, streams
from miad_jax.network.base import chunk_size_of
from miad_jax.parallel.progress import Bar, Progress, as_progress
from miad_jax.sampling.control import Control
from miad_jax.sampling.solvers import PredictorCorrector, Solver


def sample(
    diffusion: Diffusion,
    denoise: Denoise,
    key: PRNGKeyArray,
    num_samples: int,
    num_atoms: int | Int[np.ndarray, " samples"],
    *,
    solver: Solver | None = None,
    control: Control | None = None,
    condition: Condition | None = None,
    size: int | None = None,
    first_index: int = 0,
    chunk_size: int | None = None,
    progress: Progress | bool = False,
) -> Crystal:
    """Draw crystals, mirage atoms still in them: `mirage.reduce` drops those.

    `python -m miad_jax.sample` gives the same crystals for the same seed. On a CPU it takes each
    core as a device, so call `miad_jax.cores_as_devices()` before JAX computes anything: one device
    alone rounds otherwise, and a seed then gives other crystals.

    Args:
        diffusion: The process.
        denoise: The network. As a `jax.tree_util.Partial` of its parameters it is compiled once.
        key: Key of the whole run.
        num_samples: Number of crystals.
        num_atoms: N_m, the slots of every crystal (MiAD), or the fixed number of atoms of each
            (the baseline), as from `draw_num_atoms`.
        solver: Which times are visited, and how; None for `PredictorCorrector()`, as published.
        control: How predictions are used; None for `Control()`, as published.
        condition: What is asked of each sample; None asks nothing.
        size: Slots of every crystal, on which its noise depends; None for the largest of
            `num_atoms`. Give it where those of different calls differ.
        first_index: Index of the first crystal, to continue a run.
        chunk_size: Crystals that the network sees at once; None for the network's own choice.
        progress: Whether to show a progress bar on standard error, or where to show it.

    Raises:
        ValueError: If `num_samples` or `num_atoms` is not positive, of another length, or beyond
            `size`; if the condition is of another number of samples, or the solver wants more
            steps than the process has.

    Example:
        >>> net = miad_jax.CSPNet(hidden_dim=16, num_layers=2, num_freqs=4)
        >>> denoise = jax.tree_util.Partial(net.denoise, net.init_params(jax.random.key(0)))
        >>> solver = miad_jax.PredictorCorrector(steps=10)
        >>> crystals = miad_jax.sample(
        ...     miad_jax.make_diffusion(), denoise, jax.random.key(1), 2, num_atoms=6, solver=solver
        ... )
        >>> crystals.batch_shape
        (2,)
    """
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}: ask for at least one sample")
    counts = np.broadcast_to(np.asarray(num_atoms), (num_samples,))
    if counts.min() < 1:
        raise ValueError(f"num_atoms is {counts.min()}: every crystal needs at least one atom")
    if size is not None and size < counts.max():
        raise ValueError(f"num_atoms is {counts.max()}: more than size = {size}")
    sampler = Sampler(
        diffusion,
        denoise,
        size or int(counts.max()),
        solver=solver,
        control=control,
        chunk_size=chunk_size,
    )
    keys = sample_keys(key, first_index + np.arange(num_samples))
    with as_progress(progress).bar("sampling", num_samples, "samples") as bar:
        crystal, _ = sampler.draw(keys, counts, condition, bar)
    return crystal


def draw_num_atoms(
    keys: PRNGKeyArray, histogram: Float[np.ndarray, " counts"]
) -> Int[np.ndarray, " samples"]:
    """Number of atoms of each sample, for the baseline.

    Args:
        keys: One key for each sample.
        histogram: Weight of every number of atoms, from 0 on: the training histogram.

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 3)
        >>> miad_jax.draw_num_atoms(keys, np.array([0.0, 0.0, 7.0])).tolist()
        [2, 2, 2]
    """
    logits = jnp.log(jnp.asarray(histogram, jnp.float32))
    draw = jax.vmap(lambda key: jax.random.categorical(key, logits))
    return np.asarray(draw(streams(keys, NUM_ATOMS)))


def reverse_step(
    diffusion: Diffusion,
    denoise: Denoise,
    key: PRNGKeyArray,
    crystal_t: Crystal,
    t: Int[Array, "*#batch"],
    s: Int[Array, "*#batch"] | None = None,
    *,
    solver: Solver | None = None,
    control: Control | None = None,
    condition: Condition | None = None,
) -> Crystal:
    """Draw the crystals at an earlier time: one step of a solver.

    Args:
        diffusion: The process.
        denoise: The network.
        key: One key, or one for each crystal.
        crystal_t: Crystals at time t.
        t: Time of all crystals or of each, 0 … T−1.
        s: Any earlier time, −1 for the clean crystal; None for t − 1.
        solver: None for `PredictorCorrector()`.
        control: None for `Control()`.
        condition: What is asked of each crystal.

    Example:
        >>> diffusion = miad_jax.make_diffusion()
        >>> net = miad_jax.CSPNet(hidden_dim=16, num_layers=2, num_freqs=4)
        >>> denoise = jax.tree_util.Partial(net.denoise, net.init_params(jax.random.key(0)))
        >>> noise = miad_jax.diffusion.prior(
        ...     diffusion, jax.random.key(1), jnp.ones((2, 6), bool)
        ... )
        >>> before = miad_jax.reverse_step(diffusion, denoise, jax.random.key(2), noise, t=999)
        >>> before.frac_coords.shape
        (2, 6, 3)
    """
    crystal_t = jax.tree.map(jnp.asarray, crystal_t)
    t = jnp.broadcast_to(jnp.asarray(t, jnp.int32), crystal_t.batch_shape)
    s = t - 1 if s is None else jnp.broadcast_to(jnp.asarray(s, jnp.int32), crystal_t.batch_shape)
    controlled = (control or Control()).applied(diffusion, denoise, condition)
    return (solver or PredictorCorrector()).step(diffusion, controlled, key, crystal_t, t, s)


def start(diffusion: Diffusion, keys: PRNGKeyArray, mask: Bool[Array, "samples atoms"]) -> Crystal:
    """Crystals of pure noise.

    Args:
        diffusion: The process.
        keys: One key for each sample.
        mask: False on padding; all True for MiAD.
    """
    return prior(diffusion, streams(keys, START), mask)


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
    denoise = control.applied(diffusion, denoise, condition)

    def step(crystal: Crystal, t_s_left: Array) -> tuple[Crystal, Array]:
        t, s, left = t_s_left
        step_keys = streams(keys, left)
        t, s = (jnp.full(crystal.batch_shape, time) for time in (t, s))
        crystal = solver.step(diffusion, denoise, step_keys, crystal, t, s)
        return crystal, real_atom_mask(crystal).sum(-1)

    crystal, num_real = jax.lax.scan(step, crystal, steps)
    return crystal, num_real.T


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
        parts = diffusion, denoise, solver.anywhere(), control or Control()
        self._parts: tuple[Any, ...] = parts
        steps = steps_of(solver, diffusion)
        self.num_steps = len(steps)
        starts = range(0, len(steps), steps_per_dispatch)
        self._dispatches = [steps[i : i + steps_per_dispatch] for i in starts]

    def draw(
        self,
        keys: PRNGKeyArray,
        num_atoms: Int[np.ndarray, " samples"],
        condition: Condition | None = None,
        bar: Bar | None = None,
    ) -> tuple[Crystal, Int[np.ndarray, "samples steps"]]:
        """Draw one sample for every key.

        Args:
            keys: One key for each sample.
            num_atoms: Slots of each sample that are no padding, at most `size`.
            condition: What is asked of each sample.
            bar: Moves on by the number of samples while they are made.

        Returns:
            The samples, on the host, and their number of real atoms after each step.

        Raises:
            ValueError: If the condition is of another number of samples.
        """
        num, num_devices = keys.shape[0], jax.local_device_count()
        for leaf in jax.tree.leaves(condition):
            if np.shape(leaf)[:1] != (num,):
                raise ValueError(
                    f"the condition has an array of shape {np.shape(leaf)}; allowed: one entry "
                    f"for each of the {num} samples"
                )
        shape = (-1, num_devices, self.chunk_size)
        whole = num_devices * self.chunk_size
        index = np.minimum(np.arange(-(-num // whole) * whole), num - 1).reshape(shape)
        share = num / len(index) / len(self._dispatches)
        parts = []
        for chunk in index:
            chunk_keys = keys[chunk]
            asked = jax.tree.map(lambda x, chunk=chunk: np.asarray(x)[chunk], condition)
            mask = np.arange(self.size) < num_atoms[chunk][..., None]
            crystal = _start_on_devices(self._parts[0], chunk_keys, mask)
            counts = []
            for steps in self._dispatches:
                crystal, num_real = _reverse_on_devices(
                    *self._parts, chunk_keys, crystal, asked, steps
                )
                counts.append(np.asarray(num_real))
                if bar is not None:
                    bar.advance(share)
            parts.append((jax.tree.map(np.asarray, crystal), np.concatenate(counts, -1)))

        def join(*chunks: np.ndarray) -> np.ndarray:
            whole = np.stack(chunks)
            return whole.reshape(-1, *whole.shape[3:])[:num]

        return jax.tree.map(join, *parts)


def _chunk_size(denoise: Denoise, size: int) -> int:
    backend = jax.default_backend()
    own = chunk_size_of(denoise, size, backend)
    return min(own, LARGEST_CPU_CHUNK) if backend == "cpu" else own
