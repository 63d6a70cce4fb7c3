"""Data of one's own: whatever holds crystals, divided by a seed, less what is not wanted."""

import zipfile

import ase.io
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from miad_jax import from_structures
from miad_jax.config import default_config, validate
from miad_jax.data.formats import csv_text
from miad_jax.training import load_training_data
from miad_jax.training.split import validation_part

PAIRS = ["NaCl", "KCl", "CsCl", "RbCl", "NaBr", "KBr", "CsBr", "RbBr", "NaI", "KI"]
LONG = Structure(Lattice.tetragonal(4, 31), ["Li", "F"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def salts():
    """Two cells each of ten salts."""
    places = [[0, 0, 0], [0.5, 0.5, 0.5]]
    return [
        Structure(Lattice.cubic(4 + size / 10), elements(pair), places, properties={"size": size})
        for pair in PAIRS
        for size in (1, 2)
    ]


def elements(pair):
    return next((pair[:n], pair[n:]) for n in (2, 1) if pair[:n] in ("Na", "K", "Cs", "Rb"))


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("MIAD_JAX_CACHE", str(tmp_path / "cache"))
    return default_config()


def as_folder(folder):
    (folder / "deep").mkdir(parents=True)
    for i, salt in enumerate(salts()):
        name = f"{i:02d}.cif" if i % 2 else f"{i:02d}.vasp"
        (folder / name).write_text(salt.to(fmt="cif" if i % 2 else "poscar"))
    return folder


def as_zip(folder):
    with zipfile.ZipFile(folder / "salts.zip", "w") as archive:
        for i, salt in enumerate(salts()):
            archive.writestr(f"{i:02d}.cif", salt.to(fmt="cif"))
    return folder / "salts.zip"


def as_csv(folder):
    rows = [{"cif": x.to(fmt="cif"), "size": x.properties["size"]} for x in salts()]
    (folder / "salts.csv").write_text(csv_text(rows))
    return folder / "salts.csv"


def as_extxyz(folder):
    frames = [AseAtomsAdaptor.get_atoms(x) for x in salts()]
    ase.io.write(folder / "salts.extxyz", frames)
    return folder / "salts.extxyz"


def as_train_alone(folder):
    (folder / "set").mkdir()
    as_csv(folder).rename(folder / "set" / "train.csv")
    return folder / "set"


def formulas(crystals):
    return sorted({tuple(sorted(x[x > 0].tolist())) for x in np.asarray(crystals.atom_types)})


@pytest.mark.parametrize("write", [as_folder, as_zip, as_csv, as_extxyz, as_train_alone])
def test_whatever_holds_crystals_is_divided_as_a_list_is(write, config, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    expected = load_training_data(config, salts())
    config.data.path = str(write(folder))
    loaded = load_training_data(config)
    assert (len(loaded.train), len(loaded.validation)) == (18, 2)
    assert formulas(loaded.validation) == formulas(expected.validation)
    assert not set(formulas(loaded.validation)) & set(formulas(loaded.train))
    for name in ("lattice", "frac_coords"):
        found, wanted = (getattr(x.validation, name) for x in (loaded, expected))
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert loaded.remarks == [
        f"{config.data.path} has no validation split: 2 of 20 crystals are for validation, chosen "
        "by config.seed = 0 (config.data.val_fraction = 0.1)",
        f"18 training and 2 validation crystals of {config.data.path}",
    ]


def test_properties_of_a_list_stay_with_their_crystals(config):
    config.data.properties = ("size",)
    config.data.val_fraction = 0.4
    loaded = load_training_data(config, salts())
    edges = np.asarray(loaded.train.lattice)[:, 0, 0]
    sizes = loaded.train_condition.properties["size"]
    assert len(sizes) == 12
    np.testing.assert_allclose(4 + sizes / 10, edges, atol=1e-5)


def test_what_is_left_out_is_said_with_number_and_reason(config):
    large = Structure(Lattice.cubic(8), ["Na"] * 3, [[0, 0, 0], [0.2, 0, 0], [0, 0.3, 0.1]])
    config.data.path, config.data.max_edge_angstrom, config.data.max_num_atoms = "mine", 30.0, 2
    loaded = load_training_data(config, [*salts(), LONG, large])
    assert loaded.num_left_out == 2
    assert np.linalg.norm(loaded.train.lattice, axis=-1).max() < 30
    assert loaded.remarks[:2] == [
        "mine: 1 crystals are left out with more than config.data.max_num_atoms = 2 atoms: 21 (3)",
        "mine: 1 crystals are left out with an edge beyond config.data.max_edge_angstrom = 30.0 Å: "
        "20 (31 Å)",
    ]
    config.data.max_edge_angstrom = 2.0
    with pytest.raises(ValueError, match=r"no crystal is left\. mine: 1 crystals .*edge beyond"):
        load_training_data(config, [*salts(), large])


def test_a_set_with_a_validation_split_is_not_divided(config):
    config.data.max_num_atoms = 4
    config.data.val_fraction = 0.4
    loaded = load_training_data(config)
    config.data.val_fraction = 0.1
    again = load_training_data(config)
    assert len(loaded.train) == len(again.train)
    np.testing.assert_array_equal(loaded.validation.lattice, again.validation.lattice)


def test_a_part_is_a_function_of_the_seed():
    crystals = from_structures(salts())
    parts = [validation_part(crystals, 0.2, seed) for seed in (0, 0, 1)]
    assert [x.sum() for x in parts] == [4, 4, 4]
    assert (parts[0] == parts[1]).all()
    assert (parts[0] != parts[2]).any()


def test_crystals_of_one_formula_are_divided_singly():
    carbon = from_structures([Structure(Lattice.cubic(a), ["C"], [[0] * 3]) for a in range(2, 12)])
    assert validation_part(carbon, 0.3, 0).sum() == 3
    assert validation_part(carbon[:2], 0.9, 0).sum() == 1
    with pytest.raises(ValueError, match="1 crystal cannot be divided"):
        validation_part(carbon[:1], 0.5, 0)


@pytest.mark.parametrize(
    ("field", "value"), [("val_fraction", 0.0), ("val_fraction", 1.0), ("max_edge_angstrom", -1.0)]
)
def test_impossible_fields_are_refused(field, value):
    config = default_config()
    config.data[field] = value
    with pytest.raises(ValueError, match=f"config.data.{field} is {value}"):
        validate(config)
