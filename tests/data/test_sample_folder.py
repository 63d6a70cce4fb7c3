import csv
import json
import os
from dataclasses import replace

import ase.io
import numpy as np
import pytest
from pymatgen.core import Structure

from miad_jax.crystal import Crystal
from miad_jax.data import sample_folder as writing
from miad_jax.data.formats import plain_formula
from miad_jax.data.sample_folder import SampleDirectory
from miad_jax.evaluation.describe import describe_all
from miad_jax.evaluation.samples import load_samples
from miad_jax.evaluation.validity.structure import MIRAGE_ATOM, NO_ATOM, NOT_FINITE

RUN = {"checkpoint": "mp_20", "seed": 7, "settings": {"num_atoms": 6, "gamma": 0.5}}
NUM = 8


def samples():
    """Eight samples with six slots: CsCl and four mirage atoms, but for 2, 3 and 5."""
    rng = np.random.default_rng(0)
    lattice = (np.eye(3) * np.linspace(4.0, 4.4, NUM)[:, None, None]).astype(np.float32)
    frac_coords = rng.random((NUM, 6, 3)).astype(np.float32)
    frac_coords[:, :2] = [[0, 0, 0], [0.5, 0.5, 0.5]]
    atom_types = np.tile(np.array([55, 17, 0, 0, 0, 0], np.int32), (NUM, 1))
    lattice[2, 0, 0] = np.nan
    atom_types[3] = 0
    atom_types[5, 1:3] = 8
    frac_coords[5, 2] = [0.5, 0.5, 0.55]
    return Crystal(lattice, frac_coords, atom_types, np.ones((NUM, 6), bool))


SAMPLES = samples()
ROWS = describe_all(SAMPLES)
COUNTS = np.arange(NUM * 4, dtype=np.int16).reshape(NUM, 4)


def write(directory, *bounds, **extra):
    for first, last in bounds:
        chosen = {name: array[first:last] for name, array in extra.items()}
        directory.write_batch(first, SAMPLES[first:last], ROWS[first:last], **chosen)


def contents(path):
    return {
        x.relative_to(path).as_posix(): x.read_bytes()
        for x in sorted(path.rglob("*"))
        if x.is_file()
    }


@pytest.fixture
def finished(tmp_path):
    directory = SampleDirectory.open(tmp_path / "run", RUN)
    write(directory, (0, 3), (3, 8), num_real_atoms=COUNTS)
    directory.finish()
    return directory.path


def test_layout(finished):
    assert sorted(x for x in contents(finished) if not x.startswith("batches/")) == [
        "cif/000000_CsCl.cif",
        "cif/000001_CsCl.cif",
        "cif/000004_CsCl.cif",
        "cif/000005_CsO2.cif",
        "cif/000006_CsCl.cif",
        "cif/000007_CsCl.cif",
        "run.json",
        "samples.csv",
        "samples.extxyz",
        "samples.npz",
    ]
    assert not list(finished.rglob(".*"))


def test_cif_is_read_back_by_pymatgen_and_ase(finished):
    for i, name in [(0, "CsCl"), (5, "CsO2")]:
        path = finished / "cif" / f"{i:06d}_{name}.cif"
        structure = Structure.from_file(path)
        real = SAMPLES.atom_types[i] != 0
        assert sorted(structure.atomic_numbers) == sorted(SAMPLES.atom_types[i][real])
        assert structure.volume == pytest.approx(np.linalg.det(SAMPLES.lattice[i]), rel=1e-5)
        assert len(ase.io.read(path)) == real.sum()


def test_extxyz_is_read_back_by_ase(finished):
    frames = ase.io.read(finished / "samples.extxyz", index=":")
    assert [frame.info["index"] for frame in frames] == [0, 1, 4, 5, 6, 7]
    assert frames[3].get_chemical_formula() == "CsO2"
    assert all(frame.pbc.all() for frame in frames)
    np.testing.assert_allclose(frames[2].cell, SAMPLES.lattice[4], atol=1e-6)


