"""The formats in which a folder of samples holds its crystals, by name.

    cif               cif/000012_NaCl.cif: every atom of the cell, in P1
    cif_symmetrised   cif_symmetrised/000012_NaCl.cif: the conventional cell, its space group, and
                      the atoms that are different by symmetry
    poscar            poscar/000012_NaCl.vasp
    extxyz            samples.extxyz
    csv               samples.csv, a row for every sample
    json              samples.json: a list of pymatgen Structures, for monty and pymatgen
    ase_db            samples.db: a database of ASE
    optimade          optimade.json: a response of OPTIMADE with a resource for each crystal

All hold a crystal as `written.as_written` gives it, with its atoms sorted by element.
"""

from __future__ import annotations

import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from miad_jax.crystal import Crystal
from miad_jax.data.formats import csv_text, extxyz_text, plain_formula
from miad_jax.data.structures import to_atoms, to_structures
from miad_jax.data.symmetry import SPGLIB_ANGLE_TOLERANCE, find_symmetry
from miad_jax.parallel.progress import Progress
from miad_jax.spelling import did_you_mean
from miad_jax.storage.files import atomic_file, remove_partial_files, write_atomically

if TYPE_CHECKING:
    from pymatgen.core import Structure

Rows = Sequence[Mapping[str, Any]]

SYMPREC_ANGSTROM = 0.1
"""How far `cif_symmetrised` may move an atom; that of the column `spacegroup_0.1`."""

OPTIMADE_VERSION = "1.2.0"
_PROVIDER = "_miad_jax_"
_OLDEST = (1980, 1, 1, 0, 0, 0)
"""The time of every member of a zip, so that equal crystals give equal bytes."""


def _cif(structure: Structure) -> str:
    return structure.to(fmt="cif")


