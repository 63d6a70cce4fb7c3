"""The data set as training wants it: filtered, of one array size, and checked against N_m."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from miad_jax.condition import Condition
from miad_jax.crystal import Crystal
from miad_jax.data import Records, load_dataset
from miad_jax.data.properties import COMPUTED, computed_property
from miad_jax.padding import resize
from miad_jax.parallel.progress import Progress


@dataclass(frozen=True)
class TrainingData:
    """Crystals to train and validate on.

    Attributes:
        train: Packed training crystals.
        validation: Packed validation crystals, of the same array size.
        histogram: Number of training crystals with 0, 1, 2, … atoms.
        fingerprint: Identifies the content of the training split.
        num_left_out: Readable crystals left out for being larger than `data.max_num_atoms`.
        train_condition: What the network is told of each training crystal: the properties that
            `data.properties` names; None if it names none.
        rejections: A line for every split with rows that could not be read: how many, and why.
    """

    train: Crystal
    validation: Crystal
    histogram: Int[np.ndarray, " counts"]
    fingerprint: str
    num_left_out: int
    rejections: Sequence[str] = ()
    train_condition: Condition | None = None


def load_training_data(config: ConfigDict, *, progress: Progress | bool = False) -> TrainingData:
    """Load what `config.data` names.

    Raises:
        ValueError: If a crystal has more atoms than `config.infusion.num_atoms`, by its id; if
            no crystal is left; if a property is neither a numeric column nor can be computed; or if
            the data set cannot be read.
    """
    splits, condition, left_out = [], None, 0
    rejections, fingerprint = [], ""
    for split in ("train", "val"):
        crystal, records = load_dataset(config.data.path, split, progress=progress)
        num_atoms = np.asarray(crystal.mask).sum(-1)
        limit = config.data.max_num_atoms
        keep = np.full(num_atoms.shape, True) if limit is None else num_atoms <= limit
        if not keep.any():
            raise ValueError(
                f"no crystal of the {split} split of {config.data.path} has at most {limit} atoms"
            )
        if config.infusion.enabled:
            _check_room(num_atoms, keep, records, config.infusion.num_atoms)
        splits.append(crystal if keep.all() else crystal[keep])
        if split == "train":
            condition = _condition(config, crystal, records, progress)
            condition = jax.tree.map(lambda x, keep=keep: x[keep], condition)
        left_out += int((~keep).sum())
        if records.rejected:
            rejections.append(f"{split} split of {config.data.path}: {records.describe()}")
        fingerprint = fingerprint or records.fingerprint
    counts = np.asarray(splits[0].mask).sum(-1)
    size = max(int(np.asarray(s.mask).sum(-1).max()) for s in splits)
    train, validation = (resize(s, size) for s in splits)
    histogram = np.bincount(counts)
    return TrainingData(train, validation, histogram, fingerprint, left_out, rejections, condition)


def _condition(
    config: ConfigDict, crystal: Crystal, records: Records, progress: Progress | bool
) -> Condition | None:
    """What `data.properties` names, NaN where a crystal has no value: columns, else computed."""
    numeric = {name: x for name, x in records.columns.items() if x.dtype.kind in "fiu"}
    properties: dict[str, Any] = {}
    for name in tuple(config.data.properties):
        if name in numeric:
            values = numeric[name]
        elif name in COMPUTED:
            values = computed_property(
                name, crystal, fingerprint=records.fingerprint, progress=progress
            )
        else:
            raise ValueError(
                f"config.data.properties names {name!r}; numeric columns of the train split of "
                f"{config.data.path}: {', '.join(numeric) or 'none'}; computed of the structure: "
                f"{', '.join(COMPUTED)}"
            )
        properties[name] = values.astype(np.float32)
    return Condition(properties=properties) if properties else None


def _check_room(
    num_atoms: Int[np.ndarray, " crystals"], keep: np.ndarray, records: Records, limit: int
) -> None:
    too_large = np.flatnonzero(keep & (num_atoms > limit))
    if too_large.size:
        named = ", ".join(f"{records.ids[i]} ({num_atoms[i]})" for i in too_large[:3])
        raise ValueError(
            f"{too_large.size} crystals have more atoms than config.infusion.num_atoms = {limit}: "
            f"{named}{', …' if too_large.size > 3 else ''}; raise it to {num_atoms[keep].max()} or "
            f"more, or leave them out with config.data.max_num_atoms = {limit}"
        )