def test_the_cell_is_the_same_in_every_file(tmp_path):
    """Niggli-reduced, sorted, and refined where the row says so; the arrays stay as generated."""
    skew = np.array([[1, 0, 0], [2, 1, 0], [-1, 3, 1]], np.float32)
    edges = np.diag(np.float32([4.4, 5.5, 4.1]))
    frac_coords = np.zeros((3, 6, 3), np.float32)
    frac_coords[:, 1] = 0.5
    frac_coords[1:, 1, 0] = [0.5 + 0.02 / 4.4, 0.2]
    atom_types = np.tile(np.array([17, 55, 0, 0, 0, 0], np.int32), (3, 1))
    crystals = Crystal(
        np.stack([skew @ edges * sign for sign in (1, -1, 1)]),
        (frac_coords @ np.linalg.inv(skew)) % 1,
        atom_types,
        np.ones((3, 6), bool),
    )
    directory = SampleDirectory.open(tmp_path, {"seed": 1, "refine_angstrom": 0.1})
    rows = describe_all(crystals, refine_angstrom=0.1)
    assert [row["refined"] for row in rows] == [False, True, False]
    directory.write_batch(0, crystals, rows)
    samples = directory.finish()
    frames = ase.io.read(tmp_path / "samples.extxyz", index=":")
    for i, path in enumerate(sorted((tmp_path / "cif").iterdir())):
        structure = Structure.from_file(path)
        cell = [rows[i][name] for name in ("a", "b", "c", "alpha", "beta", "gamma")]
        assert cell[:3] == pytest.approx([4.1, 4.4, 5.5], rel=1e-3)
        np.testing.assert_allclose(structure.lattice.parameters, cell, rtol=1e-6)
        np.testing.assert_allclose(frames[i].cell.cellpar(), cell, rtol=1e-6)
        assert structure.atomic_numbers == tuple(frames[i].numbers) == (55, 17)
        np.testing.assert_allclose(
            (structure.frac_coords - frames[i].get_scaled_positions() + 0.5) % 1, 0.5, atol=1e-5
        )
    assert rows[1]["spacegroup_0.01"] == rows[0]["spacegroup_0.01"] == "Pmmm"
    np.testing.assert_array_equal(samples.crystals.frac_coords, crystals.frac_coords)
    found = load_samples(tmp_path)
    assert [row["refined"] for row in found.rows] == [False, True, False]
    assert [row["spacegroup_0.01"] for row in found.rows] == [x["spacegroup_0.01"] for x in rows]


def test_a_row_that_says_nothing_of_refining_goes_out_as_generated(tmp_path):
    directory = SampleDirectory.open(tmp_path, RUN)
    skewed = replace(SAMPLES[:1], lattice=SAMPLES.lattice[:1] + np.eye(3, k=-1, dtype=np.float32))
    row = {name: x for name, x in describe_all(skewed)[0].items() if name != "refined"}
    directory.write_batch(0, skewed, [row])
    directory.finish()
    frame = ase.io.read(tmp_path / "samples.extxyz")
    np.testing.assert_allclose(frame.cell, skewed.lattice[0], atol=1e-6)


