"""A number of atoms that is asked, against sums over all sets of slots."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miad_jax.crystal import MIRAGE, NUM_TYPES
from miad_jax.sampling.counts import log_odds_of_count, most_probable_slots, numbered


def by_enumeration(log_odds, least, most):
    """P(slot is real | the number of real slots lies in [least, most]), and the best such set."""
    real = 1 / (1 + np.exp(-np.float64(log_odds)))
    sets = np.array(list(itertools.product([0, 1], repeat=len(real))), bool)
    sets = sets[(sets.sum(-1) >= least) & (sets.sum(-1) <= most)]
    weight = np.where(sets, real, 1 - real).prod(-1)
    return (weight[:, None] * sets).sum(0) / weight.sum(), sets[weight.argmax()]


@pytest.mark.parametrize(("least", "most"), [(0, 6), (2, 3), (5, 5), (1, 1), (0, 0), (6, 6)])
def test_each_slot_has_the_odds_that_all_sets_give_it(least, most):
    log_odds = np.random.default_rng(least + most).normal(scale=2, size=(3, 6)).astype(np.float32)
    change = jax.jit(log_odds_of_count)(log_odds, jnp.array([least]), jnp.array([most]))
    best = most_probable_slots(log_odds, jnp.array([least]), jnp.array([most]))
    for i in range(3):
        expected, best_set = by_enumeration(log_odds[i], least, most)
        np.testing.assert_allclose(jax.nn.sigmoid(log_odds[i] + change[i]), expected, atol=1e-5)
        np.testing.assert_array_equal(best[i], best_set)


def test_padding_is_never_real():
    log_odds = jnp.array([1.0, -1.0, -jnp.inf, -1e9])
    change = log_odds_of_count(log_odds, jnp.array(2), jnp.array(2))
    np.testing.assert_allclose(jax.nn.sigmoid(log_odds + change), [1, 1, 0, 0], atol=1e-6)


def test_what_the_model_thinks_impossible_still_has_finite_odds():
    for sure in (-300.0, 300.0):
        change = log_odds_of_count(jnp.full(25, sure), jnp.array(12), jnp.array(12))
        assert np.isfinite(change).all()
        share = jax.nn.sigmoid(sure + change)
        np.testing.assert_allclose(share, 12 / 25, rtol=1e-3)


@jax.jit
def last_types(logits, asked, mask):
    found = numbered(logits, jax.nn.log_softmax(logits), asked, mask, is_last=True)
    return found.argmax(-1)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data(), num=st.integers(1, 8), seed=st.integers(0, 2**31))
def test_the_last_types_have_a_number_that_is_asked_whatever_the_model_says(data, num, seed):
    least = data.draw(st.integers(0, num))
    most = data.draw(st.integers(least, num))
    scale = data.draw(st.sampled_from([0.0, 1.0, 1e3, 1e7]))
    logits = scale * np.random.default_rng(seed).normal(size=(8, NUM_TYPES)).astype(np.float32)
    types = np.asarray(last_types(logits, jnp.array([least, most]), jnp.arange(8) < num))[:num]
    assert least <= (types != MIRAGE).sum() <= most
    # The element of a slot that becomes real is the likeliest.
    elements = logits[:num, 1:].argmax(-1) + 1
    assert ((types == elements) | (types == MIRAGE)).all()


def test_before_the_end_elements_keep_their_odds_among_themselves():
    logits = jnp.asarray(np.random.default_rng(1).normal(size=(2, 4, NUM_TYPES)), jnp.float32)
    asked, mask = jnp.array([[3, 3], [0, 4]]), jnp.ones((2, 4), bool)
    found = numbered(logits, jax.nn.log_softmax(logits), asked, mask, is_last=False)
    np.testing.assert_array_equal(found[..., 1:], logits[..., 1:])
    np.testing.assert_allclose(found[1], logits[1], atol=1e-4)  # which asks nothing
    assert (found[0, :, MIRAGE] > logits[0, :, MIRAGE]).all()  # of one element in a hundred
