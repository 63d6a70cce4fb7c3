"""The configuration of a run: every field, its default, and what values are possible.

`configs/*.py` start from `default_config()` and set the published values of a data set. The
defaults are those of the embedded data set `prototypes`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any, get_args

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict, config_dict

from miad_jax.diffusion.coords import SIGMA_MIN
from miad_jax.diffusion.make import COORDS, LATTICES, TYPES
from miad_jax.mirage import Placement
from miad_jax.network import NETWORKS
from miad_jax.sampling.control import CoordsScore
from miad_jax.sampling.quality import settings_of
from miad_jax.sampling.solvers import SOLVERS, Corrector, LastStep
from miad_jax.spelling import did_you_mean

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
SCHEDULES = ("constant", "cosine", "plateau")

MAX_SLOTS = 10_000
"""Atom slots of a crystal at most: what a network computes grows with their square."""

_LARGEST = {
    "infusion.num_atoms": MAX_SLOTS,
    "network.hidden_dim": 65_536,
    "network.num_layers": 1_000,
    "network.num_freqs": 10_000,
    "network.time_dim": 65_536,
    "network.num_heads": 1_024,
    "network.pair_dim": 65_536,
    "diffusion.num_steps": 100_000,
}
"""Sizes beyond which nothing can be made; a file from elsewhere may ask for any."""


def default_config() -> ConfigDict:
    """All fields with their defaults; unknown fields are refused with the nearest known name.

    Example:
        >>> config = miad_jax.default_config()
        >>> config.batch_size = 64
        >>> config.data.path
        'prototypes'
    """
    config = ConfigDict()
    config.seed = 0  # of parameters, order and noise

    config.data = ConfigDict()
    config.data.path = "prototypes"  # a known data set, or a folder or file of crystals
    config.data.val_fraction = 0.1  # share for validation, chosen by the seed, if there is no split
    config.data.max_num_atoms = config_dict.placeholder(int)  # leave larger crystals out
    config.data.max_edge_angstrom = config_dict.placeholder(float)  # leave longer cells out
    config.data.any_axes = False  # draw order and direction of a crystal's axes in every step
    config.data.properties = ()  # what the network is told: columns, or computed of crystals
    config.data.property_dropout = 0.2  # share of crystals for which each is left out in training

    config.infusion = ConfigDict()
    config.infusion.enabled = True  # False is the baseline, DiffCSP
    config.infusion.num_atoms = 25  # N_m, of every infused crystal
    config.infusion.placement = "uniform"  # or "center" (Table 5)
    config.infusion.mask_mirage = True  # no coordinate loss on mirage atoms

    config.tasks = ConfigDict()  # weights of what a training crystal is used for; see Tasks
    config.tasks.generate = 1.0  # all of it from nothing
    config.tasks.structure = 0.0  # its structure, of its formula
    config.tasks.complete = 0.0  # the rest, of some atoms and half of the time the cell
    config.tasks.cell = 0.0  # its atoms, of the cell

    config.diffusion = ConfigDict()  # what is trained
    config.diffusion.num_steps = 1000  # T
    config.diffusion.lattice = "ddpm"  # or "log", "limit", "flow", "lengths_angles": see LATTICES
    config.diffusion.coords = "wrapped_normal"  # or "flow": see TorusFlow
    config.diffusion.types = "uniform"  # or "masked", or "flow": see MaskedTypes, TypesFlow
    config.diffusion.sigma_max = 0.5  # largest σ of "wrapped_normal", in fractions of the cell
    config.diffusion.limit_num_atoms = 25  # of the cell in which the noise of "limit" ends

    config.sampling = ConfigDict()  # how samples are drawn of it; training does not read it
    config.sampling.solver = "ancestral"  # or "heun", or "predictor_corrector"
    config.sampling.steps = config_dict.placeholder(int)  # None: all from first_time on
    config.sampling.first_time = config_dict.placeholder(int)  # None: see Visits
    config.sampling.visit = ()  # the times themselves, instead of both
    config.sampling.corrector_gamma = 1e-5  # γ, the published step_lr
    config.sampling.corrector = "langevin"  # or "renewal": see PredictorCorrector
    config.sampling.churn = 0.0  # see Ancestral
    config.sampling.coords_ahead = 0.0  # see Ancestral
    config.sampling.last_step = "denoise"  # or "hold": see PredictorCorrector
    config.sampling.type_temperature = 1.0  # divides the types' logits
    config.sampling.coords_score = "conditional"  # or "marginal": see Control
    config.sampling.guidance = 1.0  # weight of properties that are asked
    config.sampling.cell_bounds_angstrom = (2.0, 50.0)  # of the predicted cell; (): none
    config.sampling.update(settings_of("standard", 1000))  # its fields stand there by default

    config.network = ConfigDict()
    config.network.name = "cspnet"  # or "transformer"; a network leaves out others' fields
    config.network.hidden_dim = 512  # width
    config.network.num_layers = 6  # message passings, or blocks of attention
    config.network.num_freqs = 128  # of the coordinates, in each direction
    config.network.time_dim = 256  # width of the time embedding
    config.network.num_heads = 8  # of the transformer's attention
    config.network.pair_dim = 48  # channels of its pairs
    config.network.dtype = "float32"  # precision of matrix products: or "bfloat16"

    config.loss = ConfigDict()  # weights
    config.loss.lattice = 1.0  # w_L
    config.loss.coords = 1.0  # w_F
    config.loss.types = 1.0  # w_A
    config.loss.cross_entropy = 0.0  # of the clean types

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 1e-3  # the highest, of Adam
    config.optimizer.warmup_steps = 0  # until it is reached
    config.optimizer.schedule = "constant"  # or "cosine", or "plateau"
    config.optimizer.final_learning_rate = 1e-4  # where cosine and plateau end
    config.optimizer.plateau_factor = 0.6  # by which a plateau lowers it
    config.optimizer.plateau_patience = 30  # epochs
    config.optimizer.clip_norm = config_dict.placeholder(float)  # largest gradient norm
    config.optimizer.ema_decay = 0.999  # of the averaged parameters; 0 is no average

    config.batch_size = 256  # crystals a step
    config.chunk_size = config_dict.placeholder(int)  # crystals at once; None: the network's choice
    config.num_epochs = 1000  # passes over the training crystals
    config.num_steps = config_dict.placeholder(int)  # instead of num_epochs
    config.max_minutes = config_dict.placeholder(float)  # end with a checkpoint then
    config.log_every = 50  # steps
    config.validate_every = 1000  # steps
    config.checkpoint_every = 1000  # steps
    config.keep_checkpoints = 3  # the newest
    return config.lock()


MOVED = {
    "diffusion.sampling_steps": "sampling.steps",
    "diffusion.corrector_gamma": "sampling.corrector_gamma",
    "diffusion.ending": "sampling.last_step",
    "diffusion.type_temperature": "sampling.type_temperature",
    "diffusion.coords_score": "sampling.coords_score",
}
"""Fields of version 0.1, and where they are now."""

LAST_STEPS = {"clean": "denoise", "published": "hold"}
"""Values of `diffusion.ending` in version 0.1, and what `sampling.last_step` calls them."""

LENGTHS = ("num_epochs", "num_steps")
"""Fields that say how long a training is."""

CARRYING_OUT = (
    *LENGTHS,
    *("max_minutes", "chunk_size", "log_every", "validate_every", "checkpoint_every"),
    *("keep_checkpoints", "data.path", "network.dtype", "sampling"),
)
"""Fields that do not change what training computes: a run may continue with others.

