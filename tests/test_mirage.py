import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.crystal import Crystal, real_atom_mask
from miad_jax.mirage import infuse, reduce

KEY = jax.random.key(3)
SIZES = np.array([1, 3, 4, 2])


@pytest.fixture
def crystals():
    rng = np.random.default_rng(0)
    mask = np.arange(4) < SIZES[:, None]
    return Crystal(
        jnp.asarray(rng.normal(size=(4, 3, 3)), jnp.float32),
        jnp.asarray(rng.random((4, 4, 3)), jnp.float32),
        jnp.asarray(rng.integers(1, 95, (4, 4)) * mask, jnp.int32),
        jnp.asarray(mask),
    )


@pytest.mark.parametrize("placement", ["uniform", "center"])
@pytest.mark.parametrize("num_atoms", [4, 7])
def test_infusion_fills_every_slot_and_keeps_real_atoms(crystals, placement, num_atoms):
    infused = infuse(KEY, crystals, num_atoms, placement=placement)
    assert infused.atom_types.shape == (4, num_atoms)
    assert infused.mask.all()
    np.testing.assert_array_equal(real_atom_mask(infused).sum(-1), SIZES)
    for before, after, size in zip(crystals.frac_coords, infused.frac_coords, SIZES, strict=True):
        np.testing.assert_array_equal(after[:size], before[:size])
    assert infused.frac_coords.min() >= 0
    assert infused.frac_coords.max() < 1
    for one, two in zip(reduce(crystals), reduce(infused), strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, two)


def test_fewer_slots_than_padding_are_enough(crystals):
    infused = infuse(KEY, crystals[np.array([0, 3])], 2)
    np.testing.assert_array_equal(real_atom_mask(infused).sum(-1), [1, 2])


def test_mirage_coordinates_are_uniform_and_fresh(crystals):
    first = infuse(KEY, crystals, 2000).frac_coords[0, 1:]
    second = infuse(jax.random.key(4), crystals, 2000).frac_coords[0, 1:]
    assert (first != second).mean() > 0.99
    np.testing.assert_allclose(first.mean(0), 0.5, atol=0.03)
    np.testing.assert_allclose(first.std(0), 12**-0.5, atol=0.02)


def test_center_is_the_circular_mean_and_moves_with_the_crystal():
    coords = jnp.array([[0.9, 0.1, 0.3], [0.1, 0.2, 0.3]])
    one = Crystal(jnp.eye(3), coords, jnp.array([8, 26]), jnp.array([True, True]))
    center = infuse(KEY, one, 3, placement="center").frac_coords[2]
    np.testing.assert_allclose((center + 0.5) % 1 - 0.5, [0, 0.15, 0.3], atol=1e-6)
    shift = jnp.array([0.35, 0.95, 0.5])
    moved = Crystal(jnp.eye(3), (coords + shift) % 1, one.atom_types, one.mask)
    difference = infuse(KEY, moved, 3, placement="center").frac_coords[2] - center - shift
    np.testing.assert_allclose(difference - np.round(difference), 0, atol=1e-6)


def test_jit_and_vmap_give_the_same(crystals):
    keys = jax.random.split(KEY, 4)
    mapped = jax.jit(jax.vmap(lambda key, crystal: infuse(key, crystal, 6)))(keys, crystals)
    for i in range(4):
        one = infuse(keys[i], crystals[i], 6)
        jax.tree.map(np.testing.assert_array_equal, one, mapped[i])


def test_a_crystal_that_does_not_fit_is_refused(crystals):
    with pytest.raises(ValueError, match=r"crystal 1 has 3 atoms.*2 such crystals"):
        infuse(KEY, crystals, 2)


def test_an_unknown_placement_is_refused(crystals):
    with pytest.raises(ValueError, match="placement is 'top'; allowed: uniform, center"):
        infuse(KEY, crystals, 6, placement="top")


def test_a_crystal_of_mirage_atoms_reduces_to_none(crystals):
    nothing = Crystal(jnp.eye(3), jnp.zeros((2, 3)), jnp.zeros(2, jnp.int32), jnp.ones(2, bool))
    assert reduce(nothing)[0].size == 0
