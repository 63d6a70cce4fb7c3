import json

import jax.numpy as jnp
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from miad_jax.crystal import Crystal
from miad_jax.data.niggli import niggli_reduce
from miad_jax.data.structures import from_structures
from miad_jax.evaluation.describe import COLUMNS, describe, describe_all, spacegroup
from miad_jax.evaluation.validity.structure import (
    FLAT,
    MIRAGE_ATOM,
    NO_ATOM,
    NOT_AN_ELEMENT,
    NOT_FINITE,
    TOO_LARGE,
    min_distance,
)


def crystal(lattice, frac_coords, atom_types, mask=None):
    num = len(atom_types)
    return Crystal(
        np.asarray(lattice, np.float32),
        np.asarray(frac_coords, np.float32).reshape(num, 3),
        np.asarray(atom_types, np.int32),
        np.ones(num, bool) if mask is None else np.asarray(mask),
    )


def rock_salt():
    structure = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    return crystal(structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)


CUBE = 4.0 * np.eye(3)


def test_rock_salt():
    row = describe(rock_salt())
    assert tuple(row) == COLUMNS
    assert row["reduced_formula"] == "NaCl"
    assert row["formula"] == "Na4 Cl4"
    assert row["chemical_system"] == "Cl-Na"
    assert row["num_atoms"] == 8
    assert [row[x] for x in "abc"] == pytest.approx([5.64] * 3)
    assert [row[x] for x in ("alpha", "beta", "gamma")] == pytest.approx([90] * 3)
    assert row["volume_angstrom3"] == pytest.approx(5.64**3)
    assert row["density_g_per_cm3"] == pytest.approx(2.1636, abs=1e-3)
    assert row["min_distance_angstrom"] == pytest.approx(2.82)
    for symprec in ("0.1", "0.01"):
        assert row[f"spacegroup_{symprec}"] == "Fm-3m"
        assert row[f"spacegroup_number_{symprec}"] == 225
        assert row[f"spacegroup_number_pymatgen_{symprec}"] == 225
    assert row["valid_structure"] is True
    assert row["plausible"] is True
    assert row["implausible_because"] == ""
    assert row["refined"] is False
    assert row["reason"] == ""


def test_rows_are_plain_values():
    row = describe(rock_salt())
    assert json.loads(json.dumps(row)) == row


def test_agrees_with_pymatgen_on_a_triclinic_cell():
    lattice = Lattice.from_parameters(3.9, 5.1, 7.3, 71, 83, 98)
    frac_coords = np.array([[0.02, 0.1, 0.97], [0.95, 0.12, 0.05], [0.4, 0.6, 0.5]])
    structure = Structure(lattice, ["Fe", "O", "O"], frac_coords)
    row = describe(crystal(lattice.matrix, frac_coords, [26, 8, 8]))
    distances = structure.distance_matrix + 99 * np.eye(3)
    assert row["min_distance_angstrom"] == pytest.approx(distances.min(), rel=1e-5)
    assert row["density_g_per_cm3"] == pytest.approx(structure.density, rel=1e-3)
    niggli = lattice.get_niggli_reduced_lattice()
    assert [row[x] for x in "abc"] == pytest.approx(niggli.abc, rel=1e-5)
    angles = [row["alpha"], row["beta"], row["gamma"]]
    assert angles == pytest.approx(niggli.angles, rel=1e-5)
    assert angles == pytest.approx([109, 97, 98], rel=1e-5)
    assert row["spacegroup_0.01"] == "P1"


def test_tolerances_differ_for_a_distorted_crystal():
    salt = rock_salt()
    frac_coords = salt.frac_coords.copy()
    frac_coords[0, 0] += 0.03 / 5.64
    row = describe(crystal(salt.lattice, frac_coords, salt.atom_types))
    assert row["spacegroup_0.1"] == "Fm-3m"
    assert row["spacegroup_number_0.01"] < 225


def test_mirage_atoms_and_padding_are_left_out():
    salt = rock_salt()
    full = crystal(
        salt.lattice,
        np.concatenate([salt.frac_coords, salt.frac_coords[:3]]),
        [*salt.atom_types, 0, 0, 79],
        [True] * 10 + [False],
    )
    assert describe(full) == describe(salt)


