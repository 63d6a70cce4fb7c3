import csv
import gzip
import os
import subprocess
import sys
import textwrap
import tracemalloc
import weakref
import zipfile
from pathlib import Path

import ase.io
import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition, Lattice, Structure

from miad_jax.data import (
    Records,
    from_structures,
    load,
    load_dataset,
    load_packed,
    pack,
    packed,
    packing,
    read_rows,
    save_packed,
    standard,
    to_atoms,
    to_structures,
)
from miad_jax.data.packed import TEXT
from miad_jax.data.row import Row
from miad_jax.parallel.executor import Serial, WorkerFailure
from miad_jax.parallel.pool import Pool
from miad_jax.parallel.progress import Progress
from miad_jax.storage.cache import default_cache_dir
from miad_jax.storage.hashed import hashed_npz, read_npz

SALT = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
)
QUARTZ = Structure.from_spacegroup(
    "P3_121",
    Lattice.hexagonal(4.914, 5.405),
    ["Si", "O"],
    [[0.4697, 0, 1 / 3], [0.4133, 0.2672, 0.4521]],
)
DISORDERED = Structure(Lattice.cubic(3), [Composition("Fe0.5Ni0.5")], [[0, 0, 0]])
TWO_WORKERS = 16
"""Rows that are enough for two worker processes in these tests."""
CIFS = {"salt": SALT.to(fmt="cif"), "quartz": QUARTZ.to(fmt="cif")}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MIAD_JAX_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def _workers_for_few_rows(monkeypatch):
    """Workers start for sets as small as those of a test, and share their rows."""
    monkeypatch.setattr(packing, "_ROWS_PER_WORKER", TWO_WORKERS // 2)
    monkeypatch.setattr(packing, "_CHUNK", 4)


def write_csv(path, cifs=CIFS, energies=(0.5, -1)):
    path.parent.mkdir(exist_ok=True)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="") as file:
        table = csv.writer(file)
        table.writerow(["material_id", "energy", "cif"])
        energies = [*energies, *[""] * len(cifs)]
        table.writerows(
            [[name, e, cif] for (name, cif), e in zip(cifs.items(), energies, strict=False)]
        )
    return path


def assert_equal(first, second):
    """Crystals and records are the same, bit for bit."""
    for name in ("lattice", "frac_coords", "atom_types", "mask"):
        x, y = getattr(first[0], name), getattr(second[0], name)
        np.testing.assert_array_equal(x, y)
        assert x.dtype == y.dtype
    assert list(first[1].ids) == list(second[1].ids)
    assert list(first[1].rejected) == list(second[1].rejected)
    assert first[1].fingerprint == second[1].fingerprint
    assert first[1].columns.keys() == second[1].columns.keys()
    for name, column in first[1].columns.items():
        np.testing.assert_array_equal(column, second[1].columns[name])


def make_source(folder, kind):
    """The two crystals as a file of a kind, or a folder of CIFs."""
    if kind in ("csv", "csv.gz"):
        return write_csv(folder / f"set.{kind}")
    if kind == "zip":
        with zipfile.ZipFile(folder / "set.zip", "w") as archive:
            for name, cif in CIFS.items():
                archive.writestr(f"{name}.cif", cif)
        return folder / "set.zip"
    if kind == "extxyz":
        atoms = to_atoms(from_structures([SALT, QUARTZ]))
        for name, x in zip(CIFS, atoms, strict=True):
            x.info["id"] = name
        ase.io.write(folder / "set.extxyz", atoms, format="extxyz")
        return folder / "set.extxyz"
    (folder / "cifs").mkdir()
    for name, cif in CIFS.items():
        (folder / "cifs" / f"{name}.cif").write_text(cif)
    return folder / "cifs"


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "zip", "extxyz", "folder"])
@pytest.mark.parametrize("split", ["train", "all"])
def test_every_kind_of_source_gives_the_standard_cells(tmp_path, kind, split):
    crystals, records = load_dataset(make_source(tmp_path, kind), split)

    found = dict(zip(records.ids, to_structures(crystals), strict=True))
    assert found.keys() == {"salt", "quartz"}
    assert len(found["salt"]) == 2
    assert len(found["quartz"]) == 9
    assert StructureMatcher().fit(found["salt"], SALT)
    assert StructureMatcher().fit(found["quartz"], QUARTZ)


