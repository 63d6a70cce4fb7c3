"""The data set that samples are measured against: what is known, to be covered, and the hull."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from miad_jax.crystal import Crystal
from miad_jax.data import (
    Records,
    available_splits,
    load_dataset,
    split_fingerprint,
    to_structures,
)
from miad_jax.evaluation.labels import numbers
from miad_jax.parallel.executor import Executor
from miad_jax.parallel.progress import Progress

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

FORMATION_ENERGY = "formation_energy_per_atom"
"""Column of a data set with formation energies in eV/atom."""


@dataclass(frozen=True)
class Reference:
    """A data set that samples are measured against.

    Attributes:
        name: Its name or path.
        train: Crystals that count as known.
        train_records: Their records.
        test: Crystals to be covered; None if the set has no test split, or it was not loaded.
        crystals: Those of all splits that were loaded.
        formation_energies_ev_per_atom: Of the same splits; None if one of them has none.
        fingerprint: Identifies the content of all splits that there are.
        contents: Crystals and rejected rows of each split that was loaded, for people.
    """

    name: str
    train: Crystal
    train_records: Records
    test: Crystal | None
    crystals: Sequence[Crystal]
    formation_energies_ev_per_atom: Float[np.ndarray, " all"] | None
    fingerprint: str
    contents: Mapping[str, str] = field(default_factory=dict)

    @property
    def histogram(self) -> Int[np.ndarray, " counts"]:
        """Number of training crystals with 0, 1, 2, … atoms."""
        return np.bincount(np.asarray(self.train.mask).sum(-1))

    def required_formation_energies(self) -> Float[np.ndarray, " all"]:
        """Formation energies of all splits, in eV/atom.

        Raises:
            ValueError: If a split has none.
        """
        if self.formation_energies_ev_per_atom is None:
            raise ValueError(
                f"{self.name} has no column {FORMATION_ENERGY} in all its splits, so there is no "
                "hull: give --hull, a JSON of computed entries or a table, or --calculator=none"
            )
        return self.formation_energies_ev_per_atom

    def compositions(self) -> list[Composition]:
        """Of all splits, in the order of the formation energies."""
        return [x for crystals in self.crystals for x in compositions(crystals)]

    def structures(self, indices: Sequence[int]) -> list[Structure]:
        """Some structures of all splits together."""
        bounds = np.cumsum([0, *(len(crystals) for crystals in self.crystals)])
        found = []
        for i in indices:
            part = int(np.searchsorted(bounds, i, "right")) - 1
            found += to_structures([self.crystals[part][int(i - bounds[part])]])
        return found


def load_reference(
    name_or_path: str | os.PathLike[str] | Sequence[Structure],
    *,
    splits: Collection[str] | None = None,
    executor: Executor | None = None,
    progress: Progress | bool = False,
) -> Reference:
    """Load a data set; it needs a training split only.

    Args:
        name_or_path: As `load_dataset` takes it; a list of crystals is a training split.
        splits: Those to be loaded, as far as they are there; None for all. The training split
            always is. The reference's fingerprint does not depend on it.
        executor: Where crystals are read that the cache does not hold.
        progress: Where to show how many crystals are read.

    Raises:
        ValueError: If the data set is unknown or cannot be read, or a formation energy is no
            number.
    """
    available = dict.fromkeys(("train", *available_splits(name_or_path)))
    loaded = {
        split: load_dataset(name_or_path, split, executor=executor, progress=progress)
        for split in available
        if split == "train" or splits is None or split in splits
    }
    train, records = loaded["train"]
    if isinstance(name_or_path, str | os.PathLike):
        name = str(name_or_path)
        fingerprints = [split_fingerprint(name_or_path, split) for split in available]
    else:
        name, fingerprints = f"{len(name_or_path)} structures", [records.fingerprint]
    digest = hashlib.sha256(" ".join(fingerprints).encode())
    energies = None
    if all(FORMATION_ENERGY in found.columns for _, found in loaded.values()):
        energies = np.concatenate(
            [
                numbers(x.columns[FORMATION_ENERGY], x.ids, FORMATION_ENERGY)
                for _, x in loaded.values()
            ]
        )
    return Reference(
        name=name,
        train=train,
        train_records=records,
        test=loaded["test"][0] if "test" in loaded else None,
        crystals=[crystals for crystals, _ in loaded.values()],
        formation_energies_ev_per_atom=energies,
        fingerprint=digest.hexdigest(),
        contents={split: x.describe() for split, (_, x) in loaded.items()},
    )


def compositions(crystals: Crystal) -> list[Composition]:
    """The composition of each packed crystal."""
    from pymatgen.core import Composition, Element

    symbols = ["", *(Element.from_Z(z).symbol for z in range(1, 100))]
    found = []
    for types, mask in zip(np.asarray(crystals.atom_types), np.asarray(crystals.mask), strict=True):
        numbers, counts = np.unique(types[mask], return_counts=True)
        found.append(
            Composition({symbols[z]: int(n) for z, n in zip(numbers, counts, strict=True)})
        )
    return found
