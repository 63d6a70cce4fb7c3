"""The states of samples while they are generated."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Int

from miad_jax.crystal import Crystal


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trajectory:
    """What samples looked like on the way: pure noise first, the samples themselves last.

    Attributes:
        crystals: Every state of every sample, [samples, frames], mirage atoms included.
        times: Time of each frame in the diffusion process, falling; −1 for the samples.
        steps: Number of steps that were made before each frame, from 0 on.

    Example:
        >>> net = miad_jax.CSPNet(hidden_dim=16, num_layers=2, num_freqs=4)
        >>> denoise = jax.tree_util.Partial(net.denoise, net.init_params(jax.random.key(0)))
        >>> diffusion, key = miad_jax.make_diffusion(10), jax.random.key(1)
        >>> crystals, trajectory = miad_jax.sample(
        ...     diffusion, denoise, key, 2, num_atoms=6, chunk_size=2, trajectory_every=4
        ... )
        >>> trajectory.crystals.batch_shape, trajectory.steps.tolist()
        ((2, 4), [0, 4, 8, 9])
    """

    crystals: Crystal
    times: Int[np.ndarray, " frames"]
    steps: Int[np.ndarray, " frames"]
