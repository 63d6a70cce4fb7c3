"""A trained model from its run's folder: process, network and configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from miad_jax.config import diffusion_from, load_config, network_from
from miad_jax.diffusion.joint import Denoise, Diffusion
from miad_jax.training.checkpoint import Checkpoints


@dataclass(frozen=True)
class TrainedModel:
    """What sampling needs of a training run.

    Attributes:
        denoise: The network with its averaged parameters, a `jax.tree_util.Partial`.
        config: The configuration it was trained with.
        histogram: Number of training crystals with 0, 1, 2, … atoms.
        step: Training steps done.
        fingerprint: Identifies the training data.
    """

    denoise: Denoise
    config: ConfigDict
    histogram: Int[np.ndarray, " counts"]
    step: int
    fingerprint: str


def load_model(path: str | Path) -> TrainedModel:
    """Load the newest checkpoint of a training run.

    Args:
        path: The `--workdir` of the run.

    Raises:
        ValueError: If there is no checkpoint, or it does not fit this version.
    """
    checkpoints = Checkpoints(path)
    meta = checkpoints.meta()
    config = load_config(meta["config"])
    net = network_from(config)
    like = jax.eval_shape(net.init_params, jax.random.key(0))
    params = checkpoints.restore_average(like)
    return TrainedModel(
        denoise=jax.tree_util.Partial(net.denoise, params),
        config=config,
        histogram=np.asarray(meta["histogram"]),
        step=int(checkpoints.latest() or 0),
        fingerprint=meta["data_fingerprint"],
    )


def load_pretrained(name_or_path: str | Path) -> tuple[Diffusion, Denoise, ConfigDict]:
    """Load a trained model: its process, its denoiser and its configuration.

    Args:
        name_or_path: The folder of a training run (`--workdir`).

    Raises:
        ValueError: If there is no checkpoint, or it does not fit this version.

    Example:
        >>> diffusion, denoise, config = miad_jax.load_pretrained("runs/mp20")  # doctest: +SKIP
        >>> crystals = miad_jax.sample(
        ...     diffusion, denoise, jax.random.key(0), 16, config.infusion.num_atoms
        ... )  # doctest: +SKIP
    """
    model = load_model(name_or_path)
    return diffusion_from(model.config), model.denoise, model.config
