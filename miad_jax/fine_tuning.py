"""Start a training from a trained model: what `train --init_from` and a notebook do."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from miad_jax.build import network_from
from miad_jax.config import default_config, validate
from miad_jax.data.properties import COMPUTED
from miad_jax.model import DEFAULT, TrainedModel, load_model
from miad_jax.parallel.progress import Progress, as_progress
from miad_jax.spelling import did_you_mean
from miad_jax.training import Checkpoints, Initial, load_training_data
from miad_jax.training.loop import train

if TYPE_CHECKING:
    from pymatgen.core import Structure

_NAME_OF_A_LIST = "structures"


def fine_tune(
    data: str | os.PathLike[str] | Sequence[Structure],
    workdir: str | os.PathLike[str],
    *,
    model: str | Path = DEFAULT,
    properties: Mapping[str, Sequence[float | None]] | Sequence[str] = (),
    num_steps: int = 1000,
    learning_rate: float = 1e-4,
    batch_size: int = 32,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | bool = True,
) -> TrainedModel:
    """Train a trained model further, on crystals of your own.

    The learning rate falls to a tenth of itself along a cosine. The same call continues what was
    interrupted. Crystals that the model's training would have left out for their size are left
    out; `progress` is told so.

    Args:
        data: Crystals, or what `load_dataset` takes: a folder or a zip of CIFs or POSCARs, a CSV
            with a column `cif`, an extxyz. Without a split `val` a tenth is for validation.
        workdir: Folder for checkpoints and `metrics.jsonl`; `generate` and
            `python -m miad_jax.sample` take it as their model.
        model: Whose parameters are the start: weights of the package, a release file, or the folder
            of a run.
        properties: What the network is told beside the crystals, for a model that takes properties,
            such as "mp20-transformer". With a list of crystals values by name, None where unknown;
            with a data set names of its columns.
        num_steps: Length of the training.
        learning_rate: The highest.
        batch_size: Crystals a step; a multiple of the number of devices.
        seed: Of the order, the noise, and the validation part.
        settings: Other fields of the configuration, by dotted name, such as
            `{"data.max_num_atoms": 10}`.
        progress: Where to show how far it has come; True for a bar.

    Returns:
        The model, as `generate` and `score` take it.

    Raises:
        ValueError: If the data cannot be used, a field is unknown or impossible, values do not fit
            the crystals, the model is told no properties, or `workdir` holds another run.

    Example:
        >>> salts = miad_jax.generate(8, chemical_system="Na-Cl")  # doctest: +SKIP
        >>> mine = miad_jax.fine_tune(salts, "runs/salts", num_steps=200)  # doctest: +SKIP
        >>> miad_jax.generate(8, model=mine)  # doctest: +SKIP
    """
    structures = None
    if isinstance(data, str | os.PathLike):
        path = os.fspath(data)
        if isinstance(properties, Mapping):
            raise ValueError(
                f"properties are values, and the data set {path} has its own: give the names of "
                "its columns"
            )
    else:
        path, structures = _NAME_OF_A_LIST, list(data)
        if isinstance(properties, Mapping):
            structures = _with_properties(structures, properties)
    config = load_model(model).config.copy_and_resolve_references()
    told = (*(x for x in config.data.properties if x in COMPUTED), *properties)
    config.data.path, config.data.properties = path, tuple(dict.fromkeys(told))
    config.optimizer.learning_rate = learning_rate
    config.optimizer.final_learning_rate = learning_rate / 10
    config.optimizer.schedule = "cosine"
    config.num_steps, config.batch_size, config.seed = num_steps, batch_size, seed
    config.log_every = max(num_steps // 20, 1)
    config.validate_every = config.checkpoint_every = max(num_steps // 10, 1)
    config.max_minutes = None
    _set_fields(config, settings or {})
    config = validate(config)
    if properties and not hasattr(network_from(config), "properties"):
        raise ValueError(
            f"the model {model} is not told properties: start from one with the network "
            '"transformer", such as model="mp20-transformer"'
        )
    progress, workdir = as_progress(progress), Path(workdir)
    initial = None if Checkpoints(workdir).latest() is not None else load_initial(model)
    training_data = load_training_data(config, structures, progress=progress)
    for line in training_data.remarks:
        progress.say(line)
    with progress.bar("training", num_steps, "steps") as bar:
        train(config, training_data, workdir, initial=initial, bar=bar)
    return load_model(workdir)


def load_initial(name_or_path: str | Path) -> Initial:
    """The parameters of a trained model, and what they are.

    Raises:
        ValueError: If there is no such model.
    """
    model = load_model(name_or_path)
    config = model.config.to_dict()
    config["data"]["path"] = Path(config["data"]["path"]).name
    source = {
        "name": Path(name_or_path).name,
        "step": model.step,
        "data_fingerprint": model.fingerprint,
        "config": config,
    }
    return Initial(model.params, source)


def _with_properties(
    structures: Sequence[Structure], properties: Mapping[str, Sequence[float | None]]
) -> list[Structure]:
    """Copies of crystals that hold their values.

    Raises:
        ValueError: If there is not one value for each crystal.
    """
    for name, values in properties.items():
        if len(values) != len(structures):
            raise ValueError(
                f"{len(structures)} crystals, but {len(values)} values of {name!r}: give one for "
                "each crystal, None where it is not known"
            )
    found = []
    for i, structure in enumerate(structures):
        here = {name: values[i] for name, values in properties.items()}
        own = {name: np.nan if x is None else float(x) for name, x in here.items()}
        found.append(structure.copy(properties={**structure.properties, **own}))
    return found


def _set_fields(config: ConfigDict, settings: Mapping[str, Any]) -> None:
    """Set fields by dotted name.

    Raises:
        ValueError: If there is no such field, or a value is of another type.
    """
    known = flatten_dict(default_config().to_dict(), sep=".")
    for name, value in settings.items():
        if name not in known:
            raise ValueError(f"no field config.{name}{did_you_mean(name, known)}")
        try:
            config.update_from_flattened_dict({name: value})
        except TypeError as error:
            raise ValueError(f"config.{name} cannot be {value!r}: {error}") from error
