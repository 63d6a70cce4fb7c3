from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miad_jax.crystal import Crystal, real_atom_mask
from miad_jax.mirage import infuse, reduce

KEY = jax.random.key(0)
PLACEMENTS = ("uniform", "center")
NUM_ATOMS = 7
each_placement = pytest.mark.parametrize("placement", PLACEMENTS)


@pytest.fixture(scope="module")
def crystals(random_crystals):
    """Crystals of 5, 1 and 3 atoms, with padding up to 5."""
    return random_crystals([5, 1, 3], 5)


@pytest.fixture(scope="module")
def infuse_center():
    return jax.jit(lambda crystal: infuse(KEY, crystal, NUM_ATOMS, placement="center"))


@each_placement
@pytest.mark.parametrize("num_atoms", [5, 7])
def test_infusion_adds_mirage_atoms_and_leaves_the_real_ones(crystals, placement, num_atoms):
    infused = infuse(KEY, crystals, num_atoms, placement=placement)

    assert infused.atom_types.shape == (3, num_atoms)
    assert infused.frac_coords.shape == (3, num_atoms, 3)
    assert infused.mask.all(), "an infused crystal has no padding"
    np.testing.assert_array_equal(infused.num_atoms, num_atoms)
    np.testing.assert_array_equal(infused.lattice, crystals.lattice)
    real = np.arange(num_atoms) < np.array([[5], [1], [3]])
    np.testing.assert_array_equal(real_atom_mask(infused), real)
    assert (infused.atom_types[~real] == 0).all()
    before = np.asarray(crystals.mask)
    np.testing.assert_array_equal(infused.atom_types[real], crystals.atom_types[before])
    np.testing.assert_array_equal(infused.frac_coords[real], crystals.frac_coords[before])
    assert infused.frac_coords.min() >= 0
    assert infused.frac_coords.max() < 1


@each_placement
def test_slots_can_become_fewer_when_they_are_padding(random_crystals, placement):
    crystals = random_crystals([2, 3], 9)
    infused = infuse(KEY, crystals, 4, placement=placement)
    np.testing.assert_array_equal(real_atom_mask(infused).sum(-1), [2, 3])
    np.testing.assert_array_equal(infused.frac_coords[:, :2], crystals.frac_coords[:, :2])


def test_mirage_atoms_are_drawn_afresh_with_every_key(crystals):
    one, two = (infuse(jax.random.key(i), crystals, NUM_ATOMS) for i in range(2))
    mirage = ~np.asarray(real_atom_mask(one))
    assert (one.frac_coords[mirage] != two.frac_coords[mirage]).all()
    np.testing.assert_array_equal(one.frac_coords[~mirage], two.frac_coords[~mirage])
    np.testing.assert_array_equal(
        one.frac_coords, infuse(jax.random.key(0), crystals, NUM_ATOMS).frac_coords
    )
    assert len(np.unique(one.frac_coords[mirage])) == mirage.sum() * 3, "all different"


def test_mirage_atoms_are_uniform_in_the_cell(crystals):
    infused = infuse(KEY, crystals[1], 3001)
    drawn = np.asarray(infused.frac_coords[1:])
    counts = np.stack([np.bincount((10 * x).astype(int), minlength=10) for x in drawn.T])
    assert counts.shape == (3, 10)
    assert (np.abs(counts - 300) < 4.5 * np.sqrt(300)).all()
    correlation = np.corrcoef(drawn.T) - np.eye(3)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(3000)


def center_of(*places):
    """Where a crystal with atoms at these places gets its mirage atoms."""
    places = jnp.asarray(places, jnp.float32)
    num = len(places)
    crystal = Crystal(jnp.eye(3), places, jnp.full(num, 6, jnp.int32), jnp.ones(num, bool))
    infused = infuse(KEY, crystal, num + 2, placement="center")
    np.testing.assert_array_equal(infused.frac_coords[num], infused.frac_coords[num + 1])
    return np.asarray(infused.frac_coords[num])


def test_the_center_is_the_circular_mean(same_coords):
    # In x across the boundary, in y not, in z all at one place.
    same_coords(center_of([0.9, 0.2, 0.6], [0.1, 0.3, 0.6]), np.array([0.0, 0.25, 0.6]), atol=1e-6)
    same_coords(center_of([0.95, 0.1, 0.7]), np.array([0.95, 0.1, 0.7]), atol=1e-6)
    # Three atoms: the mean of unit vectors, not of angles.
    x = np.array([0.9, 0.95, 0.2])
    expected = np.angle(np.exp(2j * np.pi * x).sum()) / (2 * np.pi)
    center = center_of(*np.repeat(x[:, None], 3, axis=1))
    same_coords(center, np.full(3, expected), atol=1e-6)


