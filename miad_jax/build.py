"""From a configuration to what it describes: network, process, solver, control, loss weights."""

from __future__ import annotations

import functools
from dataclasses import fields
from typing import Any

from ml_collections import ConfigDict

from miad_jax.config import DTYPES
from miad_jax.diffusion.joint import Diffusion
from miad_jax.diffusion.losses import LossWeights
from miad_jax.diffusion.make import make_diffusion
from miad_jax.network import Network, network_class
from miad_jax.sampling import Control, Solver, make_solver


def network_from(config: ConfigDict) -> Network:
    """The network that a configuration describes: the same object for equal fields.

    What is compiled for one is then compiled for all, since JAX tells functions apart by identity.
    Fields of other networks are left out. A network that is told properties is told those of
    `config.data.properties`.

    Raises:
        ValueError: If the network's name is unknown.
    """
    settings = config.network.to_dict() | {
        "num_steps": config.diffusion.num_steps,
        "dtype": DTYPES[config.network.dtype],
        "properties": tuple(config.data.properties),
    }
    name = settings.pop("name")
    known = {field.name for field in fields(network_class(name))}
    return _network(name, **{field: value for field, value in settings.items() if field in known})


@functools.cache
def _network(name: str, **settings: Any) -> Network:
    return network_class(name)(**settings)


def diffusion_from(config: ConfigDict) -> Diffusion:
    """The process that a configuration describes."""
    return make_diffusion(**config.diffusion.to_dict())


def solver_from(config: ConfigDict) -> Solver:
    """The solver that `config.sampling` describes.

    Example:
        >>> config = miad_jax.default_config()
        >>> config.sampling.steps = 250
        >>> miad_jax.solver_from(config).steps
        250
    """
    settings = config.sampling.to_dict()
    return make_solver(settings.pop("solver"), **settings)


def control_from(config: ConfigDict) -> Control:
    """How `config.sampling` uses predictions.

    Example:
        >>> miad_jax.control_from(miad_jax.default_config()).type_temperature
        1.0
    """
    fields = config.sampling
    bounds = tuple(fields.cell_bounds_angstrom)
    return Control(
        fields.type_temperature, fields.coords_score, fields.guidance, bounds if bounds else None
    )


def loss_weights_from(config: ConfigDict) -> LossWeights:
    """The weights of the losses."""
    return LossWeights(**config.loss.to_dict())
