import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.padding import keep_padding, mean_over_atoms, resize


@pytest.fixture
def crystals(random_crystals):
    """Crystals of 3 and 1 atoms in 4 slots."""
    return random_crystals([3, 1], 4)


@pytest.mark.parametrize("kind", ["jax", "numpy"])
@pytest.mark.parametrize("size", [4, 6, 3])
def test_slots_are_added_and_cut_at_the_end(crystals, kind, size):
    if kind == "numpy":
        crystals = jax.tree.map(np.asarray, crystals)
    for before in (crystals, crystals[0], jax.tree.map(lambda x: x[None], crystals)):
        after = resize(before, size)
        assert after.size == size
        assert after.batch_shape == before.batch_shape
        np.testing.assert_array_equal(after.lattice, before.lattice)
        np.testing.assert_array_equal(after.num_atoms, before.num_atoms)
        kept = min(size, 4)
        np.testing.assert_array_equal(
            after.frac_coords[..., :kept, :], before.frac_coords[..., :kept, :]
        )
        np.testing.assert_array_equal(after.atom_types[..., :kept], before.atom_types[..., :kept])
        np.testing.assert_array_equal(after.mask[..., :kept], before.mask[..., :kept])
        assert not after.mask[..., kept:].any()
        for x, y in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True):
            assert (type(x), x.dtype) == (type(y), y.dtype)


def test_padding_keeps_what_it_held(crystals):
    moved = jax.tree.map(lambda x: x + 1 if x.dtype != bool else ~x, crystals)
    kept = keep_padding(moved, crystals)
    mask = np.asarray(crystals.mask)
    np.testing.assert_array_equal(kept.mask, mask)
    np.testing.assert_array_equal(kept.lattice, moved.lattice)
    for name in ("frac_coords", "atom_types"):
        found, new, old = (np.asarray(getattr(x, name)) for x in (kept, moved, crystals))
        np.testing.assert_array_equal(found[mask], new[mask])
        np.testing.assert_array_equal(found[~mask], old[~mask])


def test_the_mean_leaves_padding_out_also_if_it_is_not_a_number(crystals):
    x = jnp.where(crystals.mask, jnp.array([[1.0, 2.0, 6.0, 9.0]]), jnp.nan)
    mean = mean_over_atoms(x, crystals.mask, crystals.num_atoms, axis=-1)
    np.testing.assert_allclose(mean, [3, 1])
