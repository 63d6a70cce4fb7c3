"""The type diffusion against matrices that are really multiplied, and against counts."""

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


def test_the_cross_entropy_is_that_of_the_clean_type():
    logits = jnp.asarray(np.random.default_rng(2).normal(size=(3, NUM_TYPES)) * 3, jnp.float32)
    clean, mask = jnp.array([0, 8, 99]), jnp.array([True, True, False])
    found = types.cross_entropy(logits, clean, mask)
    probs = np.exp(np.float64(logits)) / np.exp(np.float64(logits)).sum(-1, keepdims=True)
    close(found, np.where(mask, -np.log(probs[np.arange(3), clean]), 0), atol=1e-5)


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