def test_columns_are_numbers_or_text(tmp_path):
    path = tmp_path / "set.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "energy", "source", "nothing", "cif"])
        table.writerow(["a", "0.5", "mp_20", "", CIFS["salt"]])
        table.writerow(["b", "", "3", "", CIFS["quartz"]])

    _, records = load_dataset(path)

    np.testing.assert_array_equal(records.columns["energy"], [0.5, np.nan])
    assert records.columns["source"].tolist() == ["mp_20", "3"]
    assert records.columns["nothing"].tolist() == ["", ""]


BAD = {
    "mangled": CIFS["quartz"].replace("_cell_length_a", "_cell_lost"),
    "empty": "",
    "disordered": DISORDERED.to(fmt="cif"),
    "fermium": Structure(Lattice.cubic(3), ["Fm"], [[0, 0, 0]]).to(fmt="cif"),
    "prose": "this is no CIF",
}
COARSE = CIFS["quartz"].replace("0.33333333", "0.3333")
"""A CIF of which the parser warns."""


def test_bad_rows_are_listed_with_their_reason_and_the_rest_is_used(tmp_path):
    good = {f"good-{i}": CIFS["salt"] for i in range(10)}
    cifs = {"good-0": good["good-0"], **BAD, **good, "quartz": CIFS["quartz"]}
    path = write_csv(tmp_path / "set.csv", cifs, ())

    crystals, records = load_dataset(path)

    assert list(records.ids) == [*good, "quartz"]
    assert len(crystals) == len(records) == len(good) + 1
    assert crystals.num_atoms.tolist() == [2] * len(good) + [9]
    reasons = dict(records.rejected)
    assert list(reasons) == list(BAD)
    assert all(reasons.values())
    assert "no CIF text" in reasons["empty"]
    assert "disordered" in reasons["disordered"]
    assert "[100]" in reasons["fermium"]
    assert records.describe().startswith(f"{len(good) + 1} crystals, 5 rejected: mangled (")
    assert_equal((crystals, records), load_dataset(path))


def test_a_folder_of_poscars_is_a_dataset(tmp_path):
    for name, structure in (("salt", SALT), ("quartz", QUARTZ)):
        (tmp_path / f"POSCAR_{name}").write_text(structure.to(fmt="poscar"))
    lines = SALT.to(fmt="poscar").splitlines()
    nameless = [*lines[:5], *lines[6:8], *(x.rpartition(" ")[0] for x in lines[8:])]
    (tmp_path / "nameless.vasp").write_text("\n".join(nameless) + "\n")
    (tmp_path / "empty.vasp").touch()
    (tmp_path / "prose.vasp").write_text("this is no POSCAR")

    crystals, records = load_dataset(tmp_path)

    assert list(records.ids) == ["POSCAR_quartz", "POSCAR_salt"]
    assert crystals.num_atoms.tolist() == [9, 2]
    reasons = dict(records.rejected)
    assert sorted(reasons) == ["empty", "nameless", "prose"]
    assert reasons["nameless"].startswith("does not name its elements")
    assert reasons["empty"] == "has no POSCAR text"
    (tmp_path / "POSCAR_salt").rename(tmp_path / "POSCAR_sodium")
    assert load_dataset(tmp_path)[1].fingerprint != records.fingerprint


def test_workers_give_what_this_process_gives_and_say_nothing(tmp_path, capfd, recwarn):
    cifs = {str(i): [CIFS["salt"], CIFS["quartz"], COARSE][i % 3] for i in range(TWO_WORKERS)}
    rows = list(read_rows(write_csv(tmp_path / "set.csv", cifs | BAD, ())))

    here = pack(rows, num_workers=0)
    assert [name for name, _ in here[1].rejected] == list(BAD)
    assert_equal(pack(rows, num_workers=2), here)
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")
    with pytest.warns(UserWarning, match="rounded to ideal values"):
        Structure.from_str(COARSE, fmt="cif")


@pytest.mark.parametrize(
    ("num_rows", "num_workers", "executor", "expected"),
    [(TWO_WORKERS, 2, Pool, 2), (TWO_WORKERS - 1, 2, Serial, 1), (10_000, 3, Pool, 3),
     (10_000, 1, Serial, 1), (10_000, 0, Serial, 1)],
)  # fmt: skip
def test_few_rows_start_no_process(num_rows, num_workers, executor, expected):
    found = packing._executor(num_rows, num_workers)
    assert isinstance(found, executor)
    assert found.num_workers == expected


