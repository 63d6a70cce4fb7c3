import csv
import json
import sys
import types

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Incar, Kpoints, Poscar

from miad_jax.evaluation.stability.dft import DftEnergy, read_dft_energies, write_dft_inputs
from tests.evaluation.stability.entries import rock_salt

STRUCTURES = [rock_salt("Na", "Cl", 5.6), rock_salt("Fe", "O"), rock_salt("Po", "O")]
IDS = ["a", "b", "c"]
DISTANCES = [0.03, -0.01, 0.02]


def write(directory, **changes):
    arguments = {"structures": STRUCTURES, "ids": IDS, "e_above_hull_ev_per_atom": DISTANCES}
    return write_dft_inputs(directory=directory, **(arguments | changes))


def contents(directory):
    return {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_folders_are_ranked_and_hold_the_materials_projects_settings(tmp_path):
    folders = write(tmp_path / "dft")
    assert [folder.name for folder in folders] == ["001_FeO", "002_PoO", "003_NaCl"]
    files = {"INCAR", "KPOINTS", "POSCAR", "POTCAR.spec"}
    for folder in folders:
        for step in ("relax", "static"):
            assert {path.name for path in (folder / step).iterdir()} == files
    relax = Incar.from_file(folders[0] / "relax" / "INCAR")
    static = Incar.from_file(folders[0] / "static" / "INCAR")
    assert (relax["ENCUT"], relax["ISIF"], relax["NSW"], relax["LDAUU"]) == (520, 3, 99, [5.3, 0])
    assert (static["NSW"], static["ISMEAR"], static["LDAUU"]) == (0, -5, [5.3, 0])
    assert (folders[0] / "static" / "POTCAR.spec").read_text() == "Fe_pv\nO\n"
    grids = [Kpoints.from_file(folders[0] / s / "KPOINTS").kpts[0] for s in ("relax", "static")]
    assert np.prod(grids[1]) > np.prod(grids[0]) > 1
    poscar = Poscar.from_file(folders[0] / "relax" / "POSCAR").structure
    np.testing.assert_allclose(poscar.lattice.matrix, STRUCTURES[1].lattice.matrix, atol=1e-12)
    np.testing.assert_allclose(poscar.frac_coords, STRUCTURES[1].frac_coords, atol=1e-12)


def test_index_leads_back(tmp_path):
    write(tmp_path)
    rows = list(csv.DictReader((tmp_path / "index.csv").open()))
    assert [row["id"] for row in rows] == ["b", "c", "a"]
    assert [row["formula"] for row in rows] == ["FeO", "PoO", "NaCl"]
    assert [float(row["e_above_hull_ev_per_atom"]) for row in rows] == [-0.01, 0.02, 0.03]
    assert [row["folder"] for row in rows] == ["001_FeO", "002_PoO", "003_NaCl"]
    assert [row["remark"] for row in rows] == [
        "",
        "the Materials Project has no pseudopotential of Po",
        "",
    ]


def test_no_pseudopotential_is_written(tmp_path):
    write(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.name == "POTCAR"]
    assert all(path.stat().st_size < 100 for path in tmp_path.rglob("POTCAR.spec"))


def test_properties_of_sites_do_not_change_the_settings(tmp_path):
    marked = rock_salt("Fe", "O").add_site_property("magmom", [0.123, 0.456])
    charged = rock_salt("Fe", "O").add_oxidation_state_by_element({"Fe": 2, "O": -2})
    found = []
    for i, structure in enumerate([rock_salt("Fe", "O"), marked, charged]):
        (folder,) = write(
            tmp_path / str(i), structures=[structure], ids=["x"], e_above_hull_ev_per_atom=[0.0]
        )
        found.append({p.name: p.read_bytes() for p in (folder / "relax").iterdir()})
    assert found[0] == found[1] == found[2]


def test_a_second_call_changes_nothing_and_a_killed_one_is_completed(tmp_path):
    write(tmp_path)
    before = contents(tmp_path)
    (tmp_path / "001_FeO" / "relax" / "OUTCAR").write_text("a result")
    (tmp_path / "001_FeO" / "static" / "POSCAR").write_text("the relaxed crystal")
    after_a_run = contents(tmp_path)
    write(tmp_path)
    assert contents(tmp_path) == after_a_run
    for name in ("index.csv", "001_FeO/relax/OUTCAR", "001_FeO/static/POSCAR"):
        (tmp_path / name).unlink()
    write(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"e_above_hull_ev_per_atom": [0.03, -0.01, 0.01]},
        {"structures": [rock_salt("Na", "Cl", 5.7), *STRUCTURES[1:]]},
        {"ids": ["x", "b", "c"]},
    ],
)
def test_other_crystals_are_not_overwritten(tmp_path, changes):
    write(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"holds another index\.csv.*nothing is overwritten"):
        write(tmp_path, **changes)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["notes.txt", "001_FeO/relax/INCAR"])
