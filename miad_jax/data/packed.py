"""The packed file: a set of crystals and its records as one `.npz` that loads in an instant.

The cache, the embedded dataset and a set that is carried to another machine are all such
files. Atoms are stored end to end without padding:

    lattice        float32 [n, 3, 3]   Å
    frac_coords    float32 [atoms, 3]
    atom_types     uint8   [atoms]
    num_atoms      uint8   [n]         wider where a crystal has more than 255 atoms
    ids            unicode [n]
    column.NAME    any     [n]         one array a column of the records
    rejected       unicode [m, 2]      id and reason
    fingerprint    unicode []
    format_version int     []
    sha256         unicode []          of all that; files of version 0.1 have none

Nothing in it is pickled, and equal data gives equal bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from miad_jax.crystal import Crystal
from miad_jax.storage.files import write_atomically
from miad_jax.storage.hashed import hashed_npz, read_npz

FORMAT_VERSION = 1
_COLUMN = "column."
_DAMAGE = (KeyError, TypeError, ValueError)


@dataclass(frozen=True)
class Records:
    """What a dataset says of its crystals beyond their structure.

    Attributes:
        ids: A name for each crystal, in the crystals' order.
        columns: Other columns, each [n]: numbers as float64 (NaN where empty), or text.
        rejected: Id and reason of every row that could not be used.
        fingerprint: Hash of the source's content and of how it was packed; empty if unknown.
    """

    ids: Sequence[str]
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    rejected: Sequence[tuple[str, str]] = ()
    fingerprint: str = ""

    def __len__(self) -> int:
        """Number of crystals, rejected rows not counted."""
        return len(self.ids)

    def select(self, indices: np.ndarray) -> Records:
        """The records of some crystals; `rejected` and `fingerprint` stay those of the set.

        Args:
            indices: Integers [k] or booleans [n].
        """
        chosen = np.arange(len(self))[indices]
        return Records(
            ids=[self.ids[i] for i in chosen],
            columns={name: column[chosen] for name, column in self.columns.items()},
            rejected=self.rejected,
            fingerprint=self.fingerprint,
        )

    def describe(self, num_examples: int = 3) -> str:
        """Crystals and rejected rows in one line, with the first reasons."""
        line = f"{len(self)} crystals, {len(self.rejected)} rows rejected"
        examples = [f"{name} ({reason})" for name, reason in self.rejected[:num_examples]]
        more = ["…"] if len(self.rejected) > num_examples else []
        return f"{line}: {'; '.join(examples + more)}" if examples else line


def pad(
    lattice: np.ndarray,
    frac_coords: np.ndarray,
    atom_types: np.ndarray,
    num_atoms: np.ndarray,
    size: int | None = None,
) -> Crystal:
    """Give crystals whose atoms lie end to end equal array sizes: atoms first, padding after.

    Args:
        lattice: Cell vectors [n, 3, 3] in Å.
        frac_coords: Fractional coordinates [atoms, 3] in [0, 1).
        atom_types: Atomic numbers [atoms].
        num_atoms: Atoms of each crystal [n].
        size: Atom slots of the result; the largest crystal's number of atoms when None.

    Returns:
        A numpy-backed Crystal [n] with float32 and int32 arrays.

    Raises:
        ValueError: If a crystal has more than `size` atoms.
    """
    num_atoms = np.asarray(num_atoms, np.int64)
    largest = int(num_atoms.max(initial=0))
    if size is None:
        size = largest
    if largest > size:
        raise ValueError(
            f"crystal {int(num_atoms.argmax())} has {largest} atoms, more than size={size}: "
            f"raise size to {largest} or leave it out"
        )
    mask = np.arange(size) < num_atoms[:, None]
    padded_coords = np.zeros((*mask.shape, 3), np.float32)
    padded_coords[mask] = frac_coords
    padded_types = np.zeros(mask.shape, np.int32)
    padded_types[mask] = atom_types
    arrays: tuple[Any, ...] = (np.asarray(lattice, np.float32), padded_coords, padded_types, mask)
    return Crystal(*arrays)


def save_packed(path: str | os.PathLike[str], crystal: Crystal, records: Records) -> None:
    """Write a batch of crystals and its records, whole or not at all.

    The file is written beside its place and then moved there, so that a reader, or a second
    writer, never meets half a file. Missing folders are made.

    Args:
        path: Where to write; an existing file is replaced.
        crystal: A batch [n] of crystals. Padding is dropped, mirage atoms are kept.
        records: Their records, of the same length.

    Raises:
        ValueError: If the batch is not one-dimensional, or the records do not fit it.
    """
    mask = np.asarray(crystal.mask)
    if mask.ndim != 2:
        raise ValueError(
            f"save_packed takes a batch of crystals with mask [n, atoms]; this mask has shape "
            f"{list(mask.shape)}: reshape the batch to one dimension"
        )
    lengths = {"ids": len(records), **{name: len(x) for name, x in records.columns.items()}}
    for name, length in lengths.items():
        if length != len(mask):
            raise ValueError(
                f"{len(mask)} crystals but {length} values in {name!r}: every column of the "
                f"records needs one value for each crystal"
            )
    num_atoms = mask.sum(-1)
    arrays = {
        "format_version": np.array(FORMAT_VERSION),
        "fingerprint": np.array(records.fingerprint, np.str_),
        "lattice": np.asarray(crystal.lattice, np.float32),
        "frac_coords": np.asarray(crystal.frac_coords, np.float32)[mask],
        "atom_types": np.asarray(crystal.atom_types)[mask].astype(np.uint8),
        "num_atoms": num_atoms.astype(np.min_scalar_type(num_atoms.max(initial=0))),
        "ids": np.array(records.ids, np.str_),
        "rejected": np.array(list(records.rejected), np.str_).reshape(-1, 2),
        **{_COLUMN + name: np.asarray(x) for name, x in records.columns.items()},
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, hashed_npz(arrays))


def load_packed(path: str | os.PathLike[str], size: int | None = None) -> tuple[Crystal, Records]:
    """Read a packed file.

    Args:
        path: A file that `save_packed` wrote.
        size: Atom slots of the result; the largest crystal's number of atoms when None.

    Returns:
        The crystals [n], numpy-backed, and their records.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a packed file, is damaged, or a crystal has more than `size`
            atoms.
    """
    try:
        arrays = read_npz(path)
        version = int(arrays["format_version"])
        if version != FORMAT_VERSION:
            raise ValueError(f"its format is version {version}, not {FORMAT_VERSION}")
        num_atoms = arrays["num_atoms"].astype(np.int64)
        _check_lengths(arrays, len(num_atoms), int(num_atoms.sum()))
        records = Records(
            ids=arrays["ids"].tolist(),
            columns={
                name.removeprefix(_COLUMN): array
                for name, array in arrays.items()
                if name.startswith(_COLUMN)
            },
            rejected=[(name, reason) for name, reason in arrays["rejected"].tolist()],
            fingerprint=str(arrays["fingerprint"]),
        )
    except _DAMAGE as error:
        raise ValueError(
            f"{os.fspath(path)} is not a readable packed dataset ({error}): make it again from "
            f"its source, with load_dataset or save_packed"
        ) from error
    atoms = (arrays["frac_coords"], arrays["atom_types"], num_atoms)
    return pad(arrays["lattice"], *atoms, size), records


def _check_lengths(arrays: Mapping[str, np.ndarray], num_crystals: int, num_atoms: int) -> None:
    """Refuse arrays that do not describe the same crystals and atoms."""
    shapes = {
        "lattice": (num_crystals, 3, 3),
        "frac_coords": (num_atoms, 3),
        "atom_types": (num_atoms,),
        "ids": (num_crystals,),
        **{name: (num_crystals,) for name in arrays if name.startswith(_COLUMN)},
    }
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ValueError(
                f"{name} has shape {list(arrays[name].shape)}, num_atoms asks {list(shape)}"
            )