def test_csv_has_a_row_for_every_sample(finished):
    with (finished / "samples.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["index", "seed", "reduced_formula", "formula"]
    assert [int(row["index"]) for row in rows] == list(range(NUM))
    assert {row["seed"] for row in rows} == {"7"}
    assert [row["reason"] for row in rows] == ["", "", NOT_FINITE, NO_ATOM, "", "", "", ""]
    assert rows[0]["spacegroup_0.01"] == "Pm-3m"
    assert float(rows[0]["a"]) == pytest.approx(4)
    assert rows[2]["a"] == ""
    assert rows[5]["valid_structure"] == "False"


def test_npz_holds_the_samples_as_generated(finished):
    with np.load(finished / "samples.npz", allow_pickle=False) as file:
        assert set(file.files) == {
            "lattice",
            "frac_coords",
            "atom_types",
            "mask",
            "index",
            "num_real_atoms",
        }
        for name in ("lattice", "frac_coords", "atom_types", "mask"):
            np.testing.assert_array_equal(file[name], getattr(SAMPLES, name))
        np.testing.assert_array_equal(file["index"], np.arange(NUM))
        np.testing.assert_array_equal(file["num_real_atoms"], COUNTS)


def test_resumed_with_other_batches_equals_uninterrupted(finished, tmp_path):
    path = tmp_path / "resumed"
    first = SampleDirectory.open(path, RUN)
    assert first.done() == set()
    write(first, (0, 4), num_real_atoms=COUNTS)
    first.finish()
    second = SampleDirectory.open(path, RUN)
    assert second.done() == {0, 1, 2, 3}
    write(second, (4, 5), (5, 8), num_real_atoms=COUNTS)
    samples = second.finish()
    assert samples.index.tolist() == list(range(NUM))
    assert len(samples.rows) == len(samples.crystals) == NUM
    one, other = contents(finished), contents(path)
    assert {k: v for k, v in one.items() if not k.startswith("batches/")} == {
        k: v for k, v in other.items() if not k.startswith("batches/")
    }


def test_a_finished_run_finished_again_stays_as_it_is(finished):
    before = contents(finished)
    edited = finished / "cif" / "000000_CsCl.cif"
    edited.write_text("a user's own words")
    SampleDirectory.open(finished, RUN).finish()
    assert contents(finished) == before | {"cif/000000_CsCl.cif": b"a user's own words"}


def test_another_run_is_refused_and_the_difference_named(finished):
    before = contents(finished)
    other = {**RUN, "seed": 8, "settings": {"num_atoms": 6, "gamma": 0.25, "steps": 10}}
    with pytest.raises(ValueError, match="holds samples of another run") as error:
        SampleDirectory.open(finished, other)
    message = str(error.value)
    assert "seed is 7 there and 8 now" in message
    assert "settings.gamma is 0.5 there and 0.25 now" in message
    assert "settings.steps is (missing) there and 10 now" in message
    assert "num_atoms" not in message
    assert "Name another folder" in message
    assert contents(finished) == before


def test_the_same_run_is_recognised_whatever_the_order_and_the_containers(tmp_path):
    SampleDirectory.open(tmp_path, {"a": (1, 2), "b": {}})
    assert SampleDirectory.open(tmp_path, {"b": {}, "a": [1, 2]}).done() == set()


def test_foreign_folders_and_files_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("Chapter 1")
    with pytest.raises(ValueError, match=r"thesis\.tex.*no run\.json"):
        SampleDirectory.open(tmp_path, RUN)
    assert contents(tmp_path) == {"thesis.tex": b"Chapter 1"}
    with pytest.raises(ValueError, match="is a file, not a folder"):
        SampleDirectory.open(tmp_path / "thesis.tex", RUN)


def test_a_folder_of_an_older_version_goes_on(finished):
    def upgrade(run):
        return {**run, "settings": {**run["settings"], "num_atoms": 5}}

    newer = {**RUN, "settings": {**RUN["settings"], "num_atoms": 5}}
    with pytest.raises(ValueError, match="num_atoms is 6 there and 5 now"):
        SampleDirectory.open(finished, newer)
    assert SampleDirectory.open(finished, newer, upgrade=upgrade).done() == set(range(NUM))
    with pytest.raises(ValueError, match="num_atoms is 5 there and 6 now"):
        SampleDirectory.open(finished, RUN, upgrade=upgrade)


def test_samples_can_be_read_without_knowing_their_run(finished, tmp_path):
    before = contents(finished)
    directory = SampleDirectory.read_only(finished)
    assert directory.run == RUN
    assert directory.read().rows == SampleDirectory.open(finished, RUN).read().rows
    assert contents(finished) == before
    with pytest.raises(ValueError, match=r"holds no run\.json: name a folder of samples"):
        SampleDirectory.read_only(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": "other", "run": {}}', '{"run": 1}'])
def test_a_foreign_run_json_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json is no record of samples"):
        SampleDirectory.open(tmp_path, RUN)
    assert contents(tmp_path) == {"run.json": text.encode()}


class Kill(BaseException):
    """Stands for a signal that ends the process: nothing after it runs."""


@pytest.mark.parametrize("moment", ["half written", "not moved", "moved"])
def test_a_kill_at_any_file_loses_at_most_one_batch(finished, tmp_path, monkeypatch, moment):
    """Die at each file of a run in turn, then resume."""
    expected = contents(finished)
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr("miad_jax.storage.files._LEFT_AFTER_SECONDS", -1.0)  # an hour has passed

    def dies(path, kill_at):
        written = []

        def dying_fsync(file_descriptor):
            written.append(file_descriptor)
            if len(written) == kill_at and moment == "half written":
                os.truncate(file_descriptor, os.fstat(file_descriptor).st_size // 2)
                raise Kill
            fsync(file_descriptor)

        def dying_replace(source, target):
            if len(written) != kill_at or moment == "moved":
                replace(source, target)
            if len(written) == kill_at:
                raise Kill

        with monkeypatch.context() as patch:
            patch.setattr(writing.os, "fsync", dying_fsync)
            patch.setattr(writing.os, "replace", dying_replace)
            patch.setattr(writing.Path, "unlink", lambda *args, **kwargs: None)
            try:
                directory = SampleDirectory.open(path, RUN)
                for bounds in [(0, 3), (3, 8)]:
                    write(directory, bounds, num_real_atoms=COUNTS)
                directory.finish()
            except Kill:
                return True
        return False

    num_files = 12  # run.json, two batches, six CIFs, extxyz, csv and npz
    assert not dies(tmp_path / "lives", num_files + 1)
    for kill_at in range(1, num_files + 1):
        path = tmp_path / f"killed_at_{kill_at}"
        assert dies(path, kill_at)
        directory = SampleDirectory.open(path, RUN)
        done = directory.done()
        num_moved = kill_at if moment == "moved" else kill_at - 1
        assert done == set(range([0, 0, 3, NUM][min(num_moved, 3)]))
        assert not list(path.rglob("*.partial"))
        for first, last in [(0, 3), (3, 8)]:
            if first not in done:
                write(directory, (first, last), num_real_atoms=COUNTS)
        directory.finish()
        assert contents(path) == expected


def test_an_error_while_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    directory = SampleDirectory.open(tmp_path, RUN)
    before = contents(tmp_path)

    def fails(file_descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(writing.os, "fsync", fails)
    with pytest.raises(OSError, match="no space left"):
        write(directory, (0, 3))
    assert contents(tmp_path) == before


def test_a_sample_is_not_written_twice(tmp_path):
    directory = SampleDirectory.open(tmp_path, RUN)
    write(directory, (0, 3))
    with pytest.raises(ValueError, match=r"1 of the samples 2 to 4 .* the first is 2"):
        write(directory, (2, 5))
    assert directory.done() == {0, 1, 2}


def test_overlapping_batches_of_two_processes_count_once(tmp_path):
    directory = SampleDirectory.open(tmp_path / "run", RUN)
    write(directory, (0, 4))
    other = SampleDirectory.open(tmp_path / "other", RUN)
    write(other, (2, 3), (3, 8))
    for path in (other.path / "batches").iterdir():
        path.rename(directory.path / "batches" / path.name)
    samples = directory.finish()
    assert samples.index.tolist() == list(range(NUM))
    np.testing.assert_array_equal(samples.crystals.atom_types, SAMPLES.atom_types)


def test_batches_may_differ_in_slots_and_extras(tmp_path):
    directory = SampleDirectory.open(tmp_path, RUN)
    narrow = Crystal(
        SAMPLES.lattice[:2],
        SAMPLES.frac_coords[:2, :2],
        SAMPLES.atom_types[:2, :2],
        SAMPLES.mask[:2, :2],
    )
    directory.write_batch(0, narrow, ROWS[:2])
    write(directory, (2, 8), num_real_atoms=COUNTS)
    samples = directory.finish()
    assert samples.crystals.mask.sum(-1).tolist() == [2, 2] + [6] * 6
    assert samples.extra["num_real_atoms"][:2].tolist() == [[-1] * 4] * 2
    np.testing.assert_array_equal(samples.extra["num_real_atoms"][2:], COUNTS[2:])
    assert describe_all(samples.crystals)[0] == ROWS[0]


def test_failed_samples_of_the_baseline_get_no_cif(tmp_path):
    directory = SampleDirectory.open(tmp_path, {"checkpoint": "x"})
    directory.write_batch(0, SAMPLES[:2], describe_all(SAMPLES[:2], infused=False))
    samples = directory.finish()
    assert [row["reason"] for row in samples.rows] == [MIRAGE_ATOM] * 2
    assert "seed" not in samples.rows[0]
    assert not list((tmp_path / "cif").iterdir())
    assert (tmp_path / "samples.extxyz").read_bytes() == b""


def test_file_names_have_reduced_formulas_without_brackets():
    assert plain_formula("Ca2 H4 O4") == "CaH2O2"
    assert plain_formula("Li6 Fe4 P6 O24") == "Li3Fe2P3O12"
    assert plain_formula("O2") == "O"


def test_a_batch_costs_no_more_as_the_folder_grows(tmp_path, monkeypatch):
    directory = SampleDirectory.open(tmp_path, RUN)
    write(directory, (0, 2))
    monkeypatch.setattr(SampleDirectory, "_batches", None)  # the folder is not listed again
    write(directory, (2, 5), (5, 8))
    for bounds in ((1, 3), (5, 8)):
        with pytest.raises(ValueError, match=r"are in .* already"):
            write(directory, bounds)
    monkeypatch.undo()
    assert directory.done() == set(range(8))


def test_bad_batches_are_refused(tmp_path):
    directory = SampleDirectory.open(tmp_path, RUN)
    with pytest.raises(ValueError, match="3 crystals, but 2 in 'rows'"):
        directory.write_batch(0, SAMPLES[:3], ROWS[:2])
    with pytest.raises(ValueError, match="3 crystals, but 8 in 'num_real_atoms'"):
        directory.write_batch(0, SAMPLES[:3], ROWS[:3], num_real_atoms=COUNTS)
    with pytest.raises(ValueError, match="'energy' is of type float64"):
        directory.write_batch(0, SAMPLES[:3], ROWS[:3], energy=np.zeros(3))
    with pytest.raises(ValueError, match="cannot be named index"):
        directory.write_batch(0, SAMPLES[:3], ROWS[:3], index=np.zeros(3, int))
    with pytest.raises(ValueError, match="the batch is empty"):
        directory.write_batch(0, SAMPLES[:0], [])
    with pytest.raises(ValueError, match="holds no samples yet"):
        directory.finish()


@pytest.mark.parametrize("damage", [b"", b"no zip", None])
def test_a_damaged_batch_is_named(finished, damage):
    path = finished / "batches" / "000003-000007.npz"
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    with pytest.raises(ValueError, match=r"000003-000007\.npz cannot be read .* move it away"):
        SampleDirectory.open(finished, RUN).read()


def test_run_json_says_what_the_run_is(finished):
    assert json.loads((finished / "run.json").read_text(encoding="utf-8"))["run"] == RUN


def test_files_are_readable_by_whom_the_umask_allows(tmp_path):
    previous = os.umask(0o022)
    try:
        directory = SampleDirectory.open(tmp_path / "run", RUN)
        write(directory, (0, 2))
        directory.finish()
    finally:
        os.umask(previous)
    modes = {x.name: x.stat().st_mode & 0o777 for x in directory.path.glob("samples.*")}
    assert modes == dict.fromkeys(("samples.csv", "samples.extxyz", "samples.npz"), 0o644)
