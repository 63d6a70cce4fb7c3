"""Read raw crystals from files: CSV with a `cif` column, CIFs and POSCARs, extxyz.

A reader yields one `Row` a crystal and looks no further than it must: whether a row holds a
crystal is found when it is packed.
"""

from __future__ import annotations

import csv
import itertools
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from miad_jax.data.archive import read_zip
from miad_jax.data.extxyz import name_and_columns, not_periodic, read_extxyz
from miad_jax.data.folder import read_crystal_file, read_folder
from miad_jax.data.row import Row, is_crystal_file
from miad_jax.data.text import MAX_CRYSTAL_BYTES, TooLarge, printable, table_lines

SPLITS = ("train", "val", "test")
"""The parts of a dataset; the `split` column of a packed file holds their indices."""

_SURPLUS = "\0"
"""The column of fields that the header has no name for."""

_WITHIN_A_CIF = ("_cell_length_", "_atom_site_")
_UNREADABLE = (OSError, EOFError, zlib.error)


def read_rows(path: str | os.PathLike[str]) -> Iterator[Row]:
    """Read whatever holds crystals: a file of `READERS`, or a folder of CIFs and POSCARs.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If the kind is unknown, the file cannot be read, or holds no crystal.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: give a folder or a file of crystals")
    reader = READERS.get(suffix(path))
    if path.is_dir():
        reader = read_folder
    elif is_crystal_file(path):
        reader = read_crystal_file
    if reader is None:
        raise ValueError(
            f"{path} ends in {path.suffix or 'no suffix'!r}; allowed are a folder of CIFs or "
            f"POSCARs, a POSCAR, and files that end in {', '.join(READERS)}"
        )
    empty = True
    for row in reader(path):
        empty = False
        yield replace(row, id=printable(row.id))
    if empty:
        raise ValueError(f"{path} holds no crystal: give a file with at least one")


def crystal_list_rows(crystals: Iterable[Any]) -> Iterator[Row]:
    """A row of each Structure or Atoms; the id is its `material_id`, else `id`, else its place.

    Columns are the single values of a Structure's `properties`, or of the `info` of Atoms. What is
    not periodic in all directions is no crystal.
    """
    if hasattr(crystals, "lattice") or hasattr(crystals, "cell"):
        crystals = [crystals]  # one crystal, which iterates over its sites
    for place, crystal in enumerate(crystals):
        known = getattr(crystal, "properties", None) or getattr(crystal, "info", None) or {}
        name, columns = name_and_columns(known, str(place))
        yield Row(name, crystal, columns, not_periodic(crystal))


def split_file(folder: Path, split: str) -> Path | None:
    """The file, or the folder of crystals, that holds a split in a folder, if it is there."""
    candidates = (folder / f"{split}{ending}" for ending in (*READERS, ""))
    return next((file for file in candidates if file.exists()), None)


def suffix(path: Path) -> str:
    """The ending that names the kind of a file, lower case: `.csv.gz` is one ending."""
    last = path.suffix.lower()
    return Path(path.stem).suffix.lower() + last if last == ".gz" else last


def read_csv(path: Path) -> Iterator[Row]:
    """Read a CSV with a `cif` column, plain or gzipped.

    The id is the column `material_id`, else `id`, else the number of the row, from 0. A
    column without a name is a row index and is left out, and so is other CIF text (`cif.*`).

    Raises:
        ValueError: If the file cannot be read, is empty, has no `cif` column or two columns of
            one name.
    """
    limit = csv.field_size_limit(MAX_CRYSTAL_BYTES)
    number = -1
    try:
        lines = itertools.dropwhile(lambda line: not line.strip(), table_lines(path))
        table = csv.DictReader(lines, restkey=_SURPLUS, strict=True)
        names = list(table.fieldnames or ())
        if not names:
            raise ValueError(f"{path} is empty: it needs a header line with a column 'cif'")
        if "cif" not in names:
            raise ValueError(
                f"{path} has no column 'cif'; its columns are {_shown(names)}: "
                f"name the column that holds the CIF text 'cif'"
            )
        if twice := {x for x in names if x and names.count(x) > 1}:
            raise ValueError(f"{path} has two columns {_shown(sorted(twice))}: rename or drop one")
        id_name = next((name for name in ("material_id", "id") if name in names), "")
        kept = [x for x in names if x and x not in ("cif", id_name) and x[:4] != "cif."]
        for number, fields in enumerate(table):
            if _SURPLUS in fields:
                raise ValueError(
                    f"{path} has a row {number + 1}, up to line {table.line_num}, with more fields "
                    f"than the header: a quote may not be closed before it"
                )
            if str(fields[names[0]]).startswith(_WITHIN_A_CIF):
                raise ValueError(
                    f"{path} has a row {number + 1} that begins with {fields[names[0]][:20]!r}, a "
                    "line within a CIF: put the text of each CIF into double quotes"
                )
            yield Row(
                id=(fields.get(id_name) or str(number)) if id_name else str(number),
                source=fields["cif"] or "",
                columns={name: fields[name] or "" for name in kept},
            )
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not {error.encoding} text (byte 0x{error.object[error.start]:02x}): save "
            f"it as UTF-8"
        ) from error
    except TooLarge as error:
        raise ValueError(f"{path} {error}: divide it") from error
    except csv.Error as error:
        raise ValueError(
            f"{path} cannot be read as a table (row {number + 2}: {error}): a quote may not be "
            "closed, or the file is cut short"
        ) from error
    except _UNREADABLE as error:
        raise ValueError(
            f"{path} cannot be read as a table ({error}): it may be cut short; fetch it again"
        ) from error
    finally:
        csv.field_size_limit(limit)


def _shown(names: list[str]) -> str:
    """Some names, in quotes."""
    return ", ".join(repr(x[:80]) for x in names[:20]) + (", …" if len(names) > 20 else "")


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": read_csv,
    ".csv.gz": read_csv,
    ".zip": read_zip,
    **dict.fromkeys((".cif", ".mcif", ".cif.gz", ".mcif.gz"), read_crystal_file),
    **dict.fromkeys((".vasp", ".poscar"), read_crystal_file),
    **dict.fromkeys((".extxyz", ".xyz", ".extxyz.gz", ".xyz.gz"), read_extxyz),
}
"""The kinds of file that hold crystals, by the ending of their name."""
