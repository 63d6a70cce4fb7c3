"""The data set that samples are measured against."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from miad_jax.data import (
    Records,
    available_splits,
    from_structures,
    load_dataset,
    split_fingerprint,
)
from miad_jax.evaluation import reference as reference_module
from miad_jax.evaluation.pipeline import evaluate
from miad_jax.evaluation.reference import Reference, compositions, load_reference


def rocksalt(cation, anion, length):
    lattice = Lattice.cubic(length)
    return Structure.from_spacegroup("Fm-3m", lattice, [cation, anion], [[0, 0, 0], [0.5, 0, 0]])


NACL = rocksalt("Na", "Cl", 5.64)
KCL = rocksalt("K", "Cl", 6.29)
CSCL = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture(scope="module")
def reference():
    train = from_structures([KCL.get_primitive_structure()] * 3)
    records = Records(["a", "b", "c"], {}, (), "abc")
    return Reference("made", train, records, None, [train], np.zeros(3), "abc")


def test_compositions_leave_padding_out():
    found = compositions(from_structures([NACL, CSCL]))
    assert [x.formula for x in found] == ["Na4 Cl4", "Cs1 Cl1"]


def test_a_list_of_crystals_is_a_reference():
    found = evaluate([CSCL, KCL], [NACL, KCL], calculator="none", coverage=False)
    assert found.table["novel"].tolist() == [True, False]
    assert found.settings["reference"] == "2 structures"
    fingerprints = [load_reference(x).fingerprint for x in ([NACL, KCL], [NACL, KCL], [NACL])]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_a_reference_without_test_split_or_energies(reference, tmp_path):
    (tmp_path / "train.csv").write_text(f'cif\n"{NACL.to(fmt="cif")}"\n')
    found = load_reference(str(tmp_path))
    assert found.test is None
    assert found.formation_energies_ev_per_atom is None
    assert found.histogram.tolist() == [0, 0, 1]
    twice = replace(reference, crystals=[reference.train, found.train])
    assert twice.structures([0, 3])[1].composition.reduced_formula == "NaCl"
    assert json.dumps(found.fingerprint)


def test_a_split_that_cannot_be_read_is_no_missing_split(tmp_path):
    (tmp_path / "train.csv").write_text(f'cif\n"{NACL.to(fmt="cif")}"\n')
    assert available_splits(tmp_path) == ["train"]
    (tmp_path / "test.csv").write_text("structure\nnothing\n")
    assert available_splits(tmp_path) == ["train", "test"]
    with pytest.raises(ValueError, match="has no column 'cif'"):
        load_reference(str(tmp_path))


def test_only_what_is_asked_for_is_read(tmp_path, monkeypatch):
    cif = NACL.to(fmt="cif")
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.csv").write_text(f'cif,formation_energy_per_atom\n"{cif}",-2\n')
    read = []
    real = reference_module.load_dataset

    def load(path, split, **settings):
        read.append(split)
        return real(path, split, **settings)

    monkeypatch.setattr(reference_module, "load_dataset", load)
    some = load_reference(tmp_path, splits=("train",))
    assert read == ["train"]
    assert some.test is None
    assert list(some.contents) == ["train"]
    assert len(some.formation_energies_ev_per_atom) == len(some.compositions()) == 1
    whole = load_reference(tmp_path)
    assert read[1:] == ["train", "val", "test"]
    assert len(whole.compositions()) == 3
    assert some.fingerprint == whole.fingerprint


def test_a_split_is_identified_without_reading_it(tmp_path):
    (tmp_path / "train.csv").write_text(f'cif\n"{NACL.to(fmt="cif")}"\n')
    for name in (tmp_path, "prototypes"):
        _, records = load_dataset(name, "train")
        assert split_fingerprint(name, "train") == records.fingerprint


def test_the_embedded_set_has_all_splits():
    assert available_splits("prototypes") == ["train", "val", "test"]
