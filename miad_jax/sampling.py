"""New crystals: the reverse process from pure noise, one `lax.scan` over time.

Sample i has the key `fold_in(key, i)`, and every row of the tables a key folded from that, so a
sample does not depend on how many others are drawn or in how many calls. The network runs on
chunks of one fixed shape, each chunk through all its steps, so it does not depend on the batch
size or the number of devices either: on one kind of device it is the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from miad_jax.crystal import Crystal, real_atom_mask
from miad_jax.diffusion.joint import Denoise, Diffusion, crystal_keys, prior, reverse_step
from miad_jax.network.graph import crystals_per_chunk

# Rows of the tables are 0, 1, …: these two streams of a sample's key lie beyond them all.
_START, _COUNT = 2**31, 2**31 + 1


def sample(
    diffusion: Diffusion,
    denoise: Denoise,
    key: PRNGKeyArray,
    num_samples: int,
    num_atoms: int | Int[np.ndarray, " samples"],
    *,
    first_index: int = 0,
    chunk_size: int | None = None,
) -> Crystal:
    """Draw crystals, mirage atoms still in them: `mirage.reduce` drops those.

    Args:
        diffusion: The process; with fewer rows for fewer steps.
        denoise: The network. As a `jax.tree_util.Partial` of its parameters it is compiled once.
        key: Key of the whole run.
        num_samples: Number of crystals.
        num_atoms: N_m, the slots of every crystal (MiAD), or the fixed number of atoms of each
            (the baseline), as from `draw_num_atoms`.
        first_index: Index of the first crystal, to continue a run.
        chunk_size: Crystals that the network sees at once; None chooses by the device.

    Raises:
        ValueError: If `num_atoms` is an array of another length, or not positive.

    Example:
        >>> net = miad_jax.CSPNet(hidden_dim=16, num_layers=2, num_freqs=4)
        >>> denoise = jax.tree_util.Partial(net.denoise, net.init_params(jax.random.key(0)))
        >>> diffusion = miad_jax.make_diffusion(num_kept=10)
        >>> crystals = miad_jax.sample(diffusion, denoise, jax.random.key(1), 2, num_atoms=6)
        >>> crystals.batch_shape
        (2,)
    """
    counts = np.broadcast_to(np.asarray(num_atoms), (num_samples,))
    if num_samples and counts.min() < 1:
        raise ValueError(f"num_atoms is {counts.min()}: every crystal needs at least one atom")
    size = int(counts.max(initial=1))
    chunk_size = chunk_size or crystals_per_chunk(size, jax.default_backend())
    padded = -(-num_samples // chunk_size) * chunk_size
    keys = sample_keys(key, first_index + np.arange(padded))
    mask = np.arange(size) < np.pad(counts, (0, padded - num_samples), mode="edge")[:, None]
    rows = jnp.arange(diffusion.num_steps)[::-1]
    run = jax.jit(reverse, static_argnames="chunk_size")
    crystal, _ = run(
        diffusion,
        jax.tree_util.Partial(denoise),
        keys,
        start(keys, jnp.asarray(mask)),
        rows,
        chunk_size=chunk_size,
    )
    return crystal[:num_samples]


def sample_keys(key: PRNGKeyArray, index: Int[np.ndarray, " samples"]) -> PRNGKeyArray:
    """The keys of samples by their index in the run."""
    return jax.vmap(jax.random.fold_in, (None, 0))(crystal_keys(key, ()), jnp.asarray(index))


def draw_num_atoms(
    keys: PRNGKeyArray, histogram: Float[np.ndarray, " counts"]
) -> Int[np.ndarray, " samples"]:
    """Number of atoms of each sample, for the baseline.

    Args:
        keys: One key for each sample.
        histogram: Weight of every number of atoms, from 0 on: the training histogram.

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 3)
        >>> draw_num_atoms(keys, np.array([0.0, 0.0, 7.0])).tolist()
        [2, 2, 2]
    """
    logits = jnp.log(jnp.asarray(histogram, jnp.float32))
    draw = jax.vmap(lambda key: jax.random.categorical(jax.random.fold_in(key, _COUNT), logits))
    return np.asarray(draw(keys))


def start(keys: PRNGKeyArray, mask: Bool[Array, "samples atoms"]) -> Crystal:
    """Crystals of pure noise.

    Args:
        keys: One key for each sample.
        mask: False on padding; all True for MiAD.
    """
    return prior(jax.vmap(jax.random.fold_in, (0, None))(keys, _START), mask)


def reverse(
    diffusion: Diffusion,
    denoise: Denoise,
    keys: PRNGKeyArray,
    crystal: Crystal,
    rows: Int[Array, " rows"],
    *,
    chunk_size: int,
) -> tuple[Crystal, Int[Array, "samples rows"]]:
    """Run reverse steps, chunk after chunk; calls over parts of the rows continue each other.

    Args:
        diffusion: The process.
        denoise: The network.
        keys: One key for each sample.
        crystal: The samples before `rows[0]`; a multiple of `chunk_size` of them.
        rows: Rows of the tables, descending.
        chunk_size: Crystals that the network sees at once.

    Returns:
        The samples after the last row, and the number of real atoms after each.
    """

    def one_chunk(part: tuple[PRNGKeyArray, Crystal]) -> tuple[Crystal, Array]:
        keys, crystal = part

        def step(crystal: Crystal, row: Array) -> tuple[Crystal, Array]:
            step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, row)
            crystal = reverse_step(diffusion, denoise, step_keys, crystal, row)
            return crystal, real_atom_mask(crystal).sum(-1)

        return jax.lax.scan(step, crystal, rows)

    def split(x: Array) -> Array:
        return x.reshape(-1, chunk_size, *x.shape[1:])

    def join(x: Array) -> Array:
        return x.reshape(-1, *x.shape[2:])

    crystal, num_real = jax.lax.map(one_chunk, jax.tree.map(split, (keys, crystal)))
    return jax.tree.map(join, crystal), join(num_real.swapaxes(1, 2))


class ShardedSampler:
    """Batches of samples on all local devices, in dispatches short enough to show progress.

    Args:
        diffusion: The process.
        denoise: The network, a `jax.tree_util.Partial` of its parameters.
        size: Atom slots of a sample.
        batch_size: Samples at a time; rounded up to whole chunks on every device.
        chunk_size: Crystals that the network sees at once; None chooses by the device.
        rows_per_dispatch: Reverse steps between two reports.
    """

    def __init__(
        self,
        diffusion: Diffusion,
        denoise: Denoise,
        size: int,
        *,
        batch_size: int,
        chunk_size: int | None = None,
        rows_per_dispatch: int = 50,
    ):
        self.num_devices = jax.local_device_count()
        self.chunk_size = chunk_size or crystals_per_chunk(size, jax.default_backend())
        self.batch_size = batch_size
        whole = self.num_devices * self.chunk_size
        self._padded_size = -(-batch_size // whole) * whole
        self._size = size
        self._denoise = denoise
        rows = np.arange(diffusion.num_steps)[::-1]
        self._dispatches = [
            rows[i : i + rows_per_dispatch] for i in range(0, len(rows), rows_per_dispatch)
        ]
        self._start = jax.pmap(start)
        self._reverse = jax.pmap(
            partial(reverse, diffusion, chunk_size=self.chunk_size), in_axes=(None, 0, 0, None)
        )

    def draw(
        self,
        keys: PRNGKeyArray,
        num_atoms: Int[np.ndarray, " samples"],
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> tuple[Crystal, Int[np.ndarray, "samples rows"]]:
        """Draw one batch.

        Args:
            keys: One key for each sample, at most `batch_size`.
            num_atoms: Slots of each sample that are no padding.
            report: Called after every dispatch with the reverse steps done and their number.

        Returns:
            The samples, on the host, and their number of real atoms after each reverse step.
        """
        num = keys.shape[0]
        fill = np.minimum(np.arange(self._padded_size), num - 1)
        shape = (self.num_devices, -1)
        keys = keys[fill].reshape(shape)
        mask = np.arange(self._size) < num_atoms[fill, None]
        crystal = self._start(keys, mask.reshape(*shape, self._size))
        counts, done = [], 0
        for rows in self._dispatches:
            crystal, num_real = self._reverse(self._denoise, keys, crystal, rows)
            counts.append(np.asarray(num_real).reshape(self._padded_size, -1))
            done += len(rows)
            report(done, sum(map(len, self._dispatches)))
        crystal = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:])[:num], crystal)
        return crystal, np.concatenate(counts, axis=1)[:num]