def test_a_negative_number_of_workers_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"num_workers is -1; allowed: 0 \(this process\)"):
        load_dataset(write_csv(tmp_path / "set.csv"), num_workers=-1)


def test_the_row_over_which_a_worker_dies_is_rejected_and_no_other(tmp_path):
    class Dying(Serial):
        def map(self, function, requests, *, seconds=None):
            for index, found in super().map(function, requests, seconds=seconds):
                deadly = any("deadly" in source for source in requests[index][0])
                yield index, WorkerFailure("took longer than 3 s") if deadly else found

    good = dict.fromkeys(map(str, range(10)), CIFS["quartz"])
    path = write_csv(tmp_path / "set.csv", good | {"deadly": "data_deadly"}, ())

    crystals, records = pack(read_rows(path), executor=Dying())

    assert len(crystals) == len(good)
    assert records.rejected == [("deadly", "its reader was lost: took longer than 3 s")]


def test_workers_import_neither_jax_nor_the_package():
    code = f"""
        import runpy, sys
        runpy.run_path({standard.__file__!r}, run_name="worker")
        assert "jax" not in sys.modules
        assert "miad_jax" not in sys.modules
    """
    subprocess.run([sys.executable, "-P", "-c", textwrap.dedent(code)], check=True)


def test_a_set_without_one_good_row_is_refused(tmp_path):
    path = write_csv(tmp_path / "set.csv", {"a": "", "b": "prose"})

    with pytest.raises(
        ValueError, match="none of the 2 rows could be used; the first, a: has no CIF"
    ):
        load_dataset(path)


def test_the_progress_bar_goes_to_standard_error_when_asked(tmp_path, capsys):
    path = write_csv(tmp_path / "set.csv")

    load_dataset(path, progress=False)
    assert capsys.readouterr() == ("", "")
    load_dataset(path, niggli=False, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/2" in err


def test_an_executor_and_a_progress_of_ones_own_are_used(tmp_path):
    seen = []

    class Mine(Serial):
        def map(self, function, requests, *, seconds=None):
            seen.append(len(requests))
            return super().map(function, requests, seconds=seconds)

    class Told(Progress):
        def bar(self, description, total, unit="", done=0):
            seen.append((description, total))
            return super().bar(description, total, unit, done)

    load_dataset(write_csv(tmp_path / "set.csv"), executor=Mine(), progress=Told())
    assert seen == [("reading", 2), 1, 0]


def test_settings_change_the_cell(tmp_path):
    path = write_csv(tmp_path / "set.csv", {"salt": CIFS["salt"]})
    as_it_is, _ = load_dataset(path, primitive=False, niggli=False)
    primitive, _ = load_dataset(path, niggli=False)

    assert as_it_is.num_atoms.tolist() == [8]
    assert primitive.num_atoms.tolist() == [2]
    np.testing.assert_allclose(as_it_is.lattice[0], 5.69 * np.eye(3), atol=1e-5)


@pytest.mark.parametrize("niggli", [True, False])
def test_a_left_handed_cell_keeps_its_chirality(niggli):
    """Four different atoms about a corner: their signed volume is that of no mirror image."""
    lattice = np.array([[0, 5.0, 0.3], [4.5, 0, 0], [0.2, 0, 6.0]])
    positions = np.array([[0, 0, 0], [1.0, 0, 0], [0, 1.1, 0], [0, 0, 1.2]])
    left_handed = Structure(
        lattice, ["H", "C", "N", "O"], positions, coords_are_cartesian=True, to_unit_cell=True
    )
    assert np.linalg.det(lattice) < 0

    lattice, frac_coords, numbers = standard.standard_arrays(
        left_handed, primitive=False, niggli=niggli
    )

    assert np.linalg.det(lattice) > 0
    bonds = frac_coords - frac_coords[np.flatnonzero(numbers == 1)]
    bonds = (bonds - np.round(bonds)) @ lattice
    hydrogen, carbon, nitrogen, oxygen = bonds[np.argsort(numbers)]
    np.testing.assert_array_equal(hydrogen, 0)
    volume = np.dot(carbon, np.cross(nitrogen, oxygen))
    assert volume == pytest.approx(1.0 * 1.1 * 1.2, rel=1e-4)


def test_missing_test_split_says_what_is_there(tmp_path):
    write_csv(tmp_path / "set" / "train.csv")
    write_csv(tmp_path / "set" / "val.csv.gz")

    assert len(load_dataset(tmp_path / "set", "val")[0]) == 2
    assert len(load_dataset(tmp_path / "set", "all")[0]) == 4
    with pytest.raises(
        ValueError, match=r"no split 'test'; found train\.csv, val\.csv\.gz: .* or add test\.csv"
    ):
        load_dataset(tmp_path / "set", "test")


def test_splits_may_be_folders_of_cifs(tmp_path):
    for split, name in [("train", "salt"), ("test", "quartz")]:
        (tmp_path / "set" / split).mkdir(parents=True)
        (tmp_path / "set" / split / f"{name}.cif").write_text(CIFS[name])

    assert list(load_dataset(tmp_path / "set", "train")[1].ids) == ["salt"]
    assert list(load_dataset(tmp_path / "set", "test")[1].ids) == ["quartz"]


def test_a_single_file_has_no_val_split(tmp_path):
    with pytest.raises(ValueError, match="no splits, so there is no 'val': ask for 'train'"):
        load_dataset(write_csv(tmp_path / "set.csv"), "val")


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="split is 'dev'; allowed: train, val, test, all"):
        load_dataset(write_csv(tmp_path / "set.csv"), "dev")


