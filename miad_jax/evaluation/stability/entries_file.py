"""Computed entries from a JSON file, plain or gzipped; nothing in it is executed.

Entries are found wherever they are in it, as pymatgen writes them (`ComputedEntry`,
`ComputedStructureEntry` or `PDEntry`), in a list, in a table's column or by name. An entry's energy
is its `energy` and its `correction`, as they stand.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Composition

_PICKLE_SUFFIXES = {".pkl", ".pickle", ".p", ".joblib"}
_GZIP_MAGIC, _PICKLE_MAGIC = b"\x1f\x8b", b"\x80"


@dataclass(frozen=True)
class Entry:
    """What a hull needs of a computed entry.

    Attributes:
        composition: What was computed.
        energy_ev_per_atom: Its energy with its correction.
        is_corrected: Whether there is a correction other than 0.
    """

    composition: Composition
    energy_ev_per_atom: float
    is_corrected: bool


@dataclass(frozen=True)
class EntriesFile:
    """What a file of entries holds.

    Attributes:
        entries: The entries.
        database_version: The database that they are from, if the file says it; else empty.
    """

    entries: Sequence[Entry]
    database_version: str = ""


def read_entries(path: Path) -> EntriesFile:
    """Read all entries of a file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a pickle, or not JSON, or holds no entry or one without a composition
            or a finite energy.
    """
    from pymatgen.core import Composition

    content = _read_json(path)
    found = list(_collect(content))
    if not found or not all(np.isfinite(entry.energy_ev) for entry in found):
        raise ValueError(
            f"{path} holds {len(found)} computed entries, or some of no finite energy: write a "
            "list of ComputedEntries with `monty.serialization.dumpfn(entries, 'entries.json.gz')`"
        )
    entries = []
    for raw in found:
        composition = Composition(raw.composition)
        if not composition:
            raise ValueError(f"{path} holds an entry without a composition: leave it out")
        energy = raw.energy_ev / composition.num_atoms
        entries.append(Entry(composition, energy, raw.is_corrected))
    version = content.get("database_version", "") if isinstance(content, dict) else ""
    return EntriesFile(entries, str(version))


@dataclass(frozen=True)
class _RawEntry:
    """An entry as it is written: its energy is that of the cell, with its correction."""

    composition: dict[str, float] | str
    energy_ev: float
    is_corrected: bool


def _read_json(path: Path) -> Any:
    """What a JSON file holds, entries reduced; a pickle is refused unread."""
    with path.open("rb") as file:
        content = file.read(len(_GZIP_MAGIC))
        is_gzipped = content == _GZIP_MAGIC
        if not is_gzipped:
            _refuse_pickle(path, content)
        content += file.read()
    try:
        if is_gzipped:
            content = gzip.decompress(content)
            _refuse_pickle(path, content)
        return json.loads(content, object_hook=_shrink)
    except (EOFError, OSError, UnicodeDecodeError, json.JSONDecodeError, zlib.error) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): give a .json or .json.gz of ComputedEntries"
        ) from error


def _refuse_pickle(path: Path, beginning: bytes) -> None:
    suffixes = {suffix.lower() for suffix in path.suffixes}
    if beginning.startswith(_PICKLE_MAGIC) or _PICKLE_SUFFIXES & suffixes:
        raise ValueError(
            f"{path} is a pickle, that is, code that runs when it is read. If you trust it, read "
            "it once yourself and write its entries as JSON, `monty.serialization.dumpfn("
            "diagram.all_entries, 'entries.json.gz')`, then give that file"
        )


def _shrink(value: dict[str, Any]) -> dict[str, Any] | _RawEntry:
    """Reduce an entry to what a hull needs, while the rest of a large file is still read."""
    energy, composition = value.get("energy"), value.get("composition")
    if not isinstance(energy, int | float) or not isinstance(composition, dict | str):
        return value
    correction = value.get("correction") or 0.0
    return _RawEntry(composition, energy + correction, correction != 0)


def _collect(value: Any) -> Iterator[_RawEntry]:
    """All entries within a value that JSON gave."""
    if isinstance(value, _RawEntry):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _collect(part)