def test_mirage_atom_fails_a_sample_of_the_baseline():
    row = describe(crystal(CUBE, [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 0]), infused=False)
    assert row["reason"] == MIRAGE_ATOM == "holds a mirage atom"
    assert row["valid_structure"] is False
    padded = crystal(CUBE, [[0, 0, 0], [0, 0, 0]], [11, 0], [True, False])
    assert describe(padded, infused=False)["reason"] == ""


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", ["lattice", "frac_coords"])
def test_not_finite(bad, field):
    arrays = {"lattice": CUBE.copy(), "frac_coords": np.zeros((1, 3))}
    arrays[field][0, 1] = bad
    row = describe(crystal(arrays["lattice"], arrays["frac_coords"], [6]))
    assert row["reason"] == NOT_FINITE
    assert row["a"] is None
    assert row["valid_structure"] is row["plausible"] is row["refined"] is False
    assert row["implausible_because"] is None


def test_not_finite_padding_is_no_failure():
    padded = crystal(CUBE, [[0, 0, 0], [np.nan] * 3], [6, 0], [True, False])
    assert describe(padded)["reason"] == ""


@pytest.mark.parametrize("atom_types", [[], [0], [0, 0]])
def test_no_atom(atom_types):
    row = describe(crystal(CUBE, np.zeros((len(atom_types), 3)), atom_types))
    assert row["reason"] == NO_ATOM
    assert row["num_atoms"] == 0
    assert row["formula"] is None
    assert row["a"] == 4


@pytest.mark.parametrize("number", [-1, 119])
def test_no_element(number):
    assert describe(crystal(CUBE, [[0, 0, 0]], [number]))["reason"] == NOT_AN_ELEMENT


def test_overlapping_atoms_are_a_crystal_that_is_not_valid():
    row = describe(crystal(CUBE, [[0, 0, 0.98], [0, 0, 0.02]], [6, 6]))
    assert row["min_distance_angstrom"] == pytest.approx(0.16, rel=1e-4)
    assert row["valid_structure"] is False
    assert row["reason"] == ""
    same_place = describe(crystal(CUBE, np.zeros((2, 3)), [6, 6]))
    assert same_place["min_distance_angstrom"] == 0
    assert same_place["spacegroup_0.1"] is None
    assert same_place["spacegroup_number_pymatgen_0.01"] is None
    assert same_place["spacegroup_reason"] == (
        "spglib finds none at 0.1 and 0.01 Å; two atoms are 0 Å apart"
    )
    assert same_place["reason"] == ""


def test_single_atom_has_no_smallest_distance_and_is_valid():
    row = describe(crystal(CUBE, [[0.3, 0.2, 0.1]], [84]))
    assert row["min_distance_angstrom"] is None
    assert row["valid_structure"] is True
    assert row["spacegroup_0.1"] == "Pm-3m"
    assert row["spacegroup_reason"] == ""


def test_spglib_is_not_asked_of_a_cell_as_thin_as_a_bond():
    row = describe(crystal(np.diag([0.4, 4.0, 4.0]), [[0, 0, 0]], [6]))
    assert row["spacegroup_number_0.1"] is None
    assert row["spacegroup_reason"] == (
        "spglib is not asked: an atom and its own image are 0.4 Å apart"
    )


def test_small_volume_is_not_valid():
    row = describe(crystal(0.4 * np.eye(3), [[0, 0, 0]], [1]))
    assert row["reason"] == ""
    assert row["valid_structure"] is False


@pytest.mark.parametrize(
    ("lattice", "reason"),
    [
        (np.zeros((3, 3)), FLAT),
        (np.ones((3, 3)), FLAT),
        (np.diag([5, 5, 0]), FLAT),
        ([[5, 0, 0], [5, 1e-6, 0], [0, 0, 5]], FLAT),
        (np.diag([5, 5, 1e-3]), ""),
        (np.diag([5, 1e-2, 5e3]), ""),
        (np.diag([9e3, 9e3, 9e3]), ""),
        ([[5, 0, 0], [300, 4, 0], [-500, 200, 5]], ""),
        (1e5 * np.eye(3), TOO_LARGE),
        (1e30 * np.eye(3), TOO_LARGE),
    ],
)
def test_flat_skewed_and_huge_cells_are_described(lattice, reason):
    frac_coords = np.random.default_rng(0).random((20, 3))
    row = describe(crystal(lattice, frac_coords, np.arange(19, 39)))
    assert row["reason"] == reason
    assert row["num_atoms"] == 20
    assert (row["min_distance_angstrom"] is None) == bool(reason)
    json.dumps(row, allow_nan=False)


