"""Elements that are required."""

import jax
import jax.numpy as jnp
import numpy as np

from miad_jax.crystal import NUM_TYPES
from miad_jax.diffusion import make_diffusion
from miad_jax.sampling.elements import neutralise, require

PROCESS = make_diffusion().types
T = jnp.array([[999], [600]])


def expected_numbers(logits, types_t, mask):
    probs = jnp.exp(PROCESS.clean(logits, types_t, T)) * mask[..., None]
    return np.asarray(probs.sum(-2))


def test_each_is_expected_once_and_who_is_there_already_is_left_alone():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(2, 6, NUM_TYPES)), jnp.float32).at[..., 0].add(4)
    logits = logits.at[0, 0, 26].add(12)  # iron is sure of a slot of the first
    types_t = jnp.asarray(rng.integers(0, NUM_TYPES, (2, 6)), jnp.int32)
    mask = jnp.arange(6) < jnp.array([[6], [4]])
    required = jnp.zeros((2, NUM_TYPES), bool).at[:, jnp.array([3, 8, 26])].set(True)
    found = require(PROCESS, logits, required, types_t, T, mask)
    before, after = (expected_numbers(x, types_t, mask) for x in (logits, found))
    assert (before[:, [3, 8]] < 0.2).all()
    assert (np.abs(after[:, [3, 8]] - 1) < 0.15).all()
    changed = np.asarray(found - logits)
    np.testing.assert_array_equal(changed[0, :, 26], 0)
    others = np.delete(changed, [3, 8, 26], -1)
    np.testing.assert_array_equal(others, 0)
    assert np.ptp(changed[..., 3], axis=1).max() < 1e-5  # in all slots alike


def test_what_the_model_thinks_impossible_is_lifted_and_finite():
    logits = jnp.zeros((2, 3, NUM_TYPES)).at[..., 3].set(-1e9)
    required = jnp.zeros((2, NUM_TYPES), bool).at[:, 3].set(True)
    types_t, mask = jnp.zeros((2, 3), jnp.int32), jnp.ones((2, 3), bool)
    found = require(PROCESS, logits, required, types_t, T, mask)
    assert np.isfinite(found).all()
    assert (np.abs(expected_numbers(found, types_t, mask)[:, 3] - 1) < 0.2).all()


def test_nothing_required_changes_nothing():
    logits = jnp.asarray(np.random.default_rng(2).normal(size=(2, 3, NUM_TYPES)), jnp.float32)
    types_t, mask = jnp.zeros((2, 3), jnp.int32), jnp.ones((2, 3), bool)
    found = require(PROCESS, logits, jnp.zeros((2, NUM_TYPES), bool), types_t, T, mask)
    np.testing.assert_array_equal(found, logits)
    assert np.isfinite(jax.nn.log_softmax(found)).all()


STATES = jnp.zeros((NUM_TYPES, 2)).at[8].set(-2).at[12].set(2).at[26].set(jnp.array([2, 3]))


def charge(logits, types_t, mask, end):
    probs = jnp.exp(PROCESS.clean(logits, types_t, T)) * mask[..., None]
    return np.asarray((probs * STATES[:, end]).sum((-2, -1)))


def test_a_composition_that_cannot_be_neutral_is_led_to_the_nearest_that_can():
    rng = np.random.default_rng(3)
    logits = jnp.full((2, 6, NUM_TYPES), -1e9).at[..., jnp.array([0, 8, 12, 26])].set(0.0)
    logits = logits + jnp.asarray(rng.normal(size=logits.shape), jnp.float32)
    # Much oxygen in the first, little in the second.
    logits = logits.at[0, :, 8].add(4).at[1, :, 8].add(-6)
    types_t = jnp.asarray(rng.integers(0, NUM_TYPES, (2, 6)), jnp.int32)
    mask = jnp.arange(6) < jnp.array([[6], [4]])
    found = neutralise(PROCESS, logits, STATES, types_t, T, mask)
    assert charge(logits, types_t, mask, 1)[0] < -2
    assert charge(logits, types_t, mask, 0)[1] > 2
    assert abs(charge(found, types_t, mask, 1)[0]) < 0.05
    assert abs(charge(found, types_t, mask, 0)[1]) < 0.05
    before, after = (jnp.exp(PROCESS.clean(x, types_t, T))[..., 0] for x in (logits, found))
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-5)


def test_what_can_be_neutral_or_has_no_states_is_left_alone():
    rng = np.random.default_rng(4)
    logits = jnp.asarray(rng.normal(size=(2, 6, NUM_TYPES)), jnp.float32)
    types_t, mask = jnp.full((2, 6), 12), jnp.ones((2, 6), bool)
    nothing = jnp.zeros((NUM_TYPES, 2))
    wide = jnp.stack([jnp.full(NUM_TYPES, -3.0), jnp.full(NUM_TYPES, 3.0)], -1).at[0].set(0)
    for states in (nothing, wide):
        found = neutralise(PROCESS, logits, states, types_t, T, mask)
        np.testing.assert_allclose(found, logits, atol=1e-5)
