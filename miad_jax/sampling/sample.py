"""New crystals: `sample` draws them from pure noise, `reverse_step` makes one step of it."""

from __future__ import annotations

import warnings
from typing import overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from miad_jax.condition import Condition
from miad_jax.crystal import Crystal
from miad_jax.diffusion.joint import Denoise, Diffusion
from miad_jax.diffusion.keys import NUM_ATOMS, sample_keys, streams
from miad_jax.parallel.progress import Progress, as_progress
from miad_jax.sampling.control import Control
from miad_jax.sampling.finite import first_not_finite, why_not_finite
from miad_jax.sampling.sampler import Sampler
from miad_jax.sampling.solvers import PredictorCorrector, Solver
from miad_jax.sampling.trajectory import Trajectory


@overload
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
    trajectory_every: None = None,
) -> Crystal: ...


@overload
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
    trajectory_every: int,
) -> tuple[Crystal, Trajectory]: ...


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
    trajectory_every: int | None = None,
) -> Crystal | tuple[Crystal, Trajectory]:
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
        control: How predictions are used; None for `Control()`.
        condition: What is asked of each sample; None asks nothing.
        size: Slots of every crystal, on which its noise depends; None for the largest of
            `num_atoms`. Give it where those of different calls differ.
        first_index: Index of the first crystal, to continue a run.
        chunk_size: Crystals that the network sees at once; None for the network's own choice.
        progress: Whether to show a progress bar on standard error, or where to show it.
        trajectory_every: Number of steps between two states to keep; None keeps none. The samples
            are the same bit for bit.

    Returns:
        The samples; with `trajectory_every` also their states on the way.

    Raises:
        FloatingPointError: If all samples hold NaN or infinity, naming the step; of some of them
            a warning tells.
        ValueError: If `num_samples`, `num_atoms` or `trajectory_every` is not positive, `num_atoms`
            of another length or beyond `size`; if the condition is of another number of samples,
            or the solver wants more steps than the process has.

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
        if trajectory_every is None:
            crystal, num_real = sampler.draw(keys, counts, condition, bar)
            _tell_not_finite(num_real, first_index)
            return crystal
        crystal, num_real, trajectory = sampler.draw(
            keys, counts, condition, bar, trajectory_every=trajectory_every
        )
    _tell_not_finite(num_real, first_index)
    return crystal, trajectory


def _tell_not_finite(num_real: Int[np.ndarray, "samples steps"], first_index: int) -> None:
    """Warn of samples that hold NaN or infinity, and refuse it where all of them do."""
    said = why_not_finite(num_real, range(first_index, first_index + len(num_real)))
    if said and first_not_finite(num_real).all():
        raise FloatingPointError(f"{said}: look at the parameters")
    if said:
        warnings.warn(said, stacklevel=3)


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
    controlled = (control or Control()).applied(diffusion, denoise, condition, is_last=s < 0)
    solver = solver or PredictorCorrector()
    solver.check(diffusion)
    return solver.step(diffusion, controlled, key, crystal_t, t, s)