@given(st.lists(st.floats(-3, 3, width=32), min_size=3, max_size=3))
def test_the_center_moves_with_the_atoms(infuse_center, crystals, same_coords, shift):
    shift = np.float32(shift)
    before, after = (
        infuse_center(replace(crystals, frac_coords=coords))
        for coords in (crystals.frac_coords, crystals.frac_coords + shift)
    )
    same_coords(after.frac_coords[:, 5:], np.float64(before.frac_coords[:, 5:]) + shift, atol=1e-5)


def test_the_center_leaves_padding_out(crystals, infuse_center):
    garbage = jnp.where(crystals.mask[..., None], crystals.frac_coords, 0.123)
    np.testing.assert_array_equal(
        infuse_center(replace(crystals, frac_coords=garbage)).frac_coords,
        infuse_center(crystals).frac_coords,
    )


def test_a_center_just_below_zero_stays_in_the_cell():
    assert (center_of([-1e-9] * 3) < 1).all()


@each_placement
def test_jit_and_vmap_equal_eager(crystals, placement):
    eager = infuse(KEY, crystals, NUM_ATOMS, placement=placement)
    jitted = jax.jit(infuse, static_argnums=2, static_argnames="placement")(
        KEY, crystals, NUM_ATOMS, placement=placement
    )
    keys = jax.random.split(KEY, 3)
    mapped = jax.vmap(lambda k, c: infuse(k, c, NUM_ATOMS, placement=placement))(keys, crystals)
    alone = [infuse(keys[i], crystals[i], NUM_ATOMS, placement=placement) for i in range(3)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *alone)
    for one, two in ((eager, jitted), (mapped, stacked)):
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_too_many_atoms_are_refused(crystals):
    with pytest.raises(
        ValueError,
        match=r"crystal 0 has 5 atoms, .* first 4 slots \(1 such crystals\): raise num_atoms",
    ):
        infuse(KEY, crystals, 4)
    with pytest.raises(ValueError, match=r"crystal 0 has 5 atoms, .* \(2 such crystals\)"):
        infuse(KEY, crystals, 2)
    with pytest.raises(ValueError, match="crystal 0 has 3 atoms"):
        infuse(KEY, crystals[2], 2)


def test_an_unknown_placement_is_refused(crystals):
    with pytest.raises(ValueError, match="placement is 'corner'; allowed: uniform, center"):
        infuse(KEY, crystals, NUM_ATOMS, placement="corner")


@each_placement
def test_reduction_undoes_infusion(crystals, placement):
    reduced = reduce(infuse(KEY, crystals, NUM_ATOMS, placement=placement))
    assert [len(crystal.atom_types) for crystal in reduced] == [5, 1, 3]
    for i, crystal in enumerate(reduced):
        real = np.asarray(crystals.mask[i])
        assert crystal.mask.all()
        np.testing.assert_array_equal(crystal.lattice, crystals.lattice[i])
        np.testing.assert_array_equal(crystal.frac_coords, crystals.frac_coords[i, real])
        np.testing.assert_array_equal(crystal.atom_types, crystals.atom_types[i, real])


def test_reduction_drops_mirage_atoms_wherever_they_are(crystals):
    types = crystals.atom_types.at[0, 1].set(0).at[2, 0].set(0)
    reduced = reduce(replace(crystals, atom_types=types))
    assert [len(crystal.atom_types) for crystal in reduced] == [4, 1, 2]
    np.testing.assert_array_equal(
        reduced[0].frac_coords, crystals.frac_coords[0, jnp.array([0, 2, 3, 4])]
    )
    np.testing.assert_array_equal(reduced[2].atom_types, crystals.atom_types[2, 1:3])


def test_a_crystal_can_lose_all_its_atoms(crystals):
    empty = replace(crystals, atom_types=jnp.zeros_like(crystals.atom_types))
    reduced = reduce(empty)
    assert [crystal.size for crystal in reduced] == [0, 0, 0]
    assert reduced[0].frac_coords.shape == (0, 3)
    np.testing.assert_array_equal(reduced[0].lattice, crystals.lattice[0])


@each_placement
def test_nothing_can_be_infused(crystals, placement):
    nothing = replace(crystals[1], mask=jnp.zeros(5, bool))
    infused = infuse(KEY, nothing, 3, placement=placement)
    assert not real_atom_mask(infused).any()
    assert infused.mask.all()
    assert np.isfinite(infused.frac_coords).all()
