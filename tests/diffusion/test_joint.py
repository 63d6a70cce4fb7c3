"""The three fields as one process: what is drawn of which key, and what padding does not touch."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.condition import Times
from miad_jax.crystal import NUM_TYPES, Crystal, Prediction
from miad_jax.diffusion import Noise, StepNoise, add_noise, joint, prior, step
from miad_jax.diffusion.types import TypesNoise

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def crystals(random_crystals):
    """Four crystals with two mirage atoms each, and padding."""
    return random_crystals([5, 3, 4, 4], 5, num_mirage=2)


@pytest.fixture(scope="module")
def step_noise():
    rng = np.random.default_rng(0)
    lattice, coords = rng.normal(size=(4, 3, 3)), rng.normal(size=(4, 5, 3))
    drawn = (lattice, coords, rng.random((4, 5)))
    return StepNoise(*(jnp.asarray(x, jnp.float32) for x in drawn))


def equal(one, two):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)


def test_noising_equals_the_published(golden, full):
    numbers = golden("losses")
    lattice, coords, lattice_noise, coords_noise = (
        jnp.asarray(numbers[x], jnp.float32)
        for x in ("lattice0", "frac0", "lattice_noise", "coord_noise")
    )
    types, t = (jnp.asarray(numbers[x], jnp.int32) for x in ("types0", "t"))
    clean = Crystal(lattice, coords, types, jnp.ones((5, 8), bool))
    noise = Noise(lattice_noise, coords_noise, TypesNoise(jnp.ones((5, 8)), types))
    ours = joint.noised(full, clean, t, noise)
    np.testing.assert_allclose(ours.lattice, numbers["lattice_t"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.frac_coords, numbers["frac_t"], rtol=1e-4, atol=1e-5)


# Keys and batches.


def test_one_key_is_folded_with_the_index(short, crystals):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(4))
    raw = jax.random.key_data(KEY)
    for run in (
        lambda k: add_noise(short, k, crystals, 5),
        lambda k: joint.draw_times(short, k, (4,)),
        lambda k: prior(short, k, crystals.mask),
    ):
        once = run(KEY)
        for other in (keys, raw):
            equal(run(other), once)


def test_keys_that_fit_nothing_are_refused(short, crystals):
    with pytest.raises(ValueError, match=r"shape \(2,\) do not fit .* \(4,\): give one key"):
        add_noise(short, jax.random.split(jax.random.key(0), 2), crystals, 5)


def test_a_crystal_does_not_depend_on_its_batch(short, crystals):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(4))
    whole, noise = add_noise(short, KEY, crystals, 7)
    for part in (slice(1, 3), 1):
        alone = add_noise(short, keys[part], crystals[part], 7)
        for a, b in zip(jax.tree.leaves((whole, noise)), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[part], b, rtol=1e-6, atol=1e-6)
    # Different crystals get different noise.
    assert np.abs(noise.lattice[0] - noise.lattice[1]).max() > 0.1
    assert np.abs(noise.coords[0] - noise.coords[1]).max() > 0.1


def test_times_are_uniform_with_both_ends(short):
    t = np.asarray(joint.draw_times(short, jax.random.key(0), (4000,)))
    counts = np.bincount(t, minlength=20)
    assert len(counts) == 20
    assert (np.abs(counts - 200) < 4.5 * np.sqrt(200)).all()


def test_the_prior_is_pure_noise(short):
    mask = jnp.ones((2000, 2), bool)
    crystal = prior(short, jax.random.key(0), mask)
    np.testing.assert_array_equal(crystal.mask, mask)
    assert abs(crystal.lattice.mean()) < 4 / np.sqrt(18000)
    assert abs(crystal.lattice.std() - 1) < 4 / np.sqrt(36000)
    assert crystal.frac_coords.min() >= 0
    assert crystal.frac_coords.max() < 1
    assert abs(crystal.frac_coords.mean() - 0.5) < 4 / np.sqrt(12 * 12000)
    counts = np.bincount(np.ravel(crystal.atom_types), minlength=NUM_TYPES)
    assert len(counts) == NUM_TYPES
    assert (np.abs(counts - 40) < 4.5 * np.sqrt(40)).all()


# Padding.


def test_padding_stays_and_changes_nothing(short, crystals, plain_denoise, step_noise):
    pad = np.asarray(~crystals.mask)
    garbage = replace(
        crystals,
        frac_coords=jnp.where(
            pad[..., None], 1e3 * crystals.frac_coords - 77.3, crystals.frac_coords
        ),
        atom_types=jnp.where(pad, 99 - crystals.atom_types, crystals.atom_types),
    )
    t = jnp.full(4, 11)

    @jax.jit
    def stepped(crystals):
        said = plain_denoise(crystals, t)
        return step(short, said, crystals, t, t - 3, step_noise)

    for move in (lambda c: add_noise(short, KEY, c, 19)[0], stepped):
        moved, same = move(crystals), move(garbage)
        np.testing.assert_array_equal(moved.lattice, same.lattice)
        for name in ("frac_coords", "atom_types"):
            one, two, before = (np.asarray(getattr(x, name)) for x in (moved, same, garbage))
            np.testing.assert_array_equal(one[~pad], two[~pad])
            np.testing.assert_array_equal(two[pad], before[pad])
        assert (moved.frac_coords[~pad] != crystals.frac_coords[~pad]).all()
        np.testing.assert_array_equal(same.mask, garbage.mask)


# Parts with times of their own.


def test_one_time_stands_for_all_parts(short, crystals, plain_denoise, step_noise):
    t, s = jnp.array([3, 19, 8, 1]), jnp.array([2, 7, -1, 0])
    parts, then = Times.same(t, 5), Times.same(s, 5)
    equal(add_noise(short, KEY, crystals, t), add_noise(short, KEY, crystals, parts))
    equal(add_noise(short, KEY, crystals, 6), add_noise(short, KEY, crystals, jnp.full(4, 6)))
    said = plain_denoise(crystals, t)
    equal(
        step(short, said, crystals, t, s, step_noise),
        step(short, said, crystals, parts, then, step_noise),
    )


def test_known_parts_stay_as_they_are(short, crystals, plain_denoise, step_noise):
    """Times of −1: the cell of the first crystal, the second atom's place, the third's type."""
    t = Times(
        lattice=jnp.array([-1, 9, 9, 9]),
        coords=jnp.full((4, 5), 9).at[:, 1].set(-1),
        types=jnp.full((4, 5), 19).at[:, 2].set(-1),
    )
    s = jax.tree.map(lambda x: jnp.maximum(x - 5, -1), t)
    said = plain_denoise(crystals, jnp.full(4, 9))
    said = replace(said, types=100 * jax.nn.one_hot(98 - crystals.atom_types, NUM_TYPES))
    clean = jax.tree.map(lambda x: jnp.full_like(x, -1), t)
    for moved in (
        add_noise(short, KEY, crystals, t)[0],
        step(short, said, crystals, t, s, step_noise),
        step(short, said, crystals, t, clean, step_noise),
    ):
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(moved))
        changed = np.abs(moved.lattice - crystals.lattice).max((1, 2)) > 1e-3
        np.testing.assert_array_equal(changed, [False, True, True, True])
        np.testing.assert_array_equal(moved.lattice[0], crystals.lattice[0])
        np.testing.assert_array_equal(moved.frac_coords[:, 1], crystals.frac_coords[:, 1])
        np.testing.assert_array_equal(moved.atom_types[:, 2], crystals.atom_types[:, 2])
        real = np.asarray(crystals.mask)
        others = np.array([0, 2, 3, 4])
        assert (moved.frac_coords != crystals.frac_coords)[:, others][real[:, others]].all()
        others = np.array([0, 1, 3, 4])
        assert (moved.atom_types != crystals.atom_types)[:, others][real[:, others]].mean() > 0.7


def test_a_step_is_the_steps_of_the_fields(short, crystals, step_noise):
    rng = np.random.default_rng(1)
    shapes = (4, 3, 3), (4, 5, 3), (4, 5, NUM_TYPES)
    said = Prediction(*(jnp.asarray(rng.normal(size=x), jnp.float32) for x in shapes))
    t, s = jnp.array([19, 10, 3, 0]), jnp.array([18, 2, 2, -1])
    moved = step(short, said, crystals, t, s, step_noise)
    mask, each = np.asarray(crystals.mask), (t[:, None], s[:, None])
    np.testing.assert_array_equal(
        moved.lattice, short.lattice.step(said.lattice, crystals.lattice, t, s, step_noise.lattice)
    )
    coords = short.coords.step(said.coords, crystals.frac_coords, *each, step_noise.coords)
    np.testing.assert_array_equal(moved.frac_coords[mask], coords[mask])
    types = short.types.step(said.types, crystals.atom_types, *each, step_noise.types)
    np.testing.assert_array_equal(moved.atom_types[mask], types[mask])