With the cosine schedule the length may not differ: the learning rate is a function of it.
"""


def load_config(saved: Mapping[str, Any]) -> ConfigDict:
    """The configuration that a checkpoint or release file holds, checked.

    Fields that an older version did not have stand at their defaults; those that it had elsewhere
    are moved to where they are now.

    Raises:
        ValueError: If a field is unknown or has an impossible value.
    """
    config = default_config()
    try:
        config.update(upgraded(saved))
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"the saved configuration does not fit this version: {error}") from error
    return validate(config, num_devices=1)


def upgraded(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A saved configuration with the fields of version 0.1 where they are now.

    What version 0.1 saved is sampled as version 0.1 did.
    """
    flat = flatten_dict(dict(saved), sep=".")
    for old, new in MOVED.items():
        if old in flat:
            value = flat.pop(old)
            flat[new] = LAST_STEPS.get(value, value) if new == "sampling.last_step" else value
    if "sampling.first_time" not in flat:
        published = settings_of("published", flat.get("diffusion.num_steps", 1000))
        flat = {f"sampling.{name}": value for name, value in published.items()} | flat
    return unflatten_dict(flat, sep=".")


def validate(config: ConfigDict, *, num_devices: int | None = None) -> ConfigDict:
    """Refuse impossible values; return the configuration as it is.

    Args:
        config: The configuration.
        num_devices: Devices that share a batch; None for all, of every process.

    Raises:
        ValueError: Naming every field that is wrong, what was found and what is allowed.
    """
    problems = []

    def check(field: str, allowed: str, test: Callable[[Any], bool]) -> None:
        value = config
        for name in field.split("."):
            value = value[name]
        try:
            is_possible = test(value)
        except (TypeError, ValueError):  # of a type that no allowed value has
            is_possible = False
        if not is_possible:
            problems.append(f"config.{field} is {value!r}; allowed: {allowed}")

    def choose(field: str, options: tuple[str, ...]) -> None:
        section, name = field.split(".")
        hint = did_you_mean(str(config[section][name]), options)
        check(field, ", ".join(options) + hint, lambda value: value in options)

    for field in (
        "infusion.num_atoms network.hidden_dim network.num_layers network.num_freqs "
        "network.num_heads network.pair_dim "
        "diffusion.num_steps diffusion.limit_num_atoms batch_size log_every validate_every "
        "checkpoint_every keep_checkpoints"
    ).split():
        check(field, "a whole number from 1 on", lambda value: value >= 1)
    for field, largest in _LARGEST.items():
        check(field, f"at most {largest}", partial(operator.ge, largest))
    for field in ("data.max_num_atoms", "chunk_size", "num_steps", "sampling.steps"):
        check(field, "a whole number from 1 on, or None", lambda v: v is None or v >= 1)
    for field in ("max_minutes", "optimizer.clip_norm", "data.max_edge_angstrom"):
        check(
            field, "a number above 0, or None", lambda value: value is None or 0 < value < math.inf
        )
    for field in (
        "optimizer.learning_rate optimizer.final_learning_rate sampling.type_temperature "
        "num_epochs optimizer.plateau_patience"
    ).split():
        check(field, "a number above 0", lambda value: 0 < value < math.inf)
    for field in (
        "loss.lattice loss.coords loss.types loss.cross_entropy optimizer.warmup_steps "
        "sampling.corrector_gamma sampling.guidance sampling.churn sampling.coords_ahead "
        "tasks.generate tasks.structure tasks.complete tasks.cell"
    ).split():
        check(field, "0 or more", lambda value: 0 <= value < math.inf)
    check(
        "sampling.steps",
        f"at most config.diffusion.num_steps, {config.diffusion.num_steps}",
        lambda value: value is None or value <= config.diffusion.num_steps,
    )
    check(
        "diffusion.sigma_max",
        f"a number above {SIGMA_MIN}, the smallest σ",
        lambda value: value > SIGMA_MIN,
    )
    last_time = config.diffusion.num_steps - 1
    check(
        "sampling.first_time",
        f"a time of the diffusion, 0 to {last_time}, or None",
        lambda value: value is None or 0 <= value <= last_time,
    )
    check(
        "sampling.cell_bounds_angstrom",
        "a smallest and a larger length, both above 0, or ()",
        lambda value: len(value) == 0 or (len(value) == 2 and 0 < value[0] < value[1]),
    )
    sampling = config.sampling
    check(
        "sampling.visit",
        f"falling whole numbers from at most {last_time} to at least 0, with steps and first_time "
        "None; or ()",
        lambda value: (
            not value
            or (
                all(type(time) is int for time in value)
                and last_time >= value[0]
                and all(a > b for a, b in pairwise((*value, -1)))
                and sampling.steps is sampling.first_time is None
            )
        ),
    )
    if sampling.steps is not None and sampling.first_time is not None:
        check(
            "sampling.steps",
            f"a number of steps from time {sampling.first_time}: choose 1 to "
            f"{sampling.first_time + 1}",
            lambda value: value <= sampling.first_time + 1,
        )
    check(
        "data.properties",
        "names of properties",
        lambda value: all(type(name) is str for name in value),
    )
    check("seed", "a whole number from 0 to 4294967295", lambda value: 0 <= value < 2**32)
    if config.optimizer.schedule != "constant":
        check(
            "optimizer.final_learning_rate",
            f"at most config.optimizer.learning_rate, {config.optimizer.learning_rate}",
            lambda value: not value > config.optimizer.learning_rate,
        )
    check("network.time_dim", "an even number from 4 on", lambda v: v >= 4 and v % 2 == 0)
    if config.network.name == "transformer":
        check(
            "network.num_heads",
            f"a divisor of config.network.hidden_dim, {config.network.hidden_dim}",
            lambda value: value < 1 or config.network.hidden_dim % value == 0,
        )
    check("optimizer.ema_decay", "0 up to, not including, 1", lambda value: 0 <= value < 1)
    check("data.property_dropout", "0 up to, not including, 1", lambda value: 0 <= value < 1)
    if not any(weight > 0 for weight in config.tasks.values()):
        problems.append("config.tasks are all 0; allowed: at least one above 0")
    for field in ("optimizer.plateau_factor", "data.val_fraction"):
        check(field, "between 0 and 1", lambda value: 0 < value < 1)
    choose("diffusion.lattice", tuple(LATTICES))
    choose("diffusion.coords", tuple(COORDS))
    choose("diffusion.types", tuple(TYPES))
    choose("infusion.placement", get_args(Placement))
    choose("sampling.solver", tuple(SOLVERS))
    choose("sampling.last_step", get_args(LastStep))
    choose("sampling.corrector", get_args(Corrector))
    choose("sampling.coords_score", get_args(CoordsScore))
    choose("network.name", tuple(NETWORKS))
    solver = config.sampling.solver
    if config.diffusion.coords == "flow":
        check(
            "sampling.solver",
            "ancestral, heun, as config.diffusion.coords is 'flow', which has no score to correct "
            "coordinates by",
            lambda value: value != "predictor_corrector",
        )
        check(
            "sampling.churn",
            "0, as config.diffusion.coords is 'flow', which does not go back up in time",
            lambda value: value == 0 or solver != "ancestral",
        )
    if config.diffusion.types == "masked":
        check(
            "sampling.solver",
            "ancestral, predictor_corrector, as config.diffusion.types is 'masked', of which a "
            "second evaluation says nothing",
            lambda value: value != "heun",
        )
    infusion = config.infusion
    if not (infusion.enabled and infusion.mask_mirage and infusion.placement == "uniform"):
        check(
            "sampling.coords_score",
            "conditional, as there are no mirage atoms, or they count in the loss of the "
            "coordinates, or they are not uniform in the cell",
            lambda value: value != "marginal",
        )
    choose("network.dtype", tuple(DTYPES))
    choose("optimizer.schedule", SCHEDULES)
    devices = num_devices or jax.device_count()
    if config.batch_size % devices:
        problems.append(
            f"config.batch_size is {config.batch_size}; allowed: a multiple of the "
            f"{devices} devices"
        )
    if problems:
        raise ValueError("\n".join(problems))
    return config


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