def test_files_of_others_are_not_overwritten(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"holds another {name}"):
        write(tmp_path)
    assert contents(tmp_path) == {tmp_path / name: b"mine"}


def test_lists_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="3 structures, 2 ids and 3 energies"):
        write(tmp_path / "dft", ids=["a", "b"])
    with pytest.raises(ValueError, match="'a' is there twice"):
        write(tmp_path / "dft", ids=["a", "b", "a"])
    with pytest.raises(ValueError, match="is not finite: leave out"):
        write(tmp_path / "dft", e_above_hull_ev_per_atom=[0.0, np.nan, 0.0])
    assert not (tmp_path / "dft").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        write(tmp_path / "file")


def test_no_crystal_gives_an_empty_index(tmp_path):
    assert write(tmp_path, structures=[], ids=[], e_above_hull_ev_per_atom=[]) == []
    assert list(csv.reader((tmp_path / "index.csv").open()))[1:] == []


def test_a_flow_is_written_where_atomate2_is(tmp_path, monkeypatch):
    class Flow:
        def __init__(self, structure):
            self.content = {"structure": structure.as_dict()}

        def update_metadata(self, metadata):
            self.content |= {"metadata": metadata}

        def as_dict(self):
            return self.content

    maker = type("Maker", (), {"make": lambda self, structure: Flow(structure)})
    module = types.ModuleType("atomate2.vasp.flows.mp")
    module.MPGGADoubleRelaxStaticMaker = maker
    write(tmp_path)
    assert not list(tmp_path.rglob("flow.json"))
    for name in ("atomate2", "atomate2.vasp", "atomate2.vasp.flows"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "atomate2.vasp.flows.mp", module)
    folders = write(tmp_path)
    flow = json.loads((folders[0] / "flow.json").read_text())
    assert flow["metadata"] == {"id": "b"}
    assert Structure.from_dict(flow["structure"]) == STRUCTURES[1]
    before = contents(tmp_path)
    (tmp_path / "index.csv").unlink()
    write(tmp_path)
    assert contents(tmp_path) == before


def test_energies_are_read_back(tmp_path):
    path = tmp_path / "energies.csv"
    path.write_text(
        "\ufeffid, energy_ev ,formula,hubbards,potcar_symbols\n"
        "b,-12.5,FeO,Fe:5.3; O:0,Fe_pv;O\n"
        "c,,PoO,,\n"
        "a,-6.75,NaCl,,\n"
    )
    assert read_dft_energies(path) == {
        "b": DftEnergy(-12.5, {"Fe": 5.3, "O": 0.0}, ["Fe_pv", "O"]),
        "a": DftEnergy(-6.75),
    }
    path.write_text("id,energy_ev\na,1\n")
    assert read_dft_energies(path) == {"a": DftEnergy(1.0)}
    path.write_text("id,corrected_energy_ev,energy_ev\na,1,\nb,,2\nc,,\n")
    assert read_dft_energies(path) == {"a": DftEnergy(1.0, is_corrected=True), "b": DftEnergy(2.0)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has the columns none: give a CSV table with id and energy_ev"),
        ("id,energy\na,1\n", "has the columns id, energy: give"),
        ("energy_ev\n1\n", "has the columns energy_ev: give"),
        (
            "id,energy_ev,corrected_energy_ev\na,-1,-2\n",
            "line 2 has both energy_ev and corrected_energy_ev: leave one",
        ),
        ("id,energy_ev\na,1\na,2\n", r"line 3: the id is 'a'.*one row for each"),
        ("id,energy_ev\n,1\n", "line 2: the id is ''"),
        ("id,energy_ev\na,-1 eV\n", "line 2: could not convert.*-27.4"),
        ("id,energy_ev\na,nan\n", "line 2: the energy is nan"),
        ("id,energy_ev,hubbards\na,1,Fe=5.3\n", "line 2: could not convert.*Fe:5.3"),
    ],
)
def test_a_table_that_cannot_be_read_says_where(tmp_path, text, message):
    path = tmp_path / "energies.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_dft_energies(path)


def test_what_pymatgen_warns_of_is_in_the_remark(tmp_path):
    ytterbia = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.9), ["Yb", "O"], [[0, 0, 0], [0.5] * 3]
    )
    write_dft_inputs([ytterbia], ["a"], tmp_path / "in", e_above_hull_ev_per_atom=[0.0])
    with (tmp_path / "in" / "index.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (
        "this InputSet uses the Yb_2 PSP. Yb_2 is known to often give bad results" in row["remark"]
    )
    assert row["remark"].count("Yb_2 PSP") == 1  # though both runs are warned of
