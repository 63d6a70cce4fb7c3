"""The data set as training wants it: filtered, of one array size, and checked against N_m."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from miad_jax.crystal import Crystal, resize
from miad_jax.data import Records, load_dataset


@dataclass(frozen=True)
class TrainingData:
    """Crystals to train and validate on.

    Attributes:
        train: Packed training crystals.
        validation: Packed validation crystals, of the same array size.
        histogram: Number of training crystals with 0, 1, 2, … atoms.
        fingerprint: Identifies the content of the training split.
        num_left_out: Readable crystals left out for being larger than `data.max_num_atoms`.
        rejections: A line for every split with rows that could not be read: how many, and why.
    """

    train: Crystal
    validation: Crystal
    histogram: Int[np.ndarray, " counts"]
    fingerprint: str
    num_left_out: int
    rejections: Sequence[str]


def load_training_data(config: ConfigDict, *, progress: bool = False) -> TrainingData:
    """Load what `config.data` names.

    Raises:
        ValueError: If a crystal has more atoms than `config.infusion.num_atoms`, by its id; if
            no crystal is left; or if the data set cannot be read.
    """
    splits, left_out = [], 0
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
        splits.append(crystal[keep])
        left_out += int((~keep).sum())
        if records.rejected:
            rejections.append(f"{split} split of {config.data.path}: {records.describe()}")
        fingerprint = fingerprint or records.fingerprint
    counts = np.asarray(splits[0].mask).sum(-1)
    size = max(int(np.asarray(s.mask).sum(-1).max()) for s in splits)
    train, validation = (resize(s, size) for s in splits)
    return TrainingData(train, validation, np.bincount(counts), fingerprint, left_out, rejections)


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
