"""The formats of a folder of samples, each read back by the library of its kind."""

import itertools
import json
import zipfile

import ase.db
import ase.io
import numpy as np
import pandas as pd
import pytest
from monty.json import MontyDecoder
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifFile
from pymatgen.io.optimade import OptimadeStructureAdapter
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from miad_jax.crystal import Crystal
from miad_jax.data import from_structures, load_dataset
from miad_jax.data.exported import PLACES, checked_formats, symmetrised_cif, zip_samples
from miad_jax.data.sample_folder import SampleDirectory
from miad_jax.evaluation.describe import describe_all

SPINEL = Structure.from_spacegroup(
    "Fd-3m", Lattice.cubic(8.08), ["Mg", "Al", "O"],
    [[0] * 3, [0.625] * 3, [0.3874] * 3],
).get_primitive_structure()  # fmt: skip
SALT = Structure(Lattice.cubic(4.12), ["Cl", "Cs"], [[0.5, 0.5, 0.5], [0.01, 0, 0]])
ALL = ("cif", "cif_symmetrised", "poscar", "extxyz", "json", "ase_db", "optimade", "csv")


def begun(path, *structures):
    """A folder with a batch of these crystals, of which one more is none."""
    crystals = from_structures([*structures, SALT])
    lattice = np.array(crystals.lattice)
    lattice[-1] = np.nan
    broken = Crystal(lattice, crystals.frac_coords, crystals.atom_types, crystals.mask)
    directory = SampleDirectory.open(path, {"seed": 0})
    directory.write_batch(len(directory.done()), broken, describe_all(broken))
    return directory


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    directory = begun(tmp_path_factory.mktemp("out") / "samples", SPINEL, SALT)
    directory.finish(ALL)
    return directory.path


def of_files(folder):
    return [Structure.from_file(x) for x in sorted(folder.iterdir())]


def of_ase(frames):
    from pymatgen.io.ase import AseAtomsAdaptor

    return [AseAtomsAdaptor.get_structure(x) for x in frames]


READ = {
    "cif": lambda x: of_files(x / "cif"),
    "cif_symmetrised": lambda x: of_files(x / "cif_symmetrised"),
    "poscar": lambda x: of_files(x / "poscar"),
    "extxyz": lambda x: of_ase(ase.io.read(x / "samples.extxyz", ":")),
    "json": lambda x: json.loads((x / "samples.json").read_text(), cls=MontyDecoder),
    "ase_db": lambda x: of_ase(row.toatoms() for row in ase.db.connect(x / "samples.db").select()),
    "optimade": lambda x: [
        OptimadeStructureAdapter.get_structure(resource)
        for resource in json.loads((x / "optimade.json").read_text())["data"]
    ],
}


@pytest.mark.parametrize("name", READ)
def test_each_format_is_read_back_by_the_library_of_its_kind(folder, name):
    found = READ[name](folder)
    assert [x.composition.reduced_formula for x in found] == ["MgAl2O4", "CsCl"]
    for structure, made in zip(found, (SPINEL, SALT), strict=True):
        assert StructureMatcher(ltol=0.01, stol=0.02, angle_tol=0.5).fit(structure, made)
        symbols = [site.specie.symbol for site in structure]
        assert [x for i, x in enumerate(symbols) if x not in symbols[:i]] in (
            ["Mg", "Al", "O"], ["Cs", "Cl"],
        )  # fmt: skip
        blocks = sum(a != b for a, b in itertools.pairwise(symbols)) + 1
        assert blocks == len(set(symbols))


def test_rows_go_along(folder):
    row = next(ase.db.connect(folder / "samples.db").select(index=0))
    assert (row.reduced_formula, row.spacegroup_number_0_1, row.plausible) == ("MgAl2O4", 227, True)
    first = json.loads((folder / "optimade.json").read_text())["data"][0]
    assert (first["id"], first["type"]) == ("0", "structures")
    assert first["attributes"]["_miad_jax_spacegroup_number_0_1"] == 227
    assert first["attributes"]["chemical_formula_reduced"] == "Al2MgO4"
    assert [x["name"] for x in first["attributes"]["species"]] == ["Al", "Mg", "O"]
    assert READ["json"](folder)[0].properties["chemical_system"] == "Al-Mg-O"
    assert len(pd.read_csv(folder / "samples.csv")) == 3


def test_a_symmetrised_cif_holds_the_conventional_cell_and_its_group(folder):
    spinel, salt = READ["cif_symmetrised"](folder)
    assert (len(spinel), len(SPINEL)) == (56, 14)
    assert SpacegroupAnalyzer(spinel, 1e-3).get_space_group_number() == 227
    assert SpacegroupAnalyzer(salt, 1e-3).get_space_group_number() == 221  # an atom was moved
    text = (folder / "cif_symmetrised" / "000000_MgAl2O4.cif").read_text()
    assert "Fd-3m" in text
    assert "_atom_site_symmetry_multiplicity" in text
    (block,) = CifFile.from_str(text).data.values()
    assert len(block["_atom_site_label"]) == 3
    crystals, records = load_dataset(folder / "cif_symmetrised")
    assert not records.rejected
    assert np.asarray(crystals.mask).sum(-1).tolist() == [14, 2]


def test_without_symmetry_the_cif_is_in_p1():
    twice = Structure(Lattice.cubic(5), ["Na", "Na"], [[0, 0, 0], [0.001, 0, 0]])
    assert "'P 1'" in symmetrised_cif(twice)


def test_formats_of_an_earlier_call_are_kept_up_to_date(tmp_path):
    begun(tmp_path, SPINEL).finish(["json", "poscar"])
    assert sorted(x.name for x in tmp_path.iterdir()) == [
        "batches", "poscar", "run.json", "samples.json", "samples.npz",
    ]  # fmt: skip
    begun(tmp_path, SALT).finish(["csv"])
    assert len(READ["json"](tmp_path)) == len(READ["poscar"](tmp_path)) == 2
    assert not (tmp_path / "cif").exists()


def test_what_a_kill_left_a_moment_ago_does_not_stay_among_the_files(tmp_path):
    folder = begun(tmp_path, SALT)
    folder.finish(["cif", "csv"])
    left = [tmp_path / "cif" / ".000000_NaCl.cif.12.partial", tmp_path / ".samples.csv.3.partial"]
    for path in left:
        path.write_text("half of it")
    folder.finish(["cif", "csv"])
    assert not any(path.exists() for path in left)


def test_no_crystal_is_no_error_in_any_format(tmp_path):
    begun(tmp_path).finish(ALL)
    assert json.loads((tmp_path / "samples.json").read_text()) == []
    assert json.loads((tmp_path / "optimade.json").read_text())["meta"]["data_returned"] == 0
    assert ase.db.connect(tmp_path / "samples.db").count() == 0


def test_a_zip_holds_all_formats(folder):
    path = zip_samples(folder)
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        assert archive.read("samples/samples.csv") == (folder / "samples.csv").read_bytes()
    assert {"samples/poscar/000001_CsCl.vasp", "samples/samples.db", "samples/samples.npz"} < names
    assert not any("batches" in x or "run.json" in x for x in names)
    content = path.read_bytes()
    assert zip_samples(folder).read_bytes() == content
    path.unlink()


def test_an_unknown_format_is_refused():
    assert checked_formats(["csv", " cif", "csv"]) == ["cif", "csv"]
    with pytest.raises(ValueError, match=r"'posca' \(did you mean 'poscar'\?\); allowed: cif, "):
        checked_formats(["posca"])
    with pytest.raises(ValueError, match="no format is named"):
        checked_formats([])
    assert set(PLACES) == set(ALL)
