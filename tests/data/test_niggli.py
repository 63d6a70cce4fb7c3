"""The Niggli cell: the same crystal, in the shortest cell, whatever the lattice."""

import ase.geometry
import numpy as np
import pytest
import spglib
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from miad_jax.data.niggli import is_reduced, niggli_reduce

ORIGIN = np.zeros((1, 3))


def drawn(seed, spread):
    """A lattice of either handedness, with edges that differ by up to e^(2 spread), skewed."""
    rng = np.random.default_rng(seed)
    lattice = 4 * rng.normal(size=(3, 3)) * np.exp(spread * rng.uniform(-1, 1, (3, 1)))
    skew = np.eye(3)
    for _ in range(4):
        i, j = rng.choice(3, 2, replace=False)
        skew[i] += rng.integers(-2, 3) * skew[j]
    return skew @ lattice, rng.random((4, 3))


@settings(max_examples=100)
@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.3, 1, 2]))
def test_it_is_the_same_crystal_in_the_shortest_cell(seed, spread):
    lattice, frac_coords = drawn(seed, spread)
    new, coords = niggli_reduce(lattice, frac_coords)

    assert is_reduced(new)
    assert np.linalg.det(new) == pytest.approx(np.linalg.det(lattice), rel=1e-5)  # signed
    basis = new @ np.linalg.inv(lattice)
    np.testing.assert_allclose(basis, np.rint(basis), atol=1e-6)
    scale = np.abs(lattice).max()
    np.testing.assert_allclose(coords @ new, frac_coords @ lattice, atol=1e-9 * scale)
    again, same = niggli_reduce(new, coords)
    np.testing.assert_array_equal(again, new)
    np.testing.assert_array_equal(same, coords)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_lengths_and_angles_are_pymatgens(seed):
    lattice, _ = drawn(seed, 0.3)
    expected = Lattice(lattice).get_niggli_reduced_lattice().parameters
    found = Lattice(niggli_reduce(lattice, ORIGIN)[0]).parameters
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_pymatgen_matches_the_reduced_crystal():
    lattice = Lattice.from_parameters(11.3, 5.1, 7.3, 31, 43, 58)
    frac_coords = [[0.02, 0.1, 0.97], [0.95, 0.4, 0.05], [0.4, 0.6, 0.5]]
    before = Structure(lattice, ["Fe", "O", "S"], frac_coords)
    new, coords = niggli_reduce(lattice.matrix, np.array(frac_coords))
    after = Structure(new, ["Fe", "O", "S"], coords)
    matcher = StructureMatcher(
        ltol=1e-4, stol=1e-4, angle_tol=1e-3, primitive_cell=False, scale=False
    )
    assert matcher.fit(before, after)
    assert new.shape == (3, 3)
    assert np.linalg.norm(new, axis=-1).sum() < sum(lattice.abc) - 1


@pytest.mark.parametrize(
    "edges", [(197, 30, 0.07), (0.01, 5, 5e3), (9e3, 9e3, 9e3), (1e-3, 1e-3, 1e-3)]
)
def test_needles_are_reduced(edges):
    skew = np.array([[1, 0, 0], [9, 1, 0], [-8, 2, 1]])
    new, _ = niggli_reduce(skew @ np.diag(edges), ORIGIN)
    np.testing.assert_allclose(np.linalg.norm(new, axis=-1), sorted(edges))


def test_a_cell_that_is_reduced_stays_as_it_is():
    primitive = 2.82 * (np.ones((3, 3)) - np.eye(3))
    for lattice in (4 * np.eye(3), np.diag([3.0, 3.0, 9.0]), primitive):
        rounded = lattice.astype(np.float32).astype(float)
        np.testing.assert_array_equal(niggli_reduce(rounded, ORIGIN)[0], rounded)


@given(seed=st.integers(0, 2**32 - 1))
@example(seed=0)
def test_where_spglib_fails_the_edges_are_as_short(seed):
    lattice, _ = drawn(seed, 1)
    expected = np.linalg.norm(niggli_reduce(lattice, ORIGIN)[0], axis=-1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spglib, "niggli_reduce", lambda *args, **kwargs: None)
        new, _ = niggli_reduce(lattice, ORIGIN)
        np.testing.assert_allclose(np.linalg.norm(new, axis=-1), expected, rtol=1e-6)
        assert np.linalg.det(new) == pytest.approx(np.linalg.det(lattice), rel=1e-5)

        def loops(cell):
            raise RuntimeError("reduction did not end")

        patch.setattr(ase.geometry, "minkowski_reduce", loops)
        np.testing.assert_array_equal(niggli_reduce(lattice, ORIGIN)[0], lattice)


@pytest.mark.parametrize(
    "lattice", [np.full((3, 3), np.nan), np.zeros((3, 3)), np.ones((3, 3)), np.diag([1, 1, np.inf])]
)
def test_what_is_no_cell_stays_as_it_is(lattice):
    np.testing.assert_array_equal(niggli_reduce(lattice, ORIGIN)[0], lattice)
    assert not is_reduced(np.ones((3, 3)))