def test_a_skewed_cell_has_the_space_group_of_its_lattice():
    skew = np.array([[1, 0, 0], [9000, 1, 0], [-80, 20, 1]])
    lattice, frac_coords = 5.64 * np.eye(3), np.asarray(rock_salt().frac_coords, np.float64)
    numbers = np.array([11] * 4 + [17] * 4)
    skewed = frac_coords @ np.linalg.inv(skew)
    reduced = niggli_reduce(skew @ lattice, skewed)
    assert spacegroup(*reduced, numbers, 0.01) == ("Fm-3m", 225)
    assert min_distance(skew @ lattice, skewed) == pytest.approx(2.82)


def test_describe_all_takes_batches_and_lists():
    one, other = rock_salt(), crystal(np.full((3, 3), np.nan), np.zeros((8, 3)), [6] * 8)
    fields = ("lattice", "frac_coords", "atom_types", "mask")
    batch = Crystal(*(jnp.stack([getattr(one, f), getattr(other, f)]) for f in fields))
    rows = describe_all(batch)
    assert [row["reason"] for row in rows] == ["", NOT_FINITE]
    assert rows == describe_all([one, other])
    with pytest.raises(ValueError, match=r"batch of shape \(2,\): use describe_all"):
        describe(batch)


def test_noble_gases_are_described_without_a_warning(recwarn, capfd):
    row = describe(crystal(CUBE, [[0, 0, 0], [0.5, 0.5, 0.5]], [2, 18]))
    assert row["chemical_system"] == "Ar-He"
    assert not recwarn.list
    assert capfd.readouterr().err == ""


def test_a_valid_needle_is_not_plausible():
    needle = Structure(Lattice.orthorhombic(197, 3, 0.07), ["Ge"], [[0, 0, 0]])
    row = describe(from_structures(needle)[0])
    assert row["valid_structure"] is True
    assert row["plausible"] is False
    assert row["implausible_because"] == "atoms too close, cell too thin, cell too long"
    assert [row[x] for x in "abc"] == pytest.approx([0.07, 3, 197])


def test_space_groups_by_pymatgens_angle_are_its_analyzers():
    rng = np.random.default_rng(0)
    primitive = Structure.from_spacegroup(
        "Fd-3m", Lattice.cubic(5.43), ["Si"], [[0, 0, 0]]
    ).get_primitive_structure()
    hexagonal = Structure(
        Lattice.hexagonal(3.2, 5.2), ["Mg", "Mg"], [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]
    )
    # At 40 Å, 0.1 Å are 0.14°: an angle of 1° breaks the symmetry by spglib's rule alone.
    long = Structure(Lattice.from_parameters(4, 4, 30, 90, 91, 90), ["Cu"], [[0, 0, 0]])
    differ = 0
    for structure in (primitive, hexagonal, long):
        for strain in (0, 0.004, 0.012):
            lattice = structure.lattice.matrix @ (np.eye(3) + strain * rng.normal(size=(3, 3)))
            strained = Structure(lattice, structure.species, structure.frac_coords)
            row = describe(from_structures(strained)[0])
            for symprec in (0.1, 0.01):
                number = SpacegroupAnalyzer(strained, symprec=symprec).get_space_group_number()
                assert row[f"spacegroup_number_pymatgen_{symprec}"] == number
                differ += number != row[f"spacegroup_number_{symprec}"]
    assert differ


def test_refining_is_described():
    salt = rock_salt()
    shaken = salt.frac_coords.copy()
    shaken[3] += np.float32(0.05 / 5.64 / np.sqrt(3))
    shaken = crystal(salt.lattice, shaken, salt.atom_types)
    before, after = describe(shaken), describe(shaken, refine_angstrom=0.1)
    assert before["spacegroup_0.01"] != "Fm-3m"
    assert before["refined"] is False
    assert after["refined"] is True
    assert after["spacegroup_0.01"] == "Fm-3m"
    assert describe(crystal(CUBE, np.zeros((0, 3)), []), refine_angstrom=0.1)["refined"] is False
    with pytest.raises(ValueError, match="largest move of an atom is 0 Å; allowed: a positive"):
        describe(salt, refine_angstrom=0.0)
