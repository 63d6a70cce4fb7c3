"""Computed entries from a JSON file, plain or gzipped; nothing in it is executed.

Entries are found wherever they are in it, as pymatgen writes them (`ComputedEntry`,
`ComputedStructureEntry` or `PDEntry`), in a list, in a table's column or by name. An entry's energy
is its `energy` and its `energy_adjustments`, else its `correction`, as they stand; charges in its
composition say nothing. Entries of other classes, whose energies are of another kind, such as
Gibbs energies, are refused.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miad_jax.evaluation.stability.hull import symbols_of
from miad_jax.storage.gzip_files import unpacked

if TYPE_CHECKING:
    from pymatgen.core import Composition

_PICKLE_SUFFIXES = {".pkl", ".pickle", ".p", ".joblib"}
_CLASSES = ("", "ComputedEntry", "ComputedStructureEntry", "PDEntry")
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
    content = _read_json(path)
    found = list(_collect(content))
    if not found:
        raise ValueError(
            f"{path} holds 0 computed entries: write a list of ComputedEntries with "
            "`monty.serialization.dumpfn(entries, 'entries.json.gz')`"
        )
    entries = [_entry(path, raw) for raw in found]
    version = content.get("database_version", "") if isinstance(content, dict) else ""
    return EntriesFile(entries, str(version))


def _entry(path: Path, raw: _RawEntry) -> Entry:
    """What a hull needs of an entry; charges of its elements are left out."""
    from pymatgen.core import Composition, Element

    try:
        if raw.kind not in _CLASSES:
            raise ValueError(f"a {raw.kind} is of another kind of energy")
        if isinstance(raw.energy_ev, bool) or isinstance(raw.correction_ev, bool):
            raise TypeError("an energy is true or false")
        correction = _adjustment(raw.adjustments) if raw.adjustments else float(raw.correction_ev)
        energy = float(raw.energy_ev) + correction
        if not math.isfinite(energy):
            raise ValueError(f"{energy} eV, no finite energy")
        composition = Composition(raw.composition)
        if not composition or not math.isfinite(composition.num_atoms):
            raise ValueError("no composition")
        if not all(Element.is_valid_symbol(symbol) for symbol in symbols_of(composition)):
            raise ValueError("a composition of what is no element")
        composition = composition.element_composition
        return Entry(composition, energy / composition.num_atoms, correction != 0)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} holds an entry of {str(raw.composition)[:80]} that cannot be used "
            f"({' '.join(str(error).split())[:120]}): correct it or leave it out"
        ) from error


def _adjustment(found: Any) -> float:
    """The sum of an entry's energy adjustments, in eV, as pymatgen writes them."""
    return math.fsum(
        float(x["value"])
        if "value" in x
        else float(x["adj_per_deg"]) * float(x["temp"]) * float(x["n_atoms"])
        if "adj_per_deg" in x
        else float(x["adj_per_atom"]) * float(x["n_atoms"])
        for x in found
    )


@dataclass(frozen=True)
class _RawEntry:
    """An entry as it is written, of a whole cell; nothing of it is checked."""

    composition: Any
    energy_ev: Any
    correction_ev: Any
    adjustments: Any
    kind: str


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
            content = unpacked(content)
            _refuse_pickle(path, content)
        return json.loads(content, object_hook=_shrink)
    except (EOFError, OSError, RecursionError, ValueError, zlib.error) as error:
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
    """Reduce an entry to what a hull needs, while the rest of a large file is still read.

    An energy that is no number makes an entry only of what says that it is one.
    """
    energy, composition = value.get("energy"), value.get("composition")
    if not isinstance(composition, dict | str) or "energy" not in value:
        return value
    is_number = isinstance(energy, int | float) and not isinstance(energy, bool)
    if not is_number and "correction" not in value and "@class" not in value:
        return value
    correction = value.get("correction")
    return _RawEntry(
        composition,
        energy,
        0.0 if correction is None else correction,
        value.get("energy_adjustments"),
        str(value.get("@class", "")),
    )


def _collect(content: Any) -> Iterator[_RawEntry]:
    """All entries within a value that JSON gave, in order."""
    todo = [content]
    while todo:
        value = todo.pop()
        if isinstance(value, _RawEntry):
            yield value
        elif isinstance(value, dict | list):
            todo.extend(reversed(list(value.values()) if isinstance(value, dict) else value))
