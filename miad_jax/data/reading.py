"""Read raw crystals from files: CSV with a `cif` column, CIFs and POSCARs, extxyz.

A reader yields one `Row` a crystal and looks no further than it must: whether a row holds a
crystal is found when it is packed.
"""

from __future__ import annotations

import csv
import gzip
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from miad_jax.data.standard import Source

SPLITS = ("train", "val", "test")
"""The parts of a dataset; the `split` column of a packed file holds their indices."""

POSCAR_ENDINGS = (".vasp", ".poscar")

_LARGEST_FIELD = 2**31 - 1
_UNREADABLE = (csv.Error, gzip.BadGzipFile, EOFError, UnicodeDecodeError, zlib.error)


@dataclass(frozen=True)
class Row:
    """One crystal as it was found.

    Attributes:
        id: Its name in the source.
        source: CIF text, the text of a POSCAR with "poscar", a pymatgen Structure or an ASE Atoms.
        columns: What else the source says of it, as text.
    """

    id: str
    source: Source
    columns: Mapping[str, str] = field(default_factory=dict)


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
    elif is_poscar(path):
        reader = read_poscar
    if reader is None:
        raise ValueError(
            f"{path} ends in {path.suffix or 'no suffix'!r}; allowed are a folder of CIFs or "
            f"POSCARs, a POSCAR, and files that end in {', '.join(READERS)}"
        )
    empty = True
    for row in reader(path):
        empty = False
        yield row
    if empty:
        raise ValueError(f"{path} holds no crystal: give a file with at least one")


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
        ValueError: If the file cannot be read, is empty or has no `cif` column.
    """
    opener = gzip.open if suffix(path) == ".csv.gz" else open
    limit = csv.field_size_limit(_LARGEST_FIELD)
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            names = list(table.fieldnames or ())
            if not names:
                raise ValueError(f"{path} is empty: it needs a header line with a column 'cif'")
            if "cif" not in names:
                raise ValueError(
                    f"{path} has no column 'cif'; its columns are {', '.join(map(repr, names))}: "
                    f"name the column that holds the CIF text 'cif'"
                )
            id_name = next((name for name in ("material_id", "id") if name in names), "")
            kept = [x for x in names if x and x not in ("cif", id_name) and x[:4] != "cif."]
            for number, fields in enumerate(table):
                yield Row(
                    id=(fields.get(id_name) or str(number)) if id_name else str(number),
                    source=fields["cif"] or "",
                    columns={name: fields[name] or "" for name in kept},
                )
    except _UNREADABLE as error:
        raise ValueError(
            f"{path} cannot be read as a table ({error}): it may be cut short; fetch it again"
        ) from error
    finally:
        csv.field_size_limit(limit)


def is_cif(path: Path) -> bool:
    """Whether a name is that of a CIF."""
    return path.suffix.lower() == ".cif"


def is_poscar(path: Path) -> bool:
    """Whether a name is that of a POSCAR: POSCAR…, CONTCAR…, ….vasp or ….poscar."""
    if path.suffix.lower() in POSCAR_ENDINGS:
        return True
    return path.name.upper().startswith(("POSCAR", "CONTCAR")) and suffix(path) not in READERS


def crystal_files(folder: Path) -> list[Path]:
    """The CIFs and POSCARs in a folder and the folders below it, sorted by name."""
    return sorted(x for x in folder.rglob("*") if (is_cif(x) or is_poscar(x)) and x.is_file())


def read_folder(path: Path) -> Iterator[Row]:
    """Read the CIFs and POSCARs of a folder.

    The id is the name in the folder, without `.cif`, `.vasp` or `.poscar`.

    Raises:
        ValueError: If there is none.
    """
    files = crystal_files(path)
    if not files:
        raise ValueError(
            f"the folder {path} holds no .cif file and no POSCAR: {_found(os.listdir(path))}"
        )
    for file in files:
        read = read_cif if is_cif(file) else read_poscar
        for row in read(file):
            folder = file.relative_to(path).parent
            yield replace(row, id=(folder / row.id).as_posix())


def read_cif_zip(path: Path) -> Iterator[Row]:
    """Read the .cif files of a zip; the id is the name in the zip, without `.cif`.

    Raises:
        ValueError: If it is not a zip, is damaged, or holds no .cif file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
            cifs = sorted(name for name in names if name.lower().endswith(".cif"))
            if not cifs:
                raise ValueError(f"{path} holds no .cif file: {_found(names)}")
            for name in cifs:
                text = archive.read(name).decode("utf-8", errors="replace")
                yield Row(str(PurePosixPath(name).with_suffix("")), text)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as a zip ({error}): fetch it again") from error


def read_cif(path: Path) -> Iterator[Row]:
    """Read one .cif file; the id is its name without `.cif`."""
    yield Row(path.stem, path.read_text(encoding="utf-8", errors="replace"))


def read_poscar(path: Path) -> Iterator[Row]:
    """Read one POSCAR; the id is its name without `.vasp` or `.poscar`."""
    name = path.stem if path.suffix.lower() in POSCAR_ENDINGS else path.name
    yield Row(name, (path.read_text(encoding="utf-8", errors="replace"), "poscar"))


def read_extxyz(path: Path) -> Iterator[Row]:
    """Read extended XYZ; the columns are a frame's single values, such as its energy.

    The id is the value `material_id`, else `id`, else the number of the frame, from 0.

    Raises:
        ValueError: If the file is not extended XYZ.
    """
    import ase.io

    try:
        for number, atoms in enumerate(ase.io.iread(path, index=":", format="extxyz")):
            known = {**atoms.info, **(atoms.calc.results if atoms.calc else {})}
            columns = {name: str(value) for name, value in known.items() if np.ndim(value) == 0}
            id_name = next((name for name in ("material_id", "id") if name in columns), None)
            name = columns.pop(id_name) if id_name else str(number)
            yield Row(name, atoms, columns)
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise ValueError(f"{path} cannot be read as extended XYZ: {error}") from error


def _found(names: list[str]) -> str:
    """What is there instead, in a few words."""
    shown = ", ".join(sorted(names)[:8])
    return f"found {shown}{', …' if len(names) > 8 else ''}" if names else "it is empty"


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": read_csv,
    ".csv.gz": read_csv,
    ".zip": read_cif_zip,
    ".cif": read_cif,
    ".vasp": read_poscar,
    ".poscar": read_poscar,
    ".extxyz": read_extxyz,
    ".xyz": read_extxyz,
}
"""The kinds of file that hold crystals, by the ending of their name."""
