"""New crystals: the reverse process from pure noise, one `lax.scan` over time.

Sample i has the key `fold_in(key, i)`, and every row of the tables a key folded from that, so a
sample does not depend on how many others are drawn or in how many calls. `Sampler` runs chunks
of one fixed shape, one on every device at a time, so a sample does not depend on the size of a
batch or the number of devices either: on one kind of device it is the same bit for bit. (A CPU that
is one device alone divides products among its cores, and rounds as their number has it.)
"""

from __future__ import annotations

from collections.abc import Callable

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
    size: int | None = None,
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
        size: Slots of every crystal, on which its noise depends; None for the largest of
            `num_atoms`. Give it where those of different calls differ.
        first_index: Index of the first crystal, to continue a run.
        chunk_size: Crystals that the network sees at once; None chooses by the device. The sample
            command knows the width too: its run.json has the number for the same rounding.

    Raises:
        ValueError: If `num_samples` or `num_atoms` is not positive, of another length, or beyond
            `size`.

    Example:
        >>> net = miad_jax.CSPNet(hidden_dim=16, num_layers=2, num_freqs=4)
        >>> denoise = jax.tree_util.Partial(net.denoise, net.init_params(jax.random.key(0)))
        >>> diffusion = miad_jax.make_diffusion(num_kept=10)
        >>> crystals = miad_jax.sample(diffusion, denoise, jax.random.key(1), 2, num_atoms=6)
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
    sampler = Sampler(diffusion, denoise, size or int(counts.max()), chunk_size=chunk_size)
    keys = sample_keys(key, first_index + np.arange(num_samples))
    crystal, _ = sampler.draw(keys, counts)
    return crystal


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
        >>> miad_jax.draw_num_atoms(keys, np.array([0.0, 0.0, 7.0])).tolist()
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
) -> tuple[Crystal, Int[Array, "samples rows"]]:
    """Run reverse steps; calls over parts of the rows continue each other.

    Args:
        diffusion: The process.
        denoise: The network.
        keys: One key for each sample.
        crystal: The samples before `rows[0]`.
        rows: Rows of the tables, descending.

    Returns:
        The samples after the last row, and the number of real atoms after each.
    """

    def step(crystal: Crystal, row: Array) -> tuple[Crystal, Array]:
        step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, row)
        crystal = reverse_step(diffusion, denoise, step_keys, crystal, row)
        return crystal, real_atom_mask(crystal).sum(-1)

    crystal, num_real = jax.lax.scan(step, crystal, rows)
    return crystal, num_real.T


_start_on_devices = jax.pmap(start)
_reverse_on_devices = jax.pmap(reverse, in_axes=(None, None, 0, 0, None))


class Sampler:
    """Draws samples chunk by chunk, one chunk on every local device at a time.

    Args:
        diffusion: The process.
        denoise: The network; as a `jax.tree_util.Partial` of its parameters it is compiled once.
        size: Atom slots of a sample.
        chunk_size: Crystals that the network sees at once; None chooses by the device.
        rows_per_dispatch: Reverse steps between two reports.
    """

    def __init__(
        self,
        diffusion: Diffusion,
        denoise: Denoise,
        size: int,
        *,
        chunk_size: int | None = None,
        rows_per_dispatch: int = 50,
    ):
        self.size = size
        self.chunk_size = chunk_size or crystals_per_chunk(size, jax.default_backend())
        # A Partial in a Partial would hide its parameters, which would become constants.
        is_partial = isinstance(denoise, jax.tree_util.Partial)
        self._denoise = denoise if is_partial else jax.tree_util.Partial(denoise)
        self._diffusion = diffusion
        rows = np.arange(diffusion.num_steps)[::-1]
        self._dispatches = [
            rows[i : i + rows_per_dispatch] for i in range(0, len(rows), rows_per_dispatch)
        ]

    def draw(
        self,
        keys: PRNGKeyArray,
        num_atoms: Int[np.ndarray, " samples"],
        report: Callable[[float], None] = lambda share: None,
    ) -> tuple[Crystal, Int[np.ndarray, "samples rows"]]:
        """Draw one sample for every key.

        Args:
            keys: One key for each sample.
            num_atoms: Slots of each sample that are no padding, at most `size`.
            report: Called after every dispatch with the share that is done.

        Returns:
            The samples, on the host, and their number of real atoms after each reverse step.
        """
        num, num_devices = keys.shape[0], jax.local_device_count()
        shape = (-1, num_devices, self.chunk_size)
        whole = num_devices * self.chunk_size
        index = np.minimum(np.arange(-(-num // whole) * whole), num - 1).reshape(shape)
        parts = []
        for i, chunk in enumerate(index):
            chunk_keys = keys[chunk]
            mask = np.arange(self.size) < num_atoms[chunk][..., None]
            crystal = _start_on_devices(chunk_keys, mask)
            counts = []
            for j, rows in enumerate(self._dispatches):
                crystal, num_real = _reverse_on_devices(
                    self._diffusion, self._denoise, chunk_keys, crystal, rows
                )
                counts.append(np.asarray(num_real))
                report((i + (j + 1) / len(self._dispatches)) / len(index))
            parts.append((jax.tree.map(np.asarray, crystal), np.concatenate(counts, -1)))

        def join(*chunks: np.ndarray) -> np.ndarray:
            whole = np.stack(chunks)
            return whole.reshape(-1, *whole.shape[3:])[:num]

        return jax.tree.map(join, *parts)
