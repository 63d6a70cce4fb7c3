"""`python -m miad_jax.inspect`: what is in a data set, on the terminal, in JSON and in a figure."""

import json
import subprocess
import sys

import pytest
from PIL import Image
from pymatgen.core import Lattice, Structure

from miad_jax.data.formats import csv_text
from tests.in_process import ROOT, run_command

PLACES = [[0, 0, 0], [0.5, 0.5, 0.5]]


def pair(elements, a=4.0, c=None):
    return Structure(Lattice.tetragonal(a, c or a), elements, PLACES)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A set with two parts: salts, a long cell, twins, and rows that hold no crystal."""
    monkeypatch.setenv("MIAD_JAX_CACHE", str(tmp_path / "cache"))
    disordered = Structure(Lattice.cubic(3), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]])
    rows = {
        "salt": pair(["Cs", "Cl"], 4.12),
        "long": pair(["Li", "F"], 3.0, 31.0),
        "three": Structure(Lattice.cubic(5), ["Na"] * 2 + ["O"], [*PLACES, [0.3, 0.1, 0.2]]),
        "first": disordered,
        "second": disordered,
    }
    data = tmp_path / "set"
    data.mkdir()
    table = [
        {"id": name, "cif": x.to(fmt="cif"), "gap": [2.5, "", 0.5, 1, 1][i], "note": "x"}
        for i, (name, x) in enumerate(rows.items())
    ]
    table += [{"id": name, "cif": "", "gap": 1, "note": "y"} for name in "abcd"]
    (data / "train.csv").write_text(csv_text(table))
    twin = {"id": "twin", "cif": pair(["Cs", "Cl"], 4.12).to(fmt="cif"), "gap": 3}
    (data / "val.csv").write_text(csv_text([twin]))
    return data


def test_it_says_what_is_there(folder, tmp_path):
    done = run_command("inspect", folder, f"--out={tmp_path / 'out'}", "--slots=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{folder}: 4 crystals, 6 refused",
        "  parts       train 3, val 1",
        "  atoms       2 to 3 in a cell, median 2; 1 crystals have more than 2 (--slots)",
        "  elements    6: Cl 2, Cs 2, F 1, Li 1, Na 1, O 1",
        "  edges       longest of a cell 4.12 to 31 Å, median 4.56; 1 crystals beyond 30 Å: "
        "train/long (31 Å)",
        "  density     0.154 to 4 g/cm³, median 2.41",
        "  duplicates  1 crystals are an earlier one: val/twin is train/salt",
        "  gap         property, 0.5 to 3, known of 3",
        "  text        columns that are no numbers: note",
        "  4 refused: has no CIF text (train/a, train/b, train/c, …)",
        "  2 refused: is disordered: a site is shared or partially occupied (train/first, "
        "train/second)",
        f"to train on it: miad-jax train --config=mp20:small --config.data.path={folder} "
        "--workdir=runs/mine --config.infusion.num_atoms=2 --config.data.max_num_atoms=2 "
        "--config.data.max_edge_angstrom=30",
        f"inspection.json and inspection.png in {tmp_path / 'out'}",
    ]
    facts = json.loads((tmp_path / "out" / "inspection.json").read_text())
    assert facts["properties"]["gap"] == {
        "smallest": 0.5, "largest": 3.0, "median": 2.5, "num_known": 3,
    }  # fmt: skip
    assert facts["edges_angstrom"]["too_long"] == {"train/long": 31.0}
    with Image.open(tmp_path / "out" / "inspection.png") as image:
        assert image.size[0] > 1000


def test_programs_get_one_object_and_nothing_is_compared(folder):
    done = run_command("inspect", folder, "--json", "--quiet", "--noduplicates")
    assert done.stderr == ""
    facts = json.loads(done.stdout)
    assert (facts["command"], facts["files"], facts["duplicates"]) == ("inspect", [], None)
    assert facts["parts"] == {"train": 3, "val": 1}


def test_the_embedded_set_has_no_edge_beyond_the_limit(tmp_path):
    done = run_command("inspect", "prototypes", "--noduplicates")
    assert "parts     train 5057" in done.stdout
    assert "--config.data.max_edge_angstrom" not in done.stdout


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["nothing"], "no dataset and no path is called 'nothing'"),
        (["prototypes", "--slots=0"], "--slots is 0"),
        (["prototypes", "--max_edge=-1"], "--max_edge is -1"),
        ([], "no DATA"),
    ],
)
def test_what_cannot_be_inspected_is_said(flags, said):
    done = run_command("inspect", *flags)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_folder_of_something_else_is_left_alone(folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "inspection.json").write_text("my own")
    done = run_command("inspect", folder, f"--out={tmp_path / 'mine'}", "--noduplicates")
    assert done.returncode == 2
    assert (tmp_path / "mine" / "inspection.json").read_text() == "my own"


@pytest.mark.slow
def test_the_module_does_not_hide_the_one_of_python(folder):
    done = subprocess.run(
        [sys.executable, "-m", "miad_jax.inspect", folder, "--json", "--quiet"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["num_crystals"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-"])
def test_a_closed_output_is_none(folder, tmp_path, closed):
    command = f"{sys.executable} -m miad_jax.inspect {folder} --out={tmp_path / 'out'} {closed}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "inspection.json").exists()
