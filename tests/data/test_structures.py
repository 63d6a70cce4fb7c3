from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition, Lattice, Structure

from miad_jax.crystal import Crystal
from miad_jax.data import from_atoms, from_structures, to_atoms, to_structures

SALT = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
).get_primitive_structure()
QUARTZ = Structure.from_spacegroup(
    "P3_121",
    Lattice.hexagonal(4.914, 5.405),
    ["Si", "O"],
    [[0.4697, 0, 1 / 3], [0.4133, 0.2672, 0.4521]],
)


def test_structures_survive_the_round_trip():
    crystals = from_structures([SALT, QUARTZ])

    back = to_structures(crystals)

    for before, after in zip([SALT, QUARTZ], back, strict=True):
        assert before.composition == after.composition
        assert StructureMatcher(ltol=1e-4, stol=1e-4, angle_tol=1e-3).fit(before, after)
        np.testing.assert_allclose(after.lattice.matrix, before.lattice.matrix, atol=1e-5)


@pytest.mark.parametrize("flip", [np.diag([-1.0, 1, 1]), -np.eye(3)])
def test_a_left_handed_cell_goes_out_right_handed_as_the_same_crystal(flip):
    right = from_structures([QUARTZ])
    left = replace(
        right[0], lattice=flip @ right.lattice[0], frac_coords=right.frac_coords[0] @ flip % 1
    )
    atoms = to_atoms(left)[0]
    structure = to_structures(left)[0]

    assert np.linalg.det(left.lattice) < 0 < structure.volume
    assert np.linalg.det(structure.lattice.matrix) > 0
    distances = structure.lattice.get_all_distances(
        structure.frac_coords, structure.lattice.get_fractional_coords(QUARTZ.cart_coords)
    )
    np.testing.assert_allclose(distances.diagonal(), 0, atol=1e-5)  # where they were
    np.testing.assert_allclose(atoms.cell.array, structure.lattice.matrix)
    from_cif = Structure.from_str(structure.to(fmt="cif"), fmt="cif")
    assert from_cif.get_space_group_info()[0] == "P3_121"  # not its mirror image, P3_221


def test_atoms_come_first_and_padding_after():
    crystals = from_structures([SALT, QUARTZ], size=12)

    assert crystals.size == 12
    np.testing.assert_array_equal(crystals.num_atoms, [2, 9])
    np.testing.assert_array_equal(crystals.mask[0], [True] * 2 + [False] * 10)
    np.testing.assert_array_equal(crystals.atom_types[0, :2], SALT.atomic_numbers)
    np.testing.assert_array_equal(crystals.atom_types[1, :9], QUARTZ.atomic_numbers)
    assert not crystals.atom_types[~crystals.mask].any()
    assert not crystals.frac_coords[~crystals.mask].any()
    assert crystals.lattice.dtype == crystals.frac_coords.dtype == np.float32
    assert crystals.atom_types.dtype == np.int32


def test_one_structure_is_a_batch_of_one():
    assert from_structures(SALT).batch_shape == (1,)
    assert from_atoms(bulk("Cu")).batch_shape == (1,)


def test_to_structures_takes_a_batch_one_crystal_or_several():
    crystals = from_structures([SALT, QUARTZ])

    assert len(to_structures(crystals)) == 2
    assert to_structures(crystals[1])[0].composition == QUARTZ.composition
    several = to_structures([crystals, crystals[0]])
    assert [x.composition for x in several] == [
        SALT.composition,
        QUARTZ.composition,
        SALT.composition,
    ]


def test_coordinates_are_below_one_also_in_float32():
    lattice = Lattice.cubic(4)
    structure = Structure(
        lattice, ["H", "H", "H"], [[-1e-9, 1 - 1e-9, 1.25], [3, -0.5, 0], [0.1] * 3]
    )

    coords = from_structures([structure]).frac_coords[0]

    assert (coords >= 0).all()
    assert (coords < 1).all()
    np.testing.assert_array_equal(coords[0], np.float32([0, 0, 0.25]))
    np.testing.assert_array_equal(coords[1], np.float32([0, 0.5, 0]))


def test_mirage_atoms_are_dropped():
    crystals = from_structures([SALT], size=5)
    infused = Crystal(
        crystals.lattice, crystals.frac_coords, crystals.atom_types, np.ones_like(crystals.mask)
    )

    assert to_structures(infused)[0].composition == SALT.composition
    assert len(to_atoms(infused)[0]) == 2


DISORDERED = Structure(Lattice.cubic(3), [Composition("Fe0.5Ni0.5")], [[0, 0, 0]])
FERMIUM = Structure(Lattice.cubic(3), ["Fm"], [[0, 0, 0]])
NAN_CELL = Structure(Lattice(np.full((3, 3), np.nan)), ["Fe"], [[0, 0, 0]])
EMPTY = Structure(Lattice.cubic(3), [], [])
FLAT = Structure(Lattice([[1, 0, 0], [2, 0, 0], [0, 0, 1]]), ["Fe"], [[0, 0, 0]])


@pytest.mark.parametrize(
    ("structure", "reason"),
    [
        (DISORDERED, "is disordered"),
        (FERMIUM, r"atomic numbers \[100\]; allowed are 1"),
        (NAN_CELL, "lattice that is not finite"),
        (EMPTY, "has no atoms"),
        (FLAT, "zero volume"),
    ],
)
def test_what_is_no_crystal_is_refused_by_index(structure, reason):
    with pytest.raises(ValueError, match=f"structure 1 .*{reason}"):
        from_structures([SALT, structure])


def test_an_empty_list_is_refused():
    with pytest.raises(ValueError, match="the list is empty"):
        from_structures([])


def test_a_structure_larger_than_size_is_refused():
    with pytest.raises(ValueError, match="crystal 1 has 9 atoms, more than size=8"):
        from_structures([SALT, QUARTZ], size=8)


def test_a_crystal_without_real_atoms_is_named():
    crystals = from_structures([SALT, SALT])
    crystals.atom_types[1] = 0

    with pytest.raises(ValueError, match="crystal 1 of 2 has no real atoms"):
        to_structures(crystals)
    with pytest.raises(ValueError, match="crystal 1 of 2 has no real atoms"):
        to_atoms(crystals)


@pytest.mark.parametrize("field", ["lattice", "frac_coords"])
def test_a_crystal_that_is_not_finite_is_named(field):
    crystals = from_structures([SALT, SALT])
    getattr(crystals, field)[1, 0, 0] = np.nan

    with pytest.raises(ValueError, match=r"crystal 1 of 2 .* not finite"):
        to_structures(crystals)


def test_ase_atoms_survive_the_round_trip():
    before = [bulk("NaCl", "rocksalt", a=5.69), bulk("Mg")]

    after = to_atoms(from_atoms(before))

    for x, y in zip(before, after, strict=True):
        np.testing.assert_array_equal(x.numbers, y.numbers)
        np.testing.assert_allclose(x.cell.array, y.cell.array, atol=1e-5)
        np.testing.assert_allclose(
            x.get_all_distances(mic=True), y.get_all_distances(mic=True), atol=1e-4
        )
        assert y.pbc.all()


def test_ase_and_pymatgen_give_the_same_crystal():
    structure = to_structures(from_atoms([bulk("NaCl", "rocksalt", a=5.69)]))[0]

    assert StructureMatcher().fit(structure, SALT)


def test_atoms_without_a_cell_are_refused():
    with pytest.raises(ValueError, match="atoms 1 has a cell of 0 vectors"):
        from_atoms([bulk("Cu"), Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.7]])])
