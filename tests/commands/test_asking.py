"""`sample` asked for certain crystals: what is written beside each, and what is refused."""

import csv

import ase.build
import ase.io
import jax
import numpy as np
import pytest
from pymatgen.core import Composition

import miad_jax
from miad_jax.commands import choosing
from miad_jax.evaluation.stability.hull import Hull
from miad_jax.evaluation.stability.relaxation import Relaxation
from miad_jax.generation import judge as judging
from miad_jax.generation.judge import Judge
from miad_jax.sampling import Sampler
from miad_jax.storage.lock import LOCK
from tests.in_process import ROOT, run_command


def rows(folder):
    with (folder / "samples.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_what_is_asked_is_in_every_sample_and_said(tmp_path):
    out = tmp_path / "asked"
    arguments = ["--steps=3", f"--out={out}", "--elements=Li,O", "--num_atoms=3..4", "--attempts=1"]
    done = run_command("sample", "--num=2", *arguments)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 samples are as asked, of 2 that were drawn" in done.stdout
    for row in rows(out):
        assert row["asked"] == "elements Li,O, num_atoms 3..4"
        assert (row["is_as_asked"], row["missed"], row["attempts"]) == ("True", "", "1")
        assert row["num_atoms"] in ("3", "4")
        assert set(row["chemical_system"].split("-")) <= {"Li", "O"}
    other = run_command("sample", "--num=3", *arguments[:2], "--elements=Li,O")
    assert other.returncode == 2
    assert "asked" in other.stderr


def test_a_folder_that_another_process_writes_to_is_refused(tmp_path):
    (tmp_path / LOCK).write_text("12345\nnode017\n")
    done = run_command("sample", f"--out={tmp_path}", "--num=1")
    assert done.returncode == 2
    assert f"{tmp_path} is written to by process 12345 on node017" in done.stderr
    assert [x.name for x in tmp_path.iterdir()] == [LOCK]


def test_a_sample_that_misses_is_drawn_again_alone(monkeypatch, tmp_path):
    """Rock salt stands for what a model draws, but for the second attempt of the second sample."""
    salt = miad_jax.from_atoms(ase.build.bulk("NaCl", "rocksalt", a=5.64))
    calls = []

    def draw(self, keys, num_atoms, condition, bar):
        calls.append((len(keys), np.asarray(condition.required_types)[:, 19].all()))
        types = np.repeat(salt.atom_types, len(keys), 0)
        if len(calls) == 1:
            types[0] = 19, 17  # the first is as asked at once
        if len(calls) == 3:
            types[0] = 19, 9
        batch = [np.repeat(x, len(keys), 0) for x in (salt.lattice, salt.frac_coords)]
        crystals = miad_jax.Crystal(*batch, types, np.ones((len(keys), 2), bool))
        return crystals, np.full((len(keys), 1), 2)

    monkeypatch.setattr(Sampler, "draw", draw)
    done = run_command(
        "sample", f"--out={tmp_path / 'out'}", "--num=3", "--contain=K", "--attempts=3"
    )
    assert done.returncode == 0, done.stderr
    assert calls == [(3, True), (2, True), (2, True)]
    assert "2 of 3 samples are as asked, of 7 that were drawn" in done.stdout
    found = rows(tmp_path / "out")
    assert [row["formula"] for row in found] == ["K1 Cl1", "K1 F1", "Na1 Cl1"]
    assert [row["attempts"] for row in found] == ["1", "3", "3"]
    assert found[2]["missed"] == "lacks K"


@pytest.mark.slow
def test_a_crystal_is_completed_where_it_is(tmp_path):
    salt = ase.build.bulk("NaCl", "rocksalt", a=5.64)
    ase.io.write(tmp_path / "salt.cif", salt)
    done = run_command(
        "sample", "--num=2", "--steps=3", f"--out={tmp_path / 'out'}",
        f"--complete={tmp_path / 'salt.cif'}", "--keep_cell", "--add=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for path in sorted((tmp_path / "out" / "cif").iterdir()):
        atoms = ase.io.read(path)
        assert len(atoms) == 4
        assert abs(atoms.get_volume() - salt.get_volume()) < 1e-3
        sodium, chlorine = (
            [a.position for a in atoms if a.symbol == symbol] for symbol in ("Na", "Cl")
        )
        distances = [
            np.linalg.norm(b - a + shift)
            for a in sodium
            for b in chlorine
            for shift in np.array(np.meshgrid(*[[-1, 0, 1]] * 3)).T.reshape(-1, 3) @ atoms.cell
        ]
        assert np.abs(np.array(distances) - 2.82).min() < 1e-4


@pytest.fixture
def always_salt(monkeypatch):
    """Rock salt is whatever a model draws."""
    salt = miad_jax.from_atoms(ase.build.bulk("NaCl", "rocksalt", a=5.64))

    def draw(self, keys, num_atoms, condition, bar, **options):
        num = len(keys)
        crystals = jax.tree.map(lambda x: np.repeat(np.asarray(x), num, 0), salt)
        return crystals, np.full((num, 1), 2)

    monkeypatch.setattr(Sampler, "draw", draw)


def test_a_space_group_is_checked_and_what_only_leads_is_named(always_salt, tmp_path):
    led = ["--neutral", "--property=density=9", "--guidance=2"]
    done = run_command(
        "sample", f"--out={tmp_path / 'one'}", "--num=1", "--property=spacegroup_number=225", *led
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 1 samples are as asked, of 1 that were drawn" in done.stdout
    assert "not checked, because it only leads the model: neutral, density" in done.stdout
    done = run_command("sample", f"--out={tmp_path / 'two'}", "--num=1", "--space_group=221")
    assert "0 of 1 samples are as asked" in done.stdout
    assert "not checked" not in done.stdout
    assert rows(tmp_path / "two")[0]["missed"] == "has space group 225"


def test_each_sample_of_a_list_says_its_own_formula(always_salt, tmp_path):
    formulas = tmp_path / "list.txt"
    formulas.write_text("NaCl\nKCl\n")
    out = tmp_path / "out"
    done = run_command("sample", f"--out={out}", "--num=3", f"--formula={formulas}")
    assert done.returncode == 0, done.stderr
    assert [row["asked"] for row in rows(out)] == ["formula NaCl", "formula KCl", "formula NaCl"]
    assert [row["missed"] for row in rows(out)] == ["", "is not K1Cl1", ""]


def test_a_variation_is_not_warned_of_the_part_of_the_way_that_it_goes(always_salt, tmp_path):
    near = tmp_path / "salt.cif"
    ase.io.write(near, ase.build.bulk("NaCl", "rocksalt", a=5.64))
    for more, warned in ([], False), (["--steps=10"], True):
        out = tmp_path / str(warned)
        done = run_command("sample", f"--out={out}", "--num=1", f"--like={near}", *more)
        assert done.returncode == 0, done.stderr
        assert ("ask the network" in done.stderr) is warned


SMALLEST = "--checkpoint=mp20-small12"
BAD = [
    (["--elements=Li,Xx"], "elements holds 'Xx'"),
    (["--contain=Li", "--elements=O"], "Li must occur and may not"),
    (["--num_atoms=26"], "26 atoms are asked, and the model has 25 slots"),
    (["--num_atoms=9..3"], "num_atoms is 9..3"),
    (["--formula=Q"], "formula 'Q' has no atoms"),
    (["--formula=none.csv"], "none.csv"),
    (["--formula=none.txt"], "none.txt does not exist: give a formula, or a file of formulas"),
    (["--complete=none.cif"], "none.cif does not exist"),
    (["--like=tests"], "tests does not exist or is no file"),
    ([SMALLEST, "--property=density=3"], "the model knows no property 'density'; it was told none"),
    (["--property=density"], "--property is 'density'; allowed: a name and a number, as in"),
    (["--property=density=-4"], "density is -4; allowed: a number from 0.001 on"),
    (["--property=density=4", "--property=density=5"], "a property is asked for twice"),
    (["--space_group=225", "--property=spacegroup_number=221"], "a property is asked for twice"),
    (["--guidance=2"], "--guidance strengthens wishes for properties: add --property"),
    (["--space_group=231"], "--space_group is 231; allowed: a number from 1 to 230"),
    ([SMALLEST, "--space_group=225"], "the model knows no property 'spacegroup_number'"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD)
def test_what_cannot_be_met_is_a_sentence_and_makes_no_folder(arguments, said):
    there = {*ROOT.iterdir()}
    done = run_command("sample", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert {*ROOT.iterdir()} == there


def test_the_best_of_several_is_kept_with_its_energy(monkeypatch, tmp_path):
    """Cells of one atom, whose energy stands for their length: the shortest of three stays."""
    lengths = iter([4.0, 5.0, 3.0, 6.0, 5.0, np.nan])

    def drawn(self, keys, num_atoms, condition, bar):
        cells = np.stack([np.eye(3, dtype=np.float32) * next(lengths) for _ in range(len(keys))])
        shape = (len(keys), 1)
        crystals = miad_jax.Crystal(
            cells, np.zeros((*shape, 3), np.float32), np.full(shape, 29), np.ones(shape, bool)
        )
        return crystals, np.ones(shape, int)

    def energies(self, crystals):
        found = np.asarray(crystals.lattice)[:, 0, 0]
        return np.where(np.isnan(found), np.inf, found)

    monkeypatch.setattr(Sampler, "draw", drawn)
    monkeypatch.setattr(Judge, "energies", energies)
    monkeypatch.setattr(
        choosing, "judge_of", lambda values, progress: Judge(3, "chgnet", None, None)
    )
    monkeypatch.setattr(choosing, "chosen_by", lambda values: {"best_of": 3})
    done = run_command("sample", f"--out={tmp_path / 'out'}", "--num=2", "--best_of=3")
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "out")
    assert [float(x["e_above_hull_as_generated"]) for x in found] == [3.0, 5.0]
    assert [x["best_of"] for x in found] == ["3", "3"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--best_of=2"], "--best_of needs --hull"),
        (["--hull=hull.json"], "--hull is given without --best_of"),
        (["--best_of=2", "--hull=none.json"], "none.json"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(flags, said, tmp_path):
    done = run_command("sample", f"--out={tmp_path / 'out'}", *flags)
    assert done.returncode == 2
    assert said in done.stderr


def test_what_is_no_crystal_is_the_worst(monkeypatch):
    def relaxed(structures, *, calculator, weights, max_steps, progress):
        assert (calculator, weights, max_steps) == ("chgnet", None, 0)
        return [Relaxation("converged", 0, -3.0, True, x) for x in structures]

    monkeypatch.setattr(judging, "relax", relaxed)
    salt = miad_jax.from_atoms([ase.build.bulk("NaCl", "rocksalt", a=5.64)] * 3, 3)
    salt.mask[1] = False
    salt.lattice[2] = np.nan
    elements = [(Composition(symbol), -2.0) for symbol in ("Na", "Cl")]
    found = Judge(2, "chgnet", None, Hull(elements, "total", "made up")).energies(salt)
    assert found == pytest.approx([-1.0, np.inf, np.inf])
