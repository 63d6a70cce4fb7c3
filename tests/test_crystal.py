import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.crystal import Crystal, real_atom_mask, volume, wrap


def crystal(batch=()):
    return Crystal(
        jnp.broadcast_to(jnp.eye(3), (*batch, 3, 3)),
        jnp.zeros((*batch, 4, 3)),
        jnp.broadcast_to(jnp.array([8, 0, 26, 0]), (*batch, 4)),
        jnp.broadcast_to(jnp.array([True, True, True, False]), (*batch, 4)),
    )


def test_indexing_goes_over_the_batch():
    batch = crystal((5,))
    assert len(batch) == 5
    assert batch[2].batch_shape == ()
    assert batch[1:3].batch_shape == (2,)
    assert batch[np.array([True, False, True, False, False])].batch_shape == (2,)


def test_one_crystal_has_no_length():
    with pytest.raises(TypeError, match="no batch dimension"):
        len(crystal())
    with pytest.raises(IndexError, match="no batch dimension"):
        crystal()[0]


def test_real_atoms_are_neither_mirage_nor_padding():
    np.testing.assert_array_equal(real_atom_mask(crystal()), [True, False, True, False])
    assert crystal().num_atoms == 3


@pytest.mark.parametrize("x", [-1e-9, 0.0, 1.0, -1.0, 1 - 1e-9, 123456.75, -0.25])
def test_wrapped_coordinates_lie_below_one(x):
    wrapped = float(wrap(jnp.float32(x)))
    assert 0 <= wrapped < 1
    distance = abs(wrapped - np.float32(x) % 1)
    assert min(distance, 1 - distance) < 1e-6


def test_volume_of_a_sheared_cell():
    lattice = jnp.array([[2.0, 0, 0], [1, 3, 0], [5, 7, -4]])
    assert volume(lattice) == pytest.approx(24)