def symmetrised_cif(structure: Structure) -> str:
    """The CIF of a crystal moved onto the symmetry that spglib finds within `SYMPREC_ANGSTROM`.

    It holds the conventional cell. Where spglib finds no symmetry, it is the CIF in P1.
    """
    from pymatgen.io.cif import CifWriter

    crystal = structure.lattice.matrix, structure.frac_coords, np.array(structure.atomic_numbers)
    if find_symmetry(*crystal, SYMPREC_ANGSTROM) is None:
        return _cif(structure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        writer = CifWriter(
            structure, symprec=SYMPREC_ANGSTROM, angle_tolerance=SPGLIB_ANGLE_TOLERANCE
        )
    return str(writer)


def _poscar(structure: Structure) -> str:
    return structure.to(fmt="poscar")


def json_text(crystals: Sequence[Crystal], rows: Rows) -> str:
    """A list of pymatgen Structures, each with its row as `properties`."""
    found = to_structures(crystals) if crystals else []
    for structure, row in zip(found, rows, strict=True):
        structure.properties = dict(row)
    return json.dumps([structure.as_dict() for structure in found]) + "\n"


def optimade_text(crystals: Sequence[Crystal], rows: Rows) -> str:
    """A response of OPTIMADE; the columns of a row have the prefix `_miad_jax_`."""
    from pymatgen.io.optimade import OptimadeStructureAdapter

    data = []
    for structure, row in zip(to_structures(crystals) if crystals else [], rows, strict=True):
        resource: dict[str, Any] = OptimadeStructureAdapter.get_optimade_structure(structure)
        attributes = resource["attributes"]
        attributes["species"].sort(key=lambda species: species["name"])  # it comes of a set
        attributes |= {_PROVIDER + _word(name): value for name, value in row.items()}
        data.append({"id": str(row["index"]), "type": "structures", "attributes": attributes})
    meta = {
        "api_version": OPTIMADE_VERSION,
        "data_returned": len(data),
        "more_data_available": False,
    }
    return json.dumps({"data": data, "meta": meta}) + "\n"


def ase_db_bytes(crystals: Sequence[Crystal], rows: Rows) -> bytes:
    """A database of ASE; the columns of a row are its keys, as far as ASE allows them as keys."""
    from ase.db import connect
    from ase.db.core import check

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.db"
        with connect(path, use_lock_file=False) as database:
            for atoms, row in zip(to_atoms(crystals) if crystals else [], rows, strict=True):
                keys = {}
                for name, value in row.items():
                    try:
                        check({_word(name): value})
                    except ValueError:  # a name that ASE keeps for itself, or no value
                        continue
                    keys[_word(name)] = value
                database.write(atoms, key_value_pairs=keys)
        return path.read_bytes()


def _word(name: str) -> str:
    """A column's name without the point of `spacegroup_0.1`."""
    return name.replace(".", "_")


ONE_FILE_EACH: Mapping[str, tuple[str, Callable[[Structure], str]]] = {
    "cif": (".cif", _cif),
    "cif_symmetrised": (".cif", symmetrised_cif),
    "poscar": (".vasp", _poscar),
}
"""Formats with a file for each crystal, in a folder of their name: ending, and text."""

ONE_FILE: Mapping[str, tuple[str, Callable[[Sequence[Crystal], Rows], str | bytes]]] = {
    "extxyz": ("samples.extxyz", extxyz_text),
    "json": ("samples.json", json_text),
    "ase_db": ("samples.db", ase_db_bytes),
    "optimade": ("optimade.json", optimade_text),
}
"""Formats with one file for all crystals: its name, and content."""

PLACES = {
    **{name: f"{name}/" for name in ONE_FILE_EACH},
    **{name: file for name, (file, _) in ONE_FILE.items()},
    "csv": "samples.csv",
}
"""Where each format lies in the folder of samples."""

DEFAULT_FORMATS = ("cif", "extxyz", "csv")
ALWAYS = ("samples.npz", "summary.md", "summary.json", "summary.png")
"""What a folder of samples holds in any format."""


def checked_formats(names: Iterable[str]) -> list[str]:
    """The formats, each once, in the order of `PLACES`.

    Raises:
        ValueError: If one is unknown, or there is none.
    """
    names = [name.strip() for name in names]
    for name in names:
        if name not in PLACES:
            raise ValueError(
                f"no format {name!r}{did_you_mean(name, PLACES)}; allowed: {', '.join(PLACES)}"
            )
    if not names:
        raise ValueError(f"no format is named; allowed: {', '.join(PLACES)}")
    return [name for name in PLACES if name in names]


def export(
    folder: Path,
    formats: Iterable[str],
    crystals: Sequence[Crystal],
    rows: Rows,
    all_rows: Rows,
    progress: Progress,
) -> list[str]:
    """Write crystals in some formats, and in those that are there already from an earlier call.

    Files of single crystals that exist are left as they are. No other process may write to the
    folder.

    Args:
        folder: The folder of samples.
        formats: Names of `PLACES`.
        crystals: The crystals as they are written.
        rows: Their rows.
        all_rows: Rows of all samples.
        progress: Where to show how far it has come.

    Returns:
        The formats that the folder holds now.
    """
    asked = {*formats, *(name for name, place in PLACES.items() if (folder / place).exists())}
    found = [name for name in PLACES if name in asked]
    each = [name for name in found if name in ONE_FILE_EACH]
    remove_partial_files(folder, only_writer=True)
    with progress.bar("writing", len(crystals) * len(each) + len(found), "files") as bar:
        for name in each:
            ending, text_of = ONE_FILE_EACH[name]
            (folder / name).mkdir(exist_ok=True)
            remove_partial_files(folder / name, only_writer=True)
            for crystal, row in zip(crystals, rows, strict=True):
                stem = f"{row['index']:06d}_{plain_formula(row['formula'])}"
                path = folder / name / f"{stem}{ending}"
                if not path.exists():
                    write_atomically(path, text_of(to_structures([crystal])[0]))
                bar.advance()
        for name in found:
            if name in ONE_FILE:
                file, content_of = ONE_FILE[name]
                write_atomically(folder / file, content_of(crystals, rows))
            elif name == "csv":
                write_atomically(folder / PLACES["csv"], csv_text(all_rows))
            bar.advance()
    return found


def zip_samples(folder: Path) -> Path:
    """Pack all formats of a folder of samples, its arrays and its summary, into samples.zip."""
    places = [folder / place for place in (*PLACES.values(), *ALWAYS)]
    files = [y for x in places for y in (sorted(x.iterdir()) if x.is_dir() else [x])]
    target = folder / "samples.zip"
    with atomic_file(target) as file, zipfile.ZipFile(file, "w") as archive:
        for path in files:
            if path.is_file():
                name = (Path(folder.resolve().name) / path.relative_to(folder)).as_posix()
                info = zipfile.ZipInfo(name, _OLDEST)
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, path.read_bytes())
    return target
