"""What goes out: right-handed, Niggli-reduced, sorted by element, the same crystal."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Element, Lattice, Structure

from miad_jax.crystal import Crystal
from miad_jax.data.niggli import is_reduced
from miad_jax.data.structures import from_structures, to_structures
from miad_jax.data.written import as_written

SALT = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(5.64), ["Cl", "Na"], [[0, 0, 0], [0.5, 0.5, 0.5]]
)


def drawn(seed):
    """A skewed crystal of either handedness, with a mirage atom and padding."""
    rng = np.random.default_rng(seed)
    lattice = 4 * np.eye(3) + rng.normal(size=(3, 3))
    lattice[2] += rng.integers(-3, 4) * lattice[0]
    lattice[0] *= rng.choice([-1, 1])
    types = np.array([8, 0, 26, 8, 3, 16, 9])
    return Crystal(
        lattice.astype(np.float32),
        rng.random((7, 3)).astype(np.float32),
        types.astype(np.int32),
        np.arange(7) < 6,
    )


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_it_is_the_same_crystal_reduced_and_sorted(seed):
    crystal = drawn(seed)
    written, refined = as_written(crystal)

    assert refined is False
    assert is_reduced(written.lattice)
    assert np.linalg.det(written.lattice) == pytest.approx(
        abs(np.linalg.det(crystal.lattice.astype(float))), rel=1e-5
    )
    assert written.atom_types.tolist() == [3, 26, 16, 8, 8]
    assert ((written.frac_coords >= 0) & (written.frac_coords < 1)).all()
    matcher = StructureMatcher(
        ltol=1e-3, stol=1e-3, angle_tol=1e-2, primitive_cell=False, scale=False
    )
    (before,), (after,) = to_structures(crystal), to_structures(written)
    assert matcher.fit(before, after)
    np.testing.assert_array_equal(after.lattice.matrix, written.lattice)  # right-handed already


def test_the_order_of_all_elements_is_pymatgens():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of elements without electronegativity
        elements = [Element.from_Z(z) for z in range(1, 100)]
        known = [x for x in elements if x.X == x.X]
        structure = Structure(Lattice.cubic(30), known, np.zeros((len(known), 3)))
        expected = [site.specie.Z for site in structure.get_sorted_structure()]
    every = np.arange(1, 100, dtype=np.int32)
    crystal = Crystal(30 * np.eye(3), np.zeros((99, 3)), every, np.ones(99, bool))
    numbers = as_written(crystal).crystal.atom_types.tolist()
    assert numbers[: len(expected)] == expected
    assert {2, 10, 18} == set(numbers[len(expected) :])


def test_atoms_of_one_element_keep_their_order():
    crystal = from_structures(SALT)[0]
    written = as_written(crystal).crystal
    assert written.atom_types.tolist() == [11] * 4 + [17] * 4
    np.testing.assert_array_equal(written.frac_coords[:4], crystal.frac_coords[4:])
    np.testing.assert_array_equal(written.frac_coords[4:], crystal.frac_coords[:4])
    assert written.frac_coords.dtype == np.float64


@pytest.mark.parametrize(("distance", "refined"), [(0.05, True), (0.3, False)])
def test_refining(distance, refined):
    crystal = from_structures(SALT)[0]
    crystal.frac_coords[2, 0] += distance / 5.64
    left = as_written(crystal)
    found = as_written(crystal, refine_angstrom=0.1)
    assert found.refined is refined
    (structure,) = to_structures(found.crystal)
    if refined:
        assert structure.get_space_group_info(symprec=1e-4)[0] == "Fm-3m"
        assert structure.composition == SALT.composition
    else:
        np.testing.assert_array_equal(found.crystal.frac_coords, left.crystal.frac_coords)
