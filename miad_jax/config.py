"""The configuration of a run: every field, its default, and what values are possible.

`configs/*.py` start from `default_config()` and set the published values of a data set. The
defaults are those of the embedded data set `prototypes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from miad_jax.diffusion.joint import CoordsScore, Diffusion, make_diffusion
from miad_jax.diffusion.losses import LossWeights
from miad_jax.diffusion.schedules import Ending
from miad_jax.mirage import Placement
from miad_jax.network import CSPNet

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
SCHEDULES = ("constant", "cosine", "plateau")


def default_config() -> ConfigDict:
    """All fields with their defaults; unknown fields are refused with the nearest known name.

    Example:
        >>> config = miad_jax.default_config()
        >>> config.batch_size = 64
        >>> config.data.path
        'prototypes'
    """
    config = ConfigDict()
    config.seed = 0

    config.data = ConfigDict()
    config.data.path = "prototypes"  # a known data set, or a folder with train.csv and val.csv
    config.data.max_num_atoms = config_dict.placeholder(int)  # leave larger crystals out

    config.infusion = ConfigDict()
    config.infusion.enabled = True  # False is the baseline, DiffCSP
    config.infusion.num_atoms = 25  # N_m, of every infused crystal
    config.infusion.placement = "uniform"  # or "center" (Table 5)
    config.infusion.mask_mirage = True  # no coordinate loss on mirage atoms

    config.diffusion = ConfigDict()
    config.diffusion.num_steps = 1000
    config.diffusion.corrector_gamma = 1e-5  # γ, the published step_lr
    config.diffusion.ending = "clean"  # or "published"
    config.diffusion.coords_score = "conditional"  # or "marginal": see validate
    config.diffusion.type_temperature = 1.0  # divides the types' logits while sampling
    config.diffusion.sampling_steps = config_dict.placeholder(int)  # reverse steps; None: all

    config.network = ConfigDict()
    config.network.hidden_dim = 512
    config.network.num_layers = 6
    config.network.num_freqs = 128
    config.network.time_dim = 256
    config.network.dtype = "float32"  # precision of matrix products: or "bfloat16"

    config.loss = ConfigDict()  # weights
    config.loss.lattice = 1.0
    config.loss.coords = 1.0
    config.loss.types = 1.0
    config.loss.cross_entropy = 0.0  # of the clean types

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 0
    config.optimizer.schedule = "constant"  # or "cosine", or "plateau"
    config.optimizer.final_learning_rate = 1e-4  # where cosine and plateau end
    config.optimizer.plateau_factor = 0.6
    config.optimizer.plateau_patience = 30  # epochs
    config.optimizer.clip_norm = config_dict.placeholder(float)  # largest gradient norm
    config.optimizer.ema_decay = 0.999  # of the averaged parameters; 0 is no average

    config.batch_size = 256
    config.chunk_size = config_dict.placeholder(int)  # crystals at once; None: by the device
    config.num_epochs = 1000
    config.max_minutes = config_dict.placeholder(float)  # end with a checkpoint then
    config.log_every = 50  # steps
    config.validate_every = 1000  # steps
    config.checkpoint_every = 1000  # steps
    config.keep_checkpoints = 3  # the newest
    return config.lock()


def load_config(saved: dict[str, Any]) -> ConfigDict:
    """The configuration that a checkpoint holds, checked.

    Raises:
        ValueError: If a field is unknown or has an impossible value.
    """
    config = default_config()
    try:
        config.update(saved)
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"the saved configuration does not fit this version: {error}") from error
    return validate(config, num_devices=1)


def validate(config: ConfigDict, *, num_devices: int | None = None) -> ConfigDict:
    """Refuse impossible values; return the configuration as it is.

    Args:
        config: The configuration.
        num_devices: Devices that share a batch; None for all that are here.

    Raises:
        ValueError: Naming every field that is wrong, what was found and what is allowed.
    """
    problems = []

    def check(field: str, allowed: str, test: Callable[[Any], bool]) -> None:
        value = config
        for name in field.split("."):
            value = value[name]
        if not test(value):
            problems.append(f"config.{field} is {value!r}; allowed: {allowed}")

    def choose(field: str, options: tuple[str, ...]) -> None:
        check(field, ", ".join(options), lambda value: value in options)

    for field in (
        "infusion.num_atoms network.hidden_dim network.num_layers network.num_freqs "
        "diffusion.num_steps batch_size log_every validate_every checkpoint_every keep_checkpoints"
    ).split():
        check(field, "a whole number from 1 on", lambda value: value >= 1)
    for field in ("data.max_num_atoms", "chunk_size", "diffusion.sampling_steps"):
        check(field, "a whole number from 1 on, or None", lambda v: v is None or v >= 1)
    for field in ("max_minutes", "optimizer.clip_norm"):
        check(field, "a number above 0, or None", lambda value: value is None or value > 0)
    for field in (
        "optimizer.learning_rate optimizer.final_learning_rate diffusion.type_temperature "
        "num_epochs optimizer.plateau_patience"
    ).split():
        check(field, "a number above 0", lambda value: value > 0)
    for field in (
        "loss.lattice loss.coords loss.types loss.cross_entropy optimizer.warmup_steps "
        "diffusion.corrector_gamma"
    ).split():
        check(field, "0 or more", lambda value: value >= 0)
    check(
        "diffusion.sampling_steps",
        f"at most config.diffusion.num_steps, {config.diffusion.num_steps}",
        lambda value: value is None or value <= config.diffusion.num_steps,
    )
    check("seed", "a whole number from 0 to 4294967295", lambda value: 0 <= value < 2**32)
    if config.optimizer.schedule != "constant":
        check(
            "optimizer.final_learning_rate",
            f"at most config.optimizer.learning_rate, {config.optimizer.learning_rate}",
            lambda value: not value > config.optimizer.learning_rate,
        )
    check("network.time_dim", "an even number from 4 on", lambda v: v >= 4 and v % 2 == 0)
    check("optimizer.ema_decay", "0 up to, not including, 1", lambda value: 0 <= value < 1)
    check("optimizer.plateau_factor", "between 0 and 1", lambda value: 0 < value < 1)
    choose("infusion.placement", get_args(Placement))
    choose("diffusion.ending", get_args(Ending))
    choose("diffusion.coords_score", get_args(CoordsScore))
    infusion = config.infusion
    if not (infusion.enabled and infusion.mask_mirage and infusion.placement == "uniform"):
        check(
            "diffusion.coords_score",
            "conditional, as there are no mirage atoms, or they count in the loss of the "
            "coordinates, or they are not uniform in the cell",
            lambda value: value != "marginal",
        )
    choose("network.dtype", tuple(DTYPES))
    choose("optimizer.schedule", SCHEDULES)
    devices = num_devices or jax.local_device_count()
    if config.batch_size % devices:
        problems.append(
            f"config.batch_size is {config.batch_size}; allowed: a multiple of the "
            f"{devices} devices"
        )
    if problems:
        raise ValueError("\n".join(problems))
    return config


def network_from(config: ConfigDict) -> CSPNet:
    """The network that a configuration describes."""
    fields = config.network.to_dict()
    dtype = DTYPES[fields.pop("dtype")]
    return CSPNet(**fields, num_steps=config.diffusion.num_steps, dtype=dtype)


def diffusion_from(config: ConfigDict, num_kept: int | None = None) -> Diffusion:
    """The process that a configuration describes.

    Args:
        config: The configuration.
        num_kept: Reverse steps after respacing; None for `config.diffusion.sampling_steps`.
    """
    return make_diffusion(
        config.diffusion.num_steps,
        num_kept=num_kept or config.diffusion.sampling_steps,
        corrector_gamma=config.diffusion.corrector_gamma,
        ending=config.diffusion.ending,
        type_temperature=config.diffusion.type_temperature,
        coords_score=config.diffusion.coords_score,
    )


def loss_weights_from(config: ConfigDict) -> LossWeights:
    """The weights of the losses."""
    return LossWeights(**config.loss.to_dict())


def apply_variant(
    config: ConfigDict, variant: str, variants: dict[str, Callable[[ConfigDict], None]]
) -> ConfigDict:
    """Change a configuration as the words behind its colon say: `configs/mp20.py:small,diffcsp`.

    Args:
        config: The configuration, changed in place.
        variant: Names separated by commas; empty for none.
        variants: What each name does.

    Raises:
        ValueError: If a name is unknown.
    """
    for name in filter(None, variant.split(",")):
        if name not in variants:
            raise ValueError(
                f"unknown variant {name!r} of the configuration; allowed: {', '.join(variants)}"
            )
        variants[name](config)
    return config


def get_config(variant: str = "") -> ConfigDict:
    """The configuration of the embedded data set; variants "diffcsp" and "quick"."""
    return apply_variant(default_config(), variant, {"diffcsp": diffcsp, "quick": quick})


def diffcsp(config: ConfigDict) -> None:
    """The baseline: DiffCSP is the same code without infusion."""
    config.infusion.enabled = False


def quick(config: ConfigDict) -> None:
    """A small model of small crystals, for a first look within minutes on two CPU cores."""
    config.data.max_num_atoms = 8
    config.infusion.num_atoms = 10
    config.network.hidden_dim = 96
    config.network.num_layers = 3
    config.network.num_freqs = 32
    config.network.time_dim = 64
    config.optimizer.warmup_steps = 100
    config.optimizer.schedule = "cosine"
    config.optimizer.clip_norm = 1.0
    config.batch_size = 128
    config.num_epochs = 100
    config.log_every = 20
    config.validate_every = 500
    config.checkpoint_every = 500
