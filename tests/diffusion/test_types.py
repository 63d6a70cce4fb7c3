"""The type diffusion against matrices that are really multiplied, and against counts."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.diffusion import make_diffusion, types

NUM_TYPES = 100


@pytest.fixture(scope="module")
def full():
    return make_diffusion(ending="published")


def close(actual, expected, rtol=1e-4, atol=1e-5):
    np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol=rtol, atol=atol)


def matrices(t):
    """Q̄_{t−1} and Q_t of the full process as float64 matrices."""

    def keep(u):
        return np.cos((u / 1001 + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)

    identity, ones = np.eye(NUM_TYPES), np.ones((NUM_TYPES, NUM_TYPES)) / NUM_TYPES
    before = identity
    for u in range(1, t + 1):
        beta = 1 - keep(u) / keep(u - 1)
        before = before @ ((1 - beta) * identity + beta * ones)
    beta = 1 - keep(t + 1) / keep(t)
    return before, (1 - beta) * identity + beta * ones


@pytest.mark.parametrize("t", [0, 1, 30, 200])
def test_types_equal_matrix_powers(full, t):
    before, step = matrices(t)
    rows = jnp.int32(t)
    clean = jnp.array([0, 8, 99])
    close(types.transition(full.types, clean, rows), (before @ step)[np.asarray(clean)], atol=1e-7)
    probs = np.random.default_rng(0).dirichlet(np.ones(NUM_TYPES), 3)
    noisy = np.array([8, 8, 0])
    joint = step[:, noisy].T * (probs @ before)
    expected = joint / joint.sum(-1, keepdims=True)
    actual = types.posterior(full.types, jnp.asarray(noisy), jnp.asarray(probs, jnp.float32), rows)
    close(actual, expected, rtol=1e-4, atol=1e-6)


def test_sampled_types_follow_their_distribution(full):
    num = 20_000
    rng = np.random.default_rng(1)
    t, clean = jnp.int32(600), jnp.full(num, 8)
    uniform = jnp.asarray(rng.random(num), jnp.float32)
    noisy = types.add_noise(full.types, clean, t, uniform, jnp.asarray(rng.integers(0, 100, num)))
    expected = np.asarray(types.transition(full.types, clean[:1], t))[0]
    found = np.bincount(np.asarray(noisy), minlength=NUM_TYPES) / num
    assert (np.abs(found - expected) < 5 * np.sqrt(expected / num)).all()

    logits = jnp.asarray(rng.normal(size=NUM_TYPES) * 2, jnp.float32)
    drawn = types.reverse_step(full.types, clean, jnp.tile(logits, (num, 1)), t, uniform)
    expected = np.asarray(types.posterior(full.types, clean[:1], jax.nn.softmax(logits)[None], t))[
        0
    ]
    found = np.bincount(np.asarray(drawn), minlength=NUM_TYPES) / num
    assert (np.abs(found - expected) < 5 * np.sqrt(expected / num) + 1e-4).all()


@pytest.mark.parametrize("t", [0, 500, 999])
def test_the_cross_entropy_is_that_of_the_clean_type(full, t):
    logits = jnp.asarray(np.random.default_rng(2).normal(size=(3, NUM_TYPES)) * 3, jnp.float32)
    clean, noisy, mask = jnp.array([0, 8, 99]), jnp.array([5, 8, 1]), jnp.array([True, True, False])
    every, t = jnp.arange(NUM_TYPES), jnp.int32(t)
    found = types.cross_entropy(full.types, logits, clean, noisy, t, mask)
    evidence = np.asarray(types.transition(full.types, every, t))
    joint = np.exp(np.float64(logits)) * evidence[:, np.asarray(noisy)].T
    probs = joint / joint.sum(-1, keepdims=True)
    close(found, np.where(mask, -np.log(probs[np.arange(3), clean]), 0), atol=1e-4)


def test_what_the_losses_of_the_types_teach(full):
    """One atom, of which nothing but its prior is known: the exact x̂_0 is the prior."""
    prior = jnp.zeros(NUM_TYPES).at[jnp.array([0, 8, 26])].set(jnp.array([0.5, 0.3, 0.2]))
    prior = 0.999 * prior + 0.001 / NUM_TYPES
    t, every, seen = jnp.int32(700), jnp.arange(NUM_TYPES), jnp.full(NUM_TYPES, 8)
    probs_0 = prior * types.transition(full.types, every, t)[:, 8]
    probs_0 = probs_0 / probs_0.sum()  # of the clean type, given the noised one
    np.testing.assert_allclose(
        jnp.exp(types.log_probs_0(full.types, jnp.log(prior)[None], seen[:1], t)[0]), probs_0, 1e-4
    )
    each = types.posterior(full.types, seen, jax.nn.one_hot(every, NUM_TYPES), t)
    exact = probs_0 @ each

    def vanishing(probs):
        """The chance to become mirage in this step, as a share of the exact one."""
        return types.posterior(full.types, seen[:1], probs[None], t)[0, 0] / exact[0]

    def expected(loss, logits):
        mask = jnp.ones(NUM_TYPES, bool)
        return (
            probs_0 * loss(full.types, jnp.tile(logits, (NUM_TYPES, 1)), every, seen, t, mask)
        ).sum()

    np.testing.assert_allclose(vanishing(prior), 1, rtol=1e-4)
    assert vanishing(probs_0) < 0.1, "what Eq. 5 of D3PM would teach"
    slope = jax.grad(partial(expected, types.cross_entropy))(jnp.log(prior))
    assert jnp.abs(slope).max() < 1e-5
    # The floor of the published loss is more than the chance to become mirage: less is better yet.
    assert exact[0] < types.LOSS_FLOOR
    without = jnp.where(every == 0, 1e-4, prior)
    losses = [expected(types.loss, jnp.log(x / x.sum())) for x in (prior, without)]
    assert losses[1] < losses[0]


def test_the_ends_of_the_quantiles_and_the_first_row(full):
    logits = 50.0 * jax.nn.one_hot(jnp.array([8, 8]), NUM_TYPES)
    ends = jnp.array([0.0, 1 - 2**-24], jnp.float32)
    drawn = types.reverse_step(full.types, jnp.array([8, 8]), logits, jnp.int32(999), ends)
    assert drawn.min() >= 0
    assert drawn.max() <= 99
    first = types.reverse_step(full.types, jnp.array([26, 3]), logits, jnp.int32(0), ends)
    np.testing.assert_array_equal(first, [8, 8])


def test_a_temperature_below_one_trusts_the_likeliest_types(full):
    num = 20_000
    rng = np.random.default_rng(3)
    uniform = jnp.asarray(rng.random(num), jnp.float32)
    logits = jnp.asarray(rng.normal(size=NUM_TYPES), jnp.float32)
    noisy, t = jnp.full(num, 8), jnp.int32(999)
    cold = make_diffusion(ending="published", type_temperature=0.5).types
    drawn = types.reverse_step(cold, noisy, jnp.tile(logits, (num, 1)), t, uniform)
    squared = jax.nn.softmax(logits) ** 2
    expected = types.posterior(full.types, noisy[:1], (squared / squared.sum())[None], t)[0]
    found = np.bincount(np.asarray(drawn), minlength=NUM_TYPES) / num
    expected = np.asarray(expected)
    assert (np.abs(found - expected) < 5 * np.sqrt(expected / num) + 1e-4).all()