def test_files_beside_those_of_the_splits_are_named(tmp_path):
    for name in ("train.csv", "valid.csv", "properties.csv", "test.zip", "test.csv", ".old.zip"):
        (tmp_path / "set" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_text("id,gap\n0,1\n")
    write_csv(tmp_path / "set" / "train.csv")
    write_csv(tmp_path / "set" / "valid.csv")
    with pytest.warns(
        UserWarning, match=r"without test\.zip, valid\.csv: .* test\.csv, train\.csv"
    ):
        load_dataset(tmp_path / "set", cache_dir=tmp_path / "cache")


def test_a_name_of_any_bytes_is_read(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / os.fsdecode(b"b\xff.cif")).write_text(SALT.to(fmt="cif"))
    assert len(load_dataset(tmp_path / "set", cache_dir=tmp_path / "cache")[0]) == 1


def test_an_empty_name_is_not_this_folder():
    with pytest.raises(ValueError, match="name of the dataset is empty"):
        load_dataset("")


def test_an_unknown_name_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'prototype' \(did you mean 'prototypes'\?\); allowed"):
        load_dataset("prototype")
    with pytest.raises(ValueError, match="called 'qm_9'; allowed are 'prototypes', or the path"):
        load_dataset("qm_9")


def test_a_second_load_comes_from_the_cache(tmp_path, monkeypatch):
    path = write_csv(tmp_path / "set.csv")
    first = load_dataset(path)

    monkeypatch.setattr(load, "pack", None)

    assert_equal(first, load_dataset(path))


def test_a_cached_load_imports_no_pymatgen(tmp_path):
    path = write_csv(tmp_path / "set.csv")
    load_dataset(path)
    code = f"""
        import sys
        from miad_jax.data import load_dataset
        crystals, records = load_dataset({str(path)!r})
        assert len(crystals) == 2
        wrong = {{"pymatgen", "ase", "tqdm"}} & sys.modules.keys()
        assert not wrong, wrong
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_the_fingerprint_changes_with_content_and_settings_only(tmp_path, cache):
    path = write_csv(tmp_path / "a.csv")
    first = load_dataset(path)[1].fingerprint
    copied = load_dataset(write_csv(tmp_path / "b.csv"))[1].fingerprint
    content = load_dataset(write_csv(tmp_path / "c.csv", energies=(0.5, -2)))[1].fingerprint
    settings = load_dataset(path, niggli=False)[1].fingerprint

    assert first == copied
    assert len({first, content, settings}) == 3
    assert len(list((cache / "datasets").iterdir())) == 3


def test_a_changed_file_is_read_again(tmp_path):
    path = write_csv(tmp_path / "set.csv")
    load_dataset(path)
    write_csv(path, energies=(7, 8))

    assert load_dataset(path)[1].columns["energy"].tolist() == [7, 8]


def test_a_new_cif_in_a_folder_is_seen(tmp_path):
    folder = make_source(tmp_path, "folder")
    load_dataset(folder)
    (folder / "third.cif").write_text(CIFS["salt"])

    assert list(load_dataset(folder)[1].ids) == ["quartz", "salt", "third"]


@pytest.mark.parametrize("damage", ["cut", "prose", "empty", "flipped"])
def test_a_damaged_cache_is_made_again(tmp_path, cache, damage):
    path = write_csv(tmp_path / "set.csv")
    first = load_dataset(path)
    (cached,) = (cache / "datasets").iterdir()
    whole = cached.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0xFF
    cached.write_bytes(
        {"cut": whole[:-100], "prose": b"no cache", "empty": b"", "flipped": bytes(flipped)}[damage]
    )

    with pytest.warns(UserWarning, match="not a readable packed dataset.* made again"):
        second = load_dataset(path)

    assert_equal(first, second)
    assert cached.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_said_and_survived(tmp_path, cache):
    cache.write_text("a file where the folder should be")

    with pytest.warns(UserWarning, match="could not be kept .* MIAD_JAX_CACHE"):
        crystals, _ = load_dataset(write_csv(tmp_path / "set.csv"))

    assert len(crystals) == 2


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "set.npz"
    crystals = from_structures([SALT])
    save_packed(path, crystals, Records(["old"]))

    def interrupted(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(packed.np, "savez_compressed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_packed(path, crystals, Records(["new"]))

    assert list(load_packed(path)[1].ids) == ["old"]
    assert [x.name for x in tmp_path.iterdir()] == ["set.npz"]


def test_packed_files_keep_everything_and_are_equal_byte_for_byte(tmp_path):
    crystals = from_structures([SALT, QUARTZ], size=20)
    columns = {"energy": np.array([0.5, np.nan]), "label": np.array(["β", "α-SiO2"])}
    records = Records(["a", "b"], columns, [("c", "has no atoms")], "f" * 64)

    save_packed(tmp_path / "one.npz", crystals, records)
    save_packed(tmp_path / "two.npz", crystals, records)

    assert_equal((crystals, records), load_packed(tmp_path / "one.npz", size=20))
    assert load_packed(tmp_path / "one.npz")[0].size == 9
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with pytest.raises(ValueError, match="has 9 atoms, more than size=8"):
        load_packed(tmp_path / "one.npz", size=8)


def test_files_of_the_earlier_format_are_read(tmp_path):
    crystals = from_structures([SALT, QUARTZ])
    columns = {"energy": np.array([0.5, np.nan]), "label": np.array(["β", "α-SiO2"])}
    records = Records(["a", "b"], columns, [("c", "has no atoms")], "f" * 64)
    save_packed(tmp_path / "now.npz", crystals, records)
    arrays = read_npz(tmp_path / "now.npz")
    arrays |= {
        "format_version": np.array(1),
        "ids": np.array(records.ids),
        "rejected": np.array(records.rejected),
        "column.label": columns["label"],
    }
    arrays = {name: x for name, x in arrays.items() if not name.startswith("ends.")}
    (tmp_path / "before.npz").write_bytes(hashed_npz(arrays))

    assert_equal(load_packed(tmp_path / "before.npz"), (crystals, records))


def test_the_cache_of_the_earlier_format_serves(tmp_path, monkeypatch):
    path = write_csv(tmp_path / "set.csv")
    first = load_dataset(path, cache_dir=tmp_path)
    [cached] = (tmp_path / "datasets").iterdir()
    cached.rename(cached.with_name(cached.name.replace("-v2-", "-v1-")))
    monkeypatch.setattr("miad_jax.data.load.pack", None)

    assert_equal(load_dataset(path, cache_dir=tmp_path), first)


def test_a_long_text_takes_no_more_room_in_the_others(tmp_path):
    crystals = from_structures([SALT] * 500)
    ids = ["x" * 10**6, *map(str, range(499))]

    tracemalloc.start()
    save_packed(tmp_path / "set.npz", crystals, Records(ids, {"label": np.array(ids, TEXT)}))
    found = load_packed(tmp_path / "set.npz")[1]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert found.ids == ids
    assert found.columns["label"].tolist() == ids
    assert most < 40e6


class Counting(Serial):
    """Counts crystals, and ends like a kill before one more than so many."""

    def __init__(self, most: int = 1000):
        self.num, self.most = 0, most

    def map(self, function, requests, *, seconds=None):
        self.num += sum(len(sources) for sources, _ in requests)
        if self.num > self.most:
            raise KeyboardInterrupt
        return super().map(function, requests, seconds=seconds)


def test_packing_goes_on_after_its_last_whole_part(tmp_path, monkeypatch):
    monkeypatch.setattr("miad_jax.data.packing.ROWS_PER_PART", 3)
    texts = {str(i): text for i, text in enumerate([CIFS["quartz"], "no CIF", CIFS["salt"]] * 3)}
    path = write_csv(tmp_path / "set.csv", {**texts, "last": CIFS["salt"]}, ())
    whole = load_dataset(path, cache_dir=tmp_path / "whole")

    with pytest.raises(KeyboardInterrupt):
        load_dataset(path, cache_dir=tmp_path, executor=Counting(most=9))
    rest = Counting()
    found = load_dataset(path, cache_dir=tmp_path, executor=rest)

    assert rest.num == 1
    assert_equal(found, whole)
    assert len(found[1].rejected) == 3
    assert [x.suffix for x in (tmp_path / "datasets").iterdir()] == [".npz"], "parts are gone"


def test_a_part_that_is_damaged_is_packed_again(tmp_path, monkeypatch):
    monkeypatch.setattr("miad_jax.data.packing.ROWS_PER_PART", 2)
    rows = [Row(str(i), CIFS["salt"], {"n": str(i)}) for i in range(5)]
    whole = pack(rows)
    with pytest.raises(KeyboardInterrupt):
        pack(rows, folder=tmp_path, executor=Counting(most=4))
    (tmp_path / "000000.npz").write_bytes(b"damaged")

    rest = Counting()
    assert_equal(pack(rows, folder=tmp_path, executor=rest), whole)
    assert rest.num == 3


def test_rows_are_not_all_held_at_once(monkeypatch):
    monkeypatch.setattr("miad_jax.data.packing.ROWS_PER_PART", 4)
    seen, most = [], []

    def rows():
        for i in range(40):
            row = Row(str(i), CIFS["salt"])
            seen.append(weakref.ref(row))
            most.append(sum(x() is not None for x in seen))
            yield row

    assert len(pack(rows(), num_rows=40, num_workers=0)[0]) == 40
    assert max(most) <= 10


def test_records_that_do_not_fit_the_crystals_are_refused(tmp_path):
    crystals = from_structures([SALT, QUARTZ])

    with pytest.raises(ValueError, match="2 crystals but 1 values in 'ids'"):
        save_packed(tmp_path / "set.npz", crystals, Records(["a"]))
    with pytest.raises(ValueError, match="2 crystals but 3 values in 'energy'"):
        save_packed(tmp_path / "set.npz", crystals, Records(["a", "b"], {"energy": np.zeros(3)}))
    with pytest.raises(ValueError, match=r"mask \[n, atoms\]; this mask has shape \[9\]"):
        save_packed(tmp_path / "set.npz", crystals[0], Records(["a"]))


def test_a_packed_file_is_a_dataset_with_splits(tmp_path):
    crystals = from_structures([SALT, QUARTZ, SALT])
    splits = {"split": np.array([0, 2, 0], np.int8)}
    save_packed(tmp_path / "set.npz", crystals, Records(["a", "b", "c"], splits))

    train, records = load_dataset(tmp_path / "set.npz")
    test, test_records = load_dataset(tmp_path / "set.npz", "test")

    assert list(records.ids) == ["a", "c"]
    assert list(test_records.ids) == ["b"]
    assert train.num_atoms.tolist() == [8, 8]
    assert test.num_atoms.tolist() == [9]
    assert len(load_dataset(tmp_path / "set.npz", "all")[0]) == 3
    assert records.fingerprint != test_records.fingerprint
    with pytest.raises(ValueError, match="no crystals in split 'val'"):
        load_dataset(tmp_path / "set.npz", "val")


def test_the_cache_folder_follows_the_environment(monkeypatch):
    assert default_cache_dir() == Path(os.environ["MIAD_JAX_CACHE"])
    monkeypatch.delenv("MIAD_JAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert default_cache_dir() == Path("/elsewhere/miad_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache" / "miad_jax"


@pytest.mark.filterwarnings("ignore:Issues encountered while parsing CIF")
def test_real_crystals_are_packed_to_their_standard_cells(tmp_path):
    if "MIAD_DATA" not in os.environ:
        pytest.skip("MIAD_DATA names no folder with mp_20_slice")
    source = Path(os.environ["MIAD_DATA"]) / "mp_20_slice" / "val.csv.gz"
    with gzip.open(source, "rt", newline="") as file:
        rows = [row for row, _ in zip(csv.reader(file), range(201), strict=False)]
    path = tmp_path / "slice.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)

    crystals, records = load_dataset(path)

    assert len(records) == 200
    assert not records.rejected
    cif, name = rows[0].index("cif"), rows[0].index("material_id")
    assert list(records.ids) == [row[name] for row in rows[1:]]
    assert records.columns["e_above_hull"].max() <= 0.1
    for index in range(0, 200, 10):
        expected = Structure.from_str(rows[1 + index][cif], fmt="cif")
        expected = expected.get_primitive_structure().get_reduced_structure()
        (found,) = to_structures(crystals[index])
        assert found.composition == expected.composition
        np.testing.assert_allclose(
            found.lattice.parameters, expected.lattice.parameters, rtol=1e-5, atol=1e-4
        )
        np.testing.assert_allclose(
            found.distance_matrix, expected.distance_matrix, rtol=1e-4, atol=1e-3
        )


def test_a_list_is_loaded_as_its_files_are(tmp_path):
    named = [QUARTZ.copy(properties={"material_id": "quartz", "gap": 8.9, "tags": ["a"]}), SALT]
    crystals, records = load_dataset(named)
    assert list(records.ids) == ["quartz", "1"]
    assert list(records.columns) == ["gap"]
    np.testing.assert_array_equal(records.columns["gap"], [8.9, np.nan])
    files = load_dataset(write_csv(tmp_path / "set.csv", dict(reversed(CIFS.items()))))[0]
    np.testing.assert_array_equal(crystals.atom_types, files.atom_types)
    np.testing.assert_allclose(crystals.lattice, files.lattice, atol=1e-4)
    again = load_dataset(to_atoms(crystals))[1]
    assert len({records.fingerprint, again.fingerprint, load_dataset([SALT])[1].fingerprint}) == 3
    assert load_dataset(named)[1].fingerprint == records.fingerprint
    assert len(load_dataset(SALT)[0]) == 1
    with pytest.raises(ValueError, match="a list of crystals has no splits"):
        load_dataset(named, "val")


def test_texts_of_a_list_are_columns_and_tell_lists_apart():
    prints = set()
    for source in (["a", "b"], ["ab", ""], ["a", "c"]):
        named = [Structure.from_sites(SALT.sites, properties={"source": x}) for x in source]
        _, records = load_dataset(named)
        assert records.columns["source"].tolist() == source
        prints.add(records.fingerprint)
    assert len(prints) == 3


@pytest.mark.parametrize("pbc", [(True, True, False), False])
def test_what_is_not_periodic_is_no_crystal(pbc):
    (atoms,) = to_atoms(from_structures([SALT]))
    atoms.pbc = pbc
    slab = Structure(Lattice(np.eye(3) * 4, pbc=(True, True, False)), ["C"], [[0, 0, 0]])
    crystals, records = load_dataset([SALT, atoms, slab])
    assert len(crystals) == 1
    assert [name for name, _ in records.rejected] == ["1", "2"]
    assert all("of 3 directions" in reason for _, reason in records.rejected)


def test_a_folder_of_samples_is_read_once(tmp_path):
    folder = tmp_path / "samples"
    (folder / "cif").mkdir(parents=True)
    (folder / "batches").mkdir()
    (folder / "run.json").write_text("{}")
    (folder / "cif" / "000000_NaCl.cif").write_text(CIFS["salt"])
    ase.io.write(folder / "samples.extxyz", to_atoms(from_structures([SALT, QUARTZ])))
    assert len(load_dataset(folder)[0]) == 2
