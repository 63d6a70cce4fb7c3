"""The packed file: a set of crystals and its records as one `.npz` that loads in an instant.

The cache, the embedded dataset and a set that is carried to another machine are all such
files. Atoms are stored end to end without padding:

    lattice        float32 [n, 3, 3]   Å
    frac_coords    float32 [atoms, 3]
    atom_types     uint8   [atoms]
    num_atoms      uint8   [n]         wider where a crystal has more than 255 atoms
    ids            text    [n]
    column.NAME    any     [n]         one array a column of the records, or text
    rejected       text    [2 m]       id, reason, id, reason, …
    fingerprint    unicode []
    format_version int     []
    sha256         unicode []          of all that; files of version 0.1 have none

Text lies end to end too: uint8 [bytes], which is UTF-8, and beside it int64 [n] under `ends.NAME`,
where each value ends. Format 1, which is read as well, has arrays of unicode instead, and
`rejected` of shape [m, 2]. Nothing in it is pickled, and equal data gives equal bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from miad_jax.crystal import Crystal
from miad_jax.storage.files import write_atomically
from miad_jax.storage.hashed import hashed_npz, read_npz

FORMAT_VERSION = 2
READABLE_VERSIONS = (2, 1)
TEXT = np.dtypes.StringDType()
"""The type of columns of text: a long value takes no more room in the others."""

_COLUMN, _ENDS = "column.", "ends."
_DAMAGE = (KeyError, TypeError, ValueError)


@dataclass(frozen=True)
class Records:
    """What a dataset says of its crystals beyond their structure.

    Attributes:
        ids: A name for each crystal, in the crystals' order.
        columns: Other columns, each [n]: numbers as float64 (NaN where empty), or text of
            NumPy's StringDType.
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
        line = f"{len(self)} crystals, {len(self.rejected)} rejected"
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
        **_written("ids", records.ids),
        **_written("rejected", [text for pair in records.rejected for text in pair]),
    }
    for name, column in records.columns.items():
        column = np.asarray(column)
        is_text = column.dtype.kind in "UTO"
        arrays |= _written(_COLUMN + name, column) if is_text else {_COLUMN + name: column}
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
        if version not in READABLE_VERSIONS:
            raise ValueError(f"its format is version {version}, not {FORMAT_VERSION}")
        arrays = _with_text(arrays)
        num_atoms = arrays["num_atoms"].astype(np.int64)
        _check_lengths(arrays, len(num_atoms), int(num_atoms.sum()))
        records = Records(
            ids=arrays["ids"].tolist(),
            columns={
                name.removeprefix(_COLUMN): array
                for name, array in arrays.items()
                if name.startswith(_COLUMN)
            },
            rejected=[*zip(*[iter(arrays["rejected"].ravel().tolist())] * 2, strict=True)],
            fingerprint=str(arrays["fingerprint"]),
        )
    except _DAMAGE as error:
        raise ValueError(
            f"{os.fspath(path)} is not a readable packed dataset ({error}): make it again from "
            f"its source, with load_dataset or save_packed"
        ) from error
    atoms = (arrays["frac_coords"], arrays["atom_types"], num_atoms)
    return pad(arrays["lattice"], *atoms, size), records


def _written(name: str, values: Iterable[str]) -> dict[str, np.ndarray]:
    """Text as it lies in a file."""
    texts = [str(value).encode() for value in values]
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    return {name: np.frombuffer(b"".join(texts), np.uint8), _ENDS + name: ends}


def _with_text(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a file, of either format, with text as text.

    Raises:
        ValueError: If text does not end where it should.
    """
    found = {}
    for name, array in arrays.items():
        if name.startswith(_ENDS):
            continue
        ends = arrays.get(_ENDS + name)
        if ends is not None:
            bounds, content = [0, *ends.tolist()], array.tobytes()
            if bounds[-1] != len(content) or bounds != sorted(bounds):
                raise ValueError(f"the texts of {name} do not end where they should")
            texts = [content[a:b].decode() for a, b in pairwise(bounds)]
            array = np.array(texts, TEXT)
        elif array.dtype.kind == "U" and array.ndim:
            array = array.astype(TEXT)
        found[name] = array
    return found


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
