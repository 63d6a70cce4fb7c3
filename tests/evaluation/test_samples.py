"""Samples of any kind: files of every kind, structures, batches; none is left out."""

import gzip
import zipfile

import ase.io
import jax
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from miad_jax.crystal import Crystal
from miad_jax.data import from_structures, to_atoms
from miad_jax.evaluation.samples import load_samples
from miad_jax.evaluation.validity.structure import NO_ATOM, NOT_FINITE
from miad_jax.mirage import infuse


def rocksalt(cation, anion, length):
    lattice = Lattice.cubic(length)
    return Structure.from_spacegroup("Fm-3m", lattice, [cation, anion], [[0, 0, 0], [0.5, 0, 0]])


NACL = rocksalt("Na", "Cl", 5.64)
CSCL = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.mark.parametrize("kind", ["cif folder", "zip", "extxyz", "csv", "csv.gz"])
def test_every_kind_of_input_gives_the_same_samples(tmp_path, kind):
    structures = [NACL, CSCL]
    cifs = [s.to(fmt="cif") for s in structures]
    path = tmp_path / f"samples.{kind.removeprefix('cif ')}"
    if kind == "cif folder":
        path.mkdir()
        for i, text in enumerate([*cifs, "this is no CIF"]):
            (path / f"{i}.cif").write_text(text)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for i, text in enumerate([*cifs, "this is no CIF"]):
                archive.writestr(f"{i}.cif", text)
    elif kind == "extxyz":
        ase.io.write(path, to_atoms(from_structures(structures)), format="extxyz")
    else:
        quoted = "\n".join(f'"{text}"' for text in [*cifs, "this is no CIF"])
        opener = gzip.open if kind == "csv.gz" else open
        with opener(path, "wt") as file:
            file.write(f"cif\n{quoted}\n")
    found = load_samples(path)
    assert [row["reduced_formula"] for row in found.rows[:2]] == ["NaCl", "CsCl"]
    assert [len(s) for s in found.structures[:2]] == [8, 2]
    if kind != "extxyz":
        assert found.structures[2] is None
        assert found.rows[2]["reason"]


def test_nothing_to_evaluate_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no sample to evaluate"):
        load_samples([])
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match="is empty"):
        load_samples(tmp_path / "empty.csv")


def test_ids_that_come_twice_are_told_apart(tmp_path):
    text = NACL.to(fmt="cif")
    lines = [f'{name},"{text}"' for name in ("a", "a", "b", "a (2)")]
    (tmp_path / "samples.csv").write_text("material_id,cif\n" + "\n".join(lines) + "\n")
    ids = [row["id"] for row in load_samples(tmp_path / "samples.csv").rows]
    assert ids[0] == "a"
    assert ids[2:] == ["b", "a (2)"]
    assert len(set(ids)) == 4


def test_a_batch_with_mirage_atoms_is_reduced():
    batch = infuse(jax.random.key(0), from_structures([NACL, CSCL]), 12)
    found = load_samples(batch)
    assert [len(x) for x in found.structures] == [8, 2]
    assert [row["reduced_formula"] for row in found.rows] == ["NaCl", "CsCl"]
    assert load_samples(found) is found


def test_what_is_no_crystal_in_a_batch_has_a_reason():
    cell = np.stack([4 * np.eye(3), np.full((3, 3), np.nan), 4 * np.eye(3)]).astype(np.float32)
    types = np.array([[11, 17], [11, 17], [0, 0]], np.int32)
    coords = np.tile(np.array([[0, 0, 0], [0.5, 0.5, 0.5]], np.float32), (3, 1, 1))
    batch = Crystal(cell, coords, types, np.ones((3, 2), bool))
    found = load_samples(batch)
    assert [row["reason"] for row in found.rows] == ["", NOT_FINITE, NO_ATOM]
    assert [x is None for x in found.structures] == [False, True, True]
    one = load_samples([batch[0], None, NACL])
    assert [row["reason"] for row in one.rows] == ["", "no crystal was given", ""]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "run.json is no record of samples"),
        ("{", "run.json is no record of samples"),
        ("[]", "run.json is no record of samples"),
        ('{"jobs": 3}', "run.json is no record of samples"),
        ('{"format": "miad_jax samples 1", "run": 7}', "run.json is no record of samples"),
        ('{"format": "another"}', "its format is 'another'"),
        ('{"format": "miad_jax samples 1", "run": {}}', "holds no samples yet"),
    ],
)
def test_a_foreign_or_emptied_record_is_named(tmp_path, content, said):
    (tmp_path / "batches").mkdir()
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=said):
        load_samples(tmp_path)
