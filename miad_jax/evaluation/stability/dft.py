"""Hand crystals over to density functional theory, and read its energies back.

    index.csv            rank, id, formula, energy above the hull and folder of each crystal
    README.txt           how to run them, and what to give back
    001_NaCl/relax/      INCAR, KPOINTS, POSCAR and POTCAR.spec of the relaxation
    001_NaCl/static/     the same of the static run that follows
    001_NaCl/flow.json   both as a jobflow flow, where atomate2 is installed

The settings are the Materials Project's for GGA and GGA+U (pymatgen's `MPRelaxSet` and
`MPStaticSet`), so that the energies compare with its hull after its 2020 corrections. A
pseudopotential is written as its name alone: its content is VASP's.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from miad_jax.data.formats import csv_text, plain_formula
from miad_jax.evaluation.stability.text_table import read_text_table
from miad_jax.storage.files import is_partial, write_atomically

if TYPE_CHECKING:
    from pymatgen.core import Structure

INDEX, README, FLOW = "index.csv", "README.txt", "flow.json"

CORRECTED = "corrected_energy_ev"
ENERGY_COLUMNS = ("energy_ev", CORRECTED)
"""Columns of a table of energies: as VASP gives them, and with the 2020 corrections."""

_README = """\
Crystals worth computing, the most stable first by the potential that judged them: see index.csv.

In each folder
  relax/   Materials Project relaxation (MPRelaxSet). Run it twice, the second time from the
           CONTCAR of the first.
  static/  Materials Project static run (MPStaticSet). Put the CONTCAR of the second relaxation in
           the place of POSCAR, then run it.
