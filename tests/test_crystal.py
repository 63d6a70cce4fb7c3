import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miad_jax.crystal import Crystal, real_atom_mask, volume, wrap


def test_indexing_indexes_the_batch(random_crystals):
    crystals = random_crystals([4, 2, 3], 4)
    assert len(crystals) == 3
    assert crystals.batch_shape == (3,)
    assert crystals.size == 4
    np.testing.assert_array_equal(crystals.num_atoms, [4, 2, 3])

    one = crystals[1]
    assert one.batch_shape == ()
    np.testing.assert_array_equal(one.frac_coords, crystals.frac_coords[1])
    np.testing.assert_array_equal(one.num_atoms, 2)
    two = crystals[1:]
    assert len(two) == 2
    np.testing.assert_array_equal(two.lattice, crystals.lattice[1:])

    nested = jax.tree.map(lambda x: x[None], crystals)
    assert nested.batch_shape == (1, 3)
    np.testing.assert_array_equal(nested.num_atoms, [[4, 2, 3]])


def test_a_loop_over_a_batch_ends(random_crystals):
    crystals = random_crystals([4, 2, 3], 4)
    first_ten = itertools.islice(crystals, 10)  # not list(): it must fail, not run for ever
    assert [int(crystal.num_atoms) for crystal in first_ten] == [4, 2, 3]


@pytest.mark.parametrize("index", [3, -4, np.int32(99)])
def test_an_index_beyond_the_batch_is_an_error(random_crystals, index):
    crystals = random_crystals([4, 2, 3], 4)
    assert crystals[-1].num_atoms == 3
    with pytest.raises(IndexError, match=rf"index {index} is out of range: there are 3 crystals"):
        crystals[index]


def test_one_crystal_has_no_batch(random_crystals):
    one = random_crystals([2], 2)[0]
    with pytest.raises(IndexError, match=r"no batch dimension to index; its lattice is \[3, 3\]"):
        one[0]
    with pytest.raises(TypeError, match=r"no batch dimension; its lattice is \[3, 3\]"):
        len(one)


def test_a_crystal_is_a_pytree(random_crystals):
    crystals = random_crystals([2, 1], 2)
    assert len(jax.tree.leaves(crystals)) == 4
    doubled = jax.jit(lambda c: jax.tree.map(lambda x: x, c))(crystals)
    assert isinstance(doubled, Crystal)
    sizes = jax.vmap(lambda c: c.num_atoms)(crystals)
    np.testing.assert_array_equal(sizes, [2, 1])


def test_real_atoms_are_neither_mirage_nor_padding():
    crystal = Crystal(
        lattice=jnp.eye(3),
        frac_coords=jnp.zeros((4, 3)),
        atom_types=jnp.array([6, 0, 8, 0]),
        mask=jnp.array([True, True, False, False]),
    )
    np.testing.assert_array_equal(real_atom_mask(crystal), [True, False, False, False])


@given(st.floats(-1e6, 1e6, width=32))
def test_wrapped_coordinates_lie_in_the_cell(x):
    wrapped = float(wrap(jnp.float32(x)))
    assert 0 <= wrapped < 1
    distance = wrapped - np.float64(np.float32(x)) % 1
    assert abs(distance - round(distance)) < 1e-6


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (-1e-9, 0.0),
        (-1e-30, 0.0),
        (1.0, 0.0),
        (-1.0, 0.0),
        (-0.0, 0.0),
        (1.25, 0.25),
        (-0.25, 0.75),
    ],
)
def test_wrapping_rounds_to_zero_and_never_to_one(x, expected):
    for function in (wrap, jax.jit(wrap)):
        assert function(jnp.float32(x)) == expected


def test_the_volume_is_the_determinant():
    lattice = np.random.default_rng(0).normal(size=(6, 3, 3)).astype(np.float32)
    np.testing.assert_allclose(
        volume(jnp.asarray(lattice)), np.abs(np.linalg.det(np.float64(lattice))), rtol=1e-4
    )
