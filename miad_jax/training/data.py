"""The data set as training wants it: filtered, divided, of one array size, checked against N_m."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Int
from ml_collections import ConfigDict

from miad_jax.condition import Condition
from miad_jax.crystal import Crystal
from miad_jax.data import Records, available_splits, load_dataset
from miad_jax.data.properties import COMPUTED, computed_property
from miad_jax.padding import resize
from miad_jax.parallel.progress import Progress
from miad_jax.training.split import validation_part

_NUM_EXAMPLES = 3


@dataclass(frozen=True)
class TrainingData:
    """Crystals to train and validate on.

    Attributes:
        train: Packed training crystals.
        validation: Packed validation crystals, of the same array size.
        histogram: Number of training crystals with 0, 1, 2, … atoms.
        fingerprint: Identifies the content of the training split, or of a set without splits.
        num_left_out: Readable crystals that are larger or longer than `config.data` allows.
        remarks: A line each on rows that could not be read, on crystals that were left out, both
            with number, reason and examples, on a validation part that was made, and on what
            there is.
        train_condition: What the network is told of each training crystal: the properties that
            `data.properties` names; None if it names none.
    """

    train: Crystal
    validation: Crystal
    histogram: Int[np.ndarray, " counts"]
    fingerprint: str
    num_left_out: int
    remarks: Sequence[str] = ()
    train_condition: Condition | None = None


def load_training_data(
    config: ConfigDict,
    structures: Sequence[Any] | None = None,
    *,
    progress: Progress | bool = False,
) -> TrainingData:
    """Load what `config.data` names.

    A set without a validation split is divided: see `validation_part`.

    Args:
        config: The configuration.
        structures: Crystals, as `load_dataset` takes them, instead of those of
            `config.data.path`, which then is their name.
        progress: Where to show how many crystals are read.

    Raises:
        ValueError: If a crystal has more atoms than `config.infusion.num_atoms`, by its id; if
            no crystal is left; if a property is neither a numeric column nor can be computed; or if
            the data set cannot be read.
    """
    source = config.data.path if structures is None else structures
    splits = ("train", "val") if "val" in available_splits(source) else ("train",)
    parts, condition, remarks = [], None, []
    num_left_out, fingerprint = 0, ""
    for split in splits:
        crystal, records = load_dataset(source, split, progress=progress)
        name = config.data.path if len(splits) == 1 else f"{split} split of {config.data.path}"
        if records.rejected:
            remarks.append(f"{name}: {records.describe()}")
        keep, said = _kept(config, crystal, records, name)
        remarks += said
        num_left_out += int((~keep).sum())
        parts.append(crystal if keep.all() else crystal[keep])
        if split == "train":
            fingerprint = records.fingerprint
            condition = _condition(config, crystal, records, progress)
            condition = jax.tree.map(lambda x, keep=keep: x[keep], condition)
    if len(parts) == 1:
        whole = parts[0]
        chosen = validation_part(whole, config.data.val_fraction, config.seed)
        parts = [whole[~chosen], whole[chosen]]
        condition = jax.tree.map(lambda x: x[~chosen], condition)
        remarks.append(
            f"{config.data.path} has no validation split: {chosen.sum()} of {len(chosen)} crystals "
            f"are for validation, chosen by config.seed = {config.seed} "
            f"(config.data.val_fraction = {config.data.val_fraction:g})"
        )
    counts = np.asarray(parts[0].mask).sum(-1)
    size = max(int(np.asarray(x.mask).sum(-1).max()) for x in parts)
    train, validation = (resize(x, size) for x in parts)
    remarks.append(
        f"{len(train)} training and {len(validation)} validation crystals of {config.data.path}"
    )
    histogram = np.bincount(counts)
    return TrainingData(train, validation, histogram, fingerprint, num_left_out, remarks, condition)


def _kept(
    config: ConfigDict, crystal: Crystal, records: Records, name: str
) -> tuple[Bool[np.ndarray, " crystals"], list[str]]:
    """Which crystals are neither too large nor too long, and a line on those that are.

    Raises:
        ValueError: If none is left, or one that is has no room in N_m.
    """
    num_atoms = np.asarray(crystal.mask).sum(-1)
    edges = longest_edges_angstrom(crystal)
    most, longest = config.data.max_num_atoms, config.data.max_edge_angstrom
    too_large = np.full(len(num_atoms), False) if most is None else num_atoms > most
    too_long = np.full(len(num_atoms), False) if longest is None else edges > longest
    too_long &= ~too_large
    remarks = []
    for out, what, values, unit in (
        (too_large, f"more than config.data.max_num_atoms = {most} atoms", num_atoms, ""),
        (too_long, f"an edge beyond config.data.max_edge_angstrom = {longest} Å", edges, " Å"),
    ):
        if out.any():
            examples = _examples(out, records, values, unit)
            remarks.append(f"{name}: {out.sum()} crystals are left out with {what}: {examples}")
    keep = ~too_large & ~too_long
    if not keep.any():
        raise ValueError(f"no crystal is left. {'. '.join(remarks)}")
    limit = config.infusion.num_atoms
    if config.infusion.enabled and (no_room := keep & (num_atoms > limit)).any():
        raise ValueError(
            f"{no_room.sum()} crystals have more atoms than config.infusion.num_atoms = {limit}: "
            f"{_examples(no_room, records, num_atoms)}; raise it to {num_atoms[keep].max()} or "
            f"more, or leave them out with config.data.max_num_atoms = {limit}"
        )
    return keep, remarks


def longest_edges_angstrom(crystal: Crystal) -> np.ndarray:
    """The longest edge of each cell [crystals], in Å."""
    return np.linalg.norm(np.asarray(crystal.lattice, np.float64), axis=-1).max(-1)


def _examples(chosen: np.ndarray, records: Records, values: np.ndarray, unit: str = "") -> str:
    """The first of the chosen crystals, each with its value."""
    places = np.flatnonzero(chosen)
    named = [f"{records.ids[i]} ({values[i]:.4g}{unit})" for i in places[:_NUM_EXAMPLES]]
    return ", ".join(named) + ", …" * (len(places) > _NUM_EXAMPLES)


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