POTCAR.spec names the pseudopotentials of the PBE set, one a line, in the order of the elements in
POSCAR; pymatgen's `pmg potcar --recursive .` makes the POTCARs from those of your VASP licence.
flow.json, where it is, is the same as a jobflow flow (atomate2's MPGGADoubleRelaxStaticMaker):
  from jobflow import run_locally; from monty.serialization import loadfn
  run_locally(loadfn("flow.json"), create_folders=True)
or, through an engine that runs on a cluster already, such as jobflow-remote's
  from jobflow_remote import submit_flow; submit_flow(loadfn("flow.json"))

Give the energies back as a CSV table with the columns
  id              the id in index.csv
  energy_ev       total energy of the whole cell of the static run in eV, as VASP gives it; empty if
                  it failed
  hubbards        optional: the U in eV of each element that had one, as Fe:5.3;Co:3.32; empty for
                  the Materials Project's
  potcar_symbols  optional: names of the pseudopotentials, as Fe_pv;O, which are then checked
The Materials Project's 2020 corrections are added to it. Energies that carry them already go into
  corrected_energy_ev
in place of energy_ev; a row has one of the two.
"""


@dataclass(frozen=True)
class DftEnergy:
    """The result of one static run.

    Attributes:
        energy_ev: Total energy of the whole cell.
        hubbards: The U in eV of each element that had one; None for the Materials Project's.
        potcar_symbols: Names of the pseudopotentials; None if not told.
        is_corrected: Whether the energy carries the Materials Project's 2020 corrections.
    """

    energy_ev: float
    hubbards: Mapping[str, float] | None = None
    potcar_symbols: Sequence[str] | None = None
    is_corrected: bool = False


def write_dft_inputs(
    structures: Sequence[Structure],
    ids: Sequence[str],
    directory: str | os.PathLike[str],
    *,
    e_above_hull_ev_per_atom: Sequence[float],
) -> list[Path]:
    """Write VASP inputs of crystals, ranked by their energy above the hull.

    A folder that a killed call left is completed, one that is complete is left as it is.

    Args:
        structures: The relaxed crystals.
        ids: A name for each.
        directory: Where to write; made if missing.
        e_above_hull_ev_per_atom: By it they are ranked, the lowest first.

    Returns:
        The folder of each crystal, by rank.

    Raises:
        ValueError: If lengths differ, an id is there twice, or the directory holds anything else.
    """
    _check_arguments(ids, len(structures), e_above_hull_ev_per_atom)
    directory = Path(directory)
    digits = max(3, len(str(len(ids))))
    order = sorted(range(len(ids)), key=lambda i: e_above_hull_ev_per_atom[i])
    files: dict[str, str] = {README: _README}
    folders, rows = [], []
    for rank, i in enumerate(order, 1):
        inputs, remark = _inputs(structures[i])
        name = f"{rank:0{digits}d}_{plain_formula(structures[i].composition.formula)}"
        files |= {f"{name}/{file}": content for file, content in inputs.items()}
        folders.append(directory / name)
        rows.append(
            {
                "rank": rank,
                "id": ids[i],
                "formula": structures[i].composition.reduced_formula,
                "num_atoms": len(structures[i]),
                "e_above_hull_ev_per_atom": e_above_hull_ev_per_atom[i],
                "folder": name,
                "poscar_sha256": hashlib.sha256(inputs["relax/POSCAR"].encode()).hexdigest()[:16],
                "remark": remark,
            }
        )
    files[INDEX] = csv_text(rows)
    _write_all(directory, files)
    for folder, i in zip(folders, order, strict=True):
        if not (folder / FLOW).exists() and (flow := _flow(structures[i], ids[i])):
            write_atomically(folder / FLOW, flow)
    return folders


def read_dft_energies(path: str | os.PathLike[str]) -> dict[str, DftEnergy]:
    """Read a table of energies; the file `README.txt` among the inputs says how it looks.

    Returns:
        The energy of each id. An id without an energy is left out: its calculation failed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a column is missing, an id is there twice, a row has both kinds of energies,
            or a value cannot be read.
    """
    table = read_text_table(path)
    if "id" not in table or not set(ENERGY_COLUMNS) & set(table):
        raise ValueError(
            f"{path} has the columns {', '.join(table) or 'none'}: give a CSV table with id and "
            "energy_ev, the uncorrected total energy of the cell, or corrected_energy_ev"
        )
    energies: dict[str, DftEnergy] = {}
    seen = set()
    for line, row in enumerate(table.to_dict("records"), 2):
        if not any(row.values()):
            continue
        where = f"{path}, line {line}"
        if not row["id"] or row["id"] in seen:
            raise ValueError(f"{where}: the id is {row['id']!r}; allowed: one row for each id")
        seen.add(row["id"])
        given = [name for name in ENERGY_COLUMNS if row.get(name)]
        if len(given) > 1:
            raise ValueError(f"{where} has both {' and '.join(given)}: leave one of them empty")
        if given:
            energies[row["id"]] = _energy(row, given[0], where)
    return energies


def _energy(row: Mapping[str, str], name: str, where: str) -> DftEnergy:
    """The energy that a column of a row tells."""
    hubbards = row.get("hubbards", "")
    try:
        energy = float(row[name])
        pairs = [pair.partition(":") for pair in hubbards.split(";") if pair.strip()]
        u_values = {symbol.strip(): float(u) for symbol, _, u in pairs}
    except ValueError as error:
        raise ValueError(
            f"{where}: {error}; allowed: an energy such as -27.4, and hubbards such as "
            "Fe:5.3;Co:3.32"
        ) from error
    if not math.isfinite(energy):
        raise ValueError(f"{where}: the energy is {energy}; leave it empty if there is none")
    names = [name.strip() for name in row.get("potcar_symbols", "").split(";") if name.strip()]
    return DftEnergy(energy, u_values or None, names or None, is_corrected=name == CORRECTED)


def _check_arguments(ids: Sequence[str], num: int, e_above_hull: Sequence[float]) -> None:
    """Refuse lists that do not belong together, and ids that would not lead back."""
    if not len(ids) == num == len(e_above_hull):
        raise ValueError(
            f"{num} structures, {len(ids)} ids and {len(e_above_hull)} energies above the hull: "
            "give one of each for each crystal"
        )
    if not all(map(math.isfinite, e_above_hull)):
        raise ValueError("an energy above the hull is not finite: leave out crystals without one")
    if twice := sorted({name for name in ids if list(ids).count(name) > 1}):
        raise ValueError(f"the id {twice[0]!r} is there twice: results could not be told apart")


def _inputs(structure: Structure) -> tuple[dict[str, str], str]:
    """The content of each input file, and what should be known of them."""
    from pymatgen.core import Element, Structure
    from pymatgen.io.vasp.sets import BadInputSetWarning, MPRelaxSet, MPStaticSet

    species = [Element.from_Z(site.specie.Z) for site in structure]
    # Without the site's properties, which would change the settings (a potential's moments).
    plain = Structure(structure.lattice, species, structure.frac_coords)
    files = {}
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for name, kind in (("relax", MPRelaxSet), ("static", MPStaticSet)):
            for file, content in kind(plain).get_input_set(potcar_spec=True).items():
                files[f"{name}/{file}"] = f"{content}".rstrip("\n") + "\n"
    remarks = [" ".join(str(x.message).split()) for x in warned if x.category is BadInputSetWarning]
    if unknown := sorted({e.symbol for e in species} - set(MPRelaxSet.CONFIG["POTCAR"])):
        remarks.append(f"the Materials Project has no pseudopotential of {', '.join(unknown)}")
    return files, "; ".join(dict.fromkeys(remarks))


def _flow(structure: Structure, name: str) -> str:
    """The double relaxation and static run as JSON; empty where atomate2 is not installed."""
    try:
        from atomate2.vasp.flows.mp import MPGGADoubleRelaxStaticMaker
    except ImportError:
        return ""
    from monty.json import MontyEncoder

    flow = MPGGADoubleRelaxStaticMaker().make(structure)
    flow.update_metadata({"id": name})
    return json.dumps(flow, cls=MontyEncoder)


def _write_all(directory: Path, files: Mapping[str, str]) -> None:
    """Write the files in order, unless all are there; refuse a folder with anything else."""
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory} is a file, not a folder: name a new folder for the inputs")
    there = [path for path in directory.rglob("*") if path.is_file() and not is_partial(path)]
    if (directory / INDEX).exists():  # written last: the rest may have been run since
        there = [directory / INDEX]
    for path in there:
        name = path.relative_to(directory).as_posix()
        if path.name == FLOW:  # its jobs have names of their own
            continue
        if name not in files or path.read_bytes() != files[name].encode():
            raise ValueError(
                f"{directory} holds another {name}: it belongs to other crystals or another "
                "program, and nothing is overwritten; name a new or an empty folder"
            )
    if there == [directory / INDEX]:
        return
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
