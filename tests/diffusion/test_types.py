"""The type diffusion against matrices that are really multiplied, and against counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.diffusion.types import LOSS_FLOOR, TypesNoise

NUM_TYPES = 100
EVERY = jnp.arange(NUM_TYPES)


@pytest.fixture(scope="module")
def process(full):
    return full.types


def close(actual, expected, rtol=1e-4, atol=1e-5):
    np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol=rtol, atol=atol)


def at(*times):
    """The same times for all atoms."""
    return jnp.array(times, jnp.int32)


def matrix(first, last):
    """The product of the steps' matrices from time `first` to `last`, in float64."""

    def keep(u):
        return np.cos((u / 1001 + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)

    identity, ones = np.eye(NUM_TYPES), np.ones((NUM_TYPES, NUM_TYPES)) / NUM_TYPES
    product = identity
    for u in range(first + 1, last + 1):
        beta = 1 - keep(u + 1) / keep(u)
        product = product @ ((1 - beta) * identity + beta * ones)
    return product


@pytest.mark.parametrize(("t", "s"), [(0, -1), (1, 0), (30, 29), (200, 199), (200, 30), (30, -1)])
def test_types_equal_matrix_powers(process, t, s):
    before, step = matrix(-1, s), matrix(s, t)
    clean = jnp.array([0, 8, 99])
    close(process.transition(clean, at(t)), (before @ step)[np.asarray(clean)], atol=1e-7)
    probs = np.random.default_rng(0).dirichlet(np.ones(NUM_TYPES), 3)
    noisy = np.array([8, 8, 0])
    joint = step[:, noisy].T * (probs @ before)
    expected = joint / joint.sum(-1, keepdims=True)
    actual = process.posterior(jnp.asarray(noisy), jnp.asarray(probs, jnp.float32), at(t), at(s))
    close(actual, expected, rtol=1e-4, atol=1e-6)


def shares(drawn):
    return np.bincount(np.asarray(drawn), minlength=NUM_TYPES) / len(drawn)


@pytest.mark.parametrize("gap", [1, 200])
def test_sampled_types_follow_their_distribution(process, gap):
    num = 20_000
    rng = np.random.default_rng(1)
    t, clean = at(600), jnp.full(num, 8)
    uniform = jnp.asarray(rng.random(num), jnp.float32)
    noise = TypesNoise(uniform, jnp.asarray(rng.integers(0, 100, num)))
    expected = np.asarray(process.transition(clean[:1], t))[0]
    found = shares(process.add_noise(clean, t, noise))
    assert (np.abs(found - expected) < 5 * np.sqrt(expected / num)).all()

    logits = jnp.asarray(rng.normal(size=NUM_TYPES) * 2, jnp.float32)
    found = shares(process.step(jnp.tile(logits, (num, 1)), clean, t, t - gap, uniform))
    expected = process.posterior(clean[:1], jax.nn.softmax(logits)[None], t, t - gap)
    expected = np.asarray(expected)[0]
    assert (np.abs(found - expected) < 5 * np.sqrt(expected / num) + 1e-4).all()


@pytest.mark.parametrize("t", [0, 500, 999])
def test_the_cross_entropy_is_that_of_the_clean_type(process, t):
    logits = jnp.asarray(np.random.default_rng(2).normal(size=(3, NUM_TYPES)) * 3, jnp.float32)
    clean, noisy = jnp.array([0, 8, 99]), jnp.array([5, 8, 1])
    found = process.cross_entropy(logits, clean, noisy, at(t))
    evidence = np.asarray(process.transition(EVERY, at(t)))
    joint = np.exp(np.float64(logits)) * evidence[:, np.asarray(noisy)].T
    probs = joint / joint.sum(-1, keepdims=True)
    close(found, -np.log(probs[np.arange(3), clean]), atol=1e-4)


def test_what_the_losses_of_the_types_teach(process):
    """One atom, of which nothing but its prior is known: the exact x̂_0 is the prior."""
    prior = jnp.zeros(NUM_TYPES).at[jnp.array([0, 8, 26])].set(jnp.array([0.5, 0.3, 0.2]))
    prior = 0.999 * prior + 0.001 / NUM_TYPES
    t, seen = at(700), jnp.full(NUM_TYPES, 8)
    probs_0 = prior * process.transition(EVERY, t)[:, 8]
    probs_0 = probs_0 / probs_0.sum()  # of the clean type, given the noised one
    np.testing.assert_allclose(
        jnp.exp(process.clean(jnp.log(prior)[None], seen[:1], t)[0]), probs_0, 1e-4
    )
    each = process.posterior(seen, jax.nn.one_hot(EVERY, NUM_TYPES), t, t - 1)
    exact = probs_0 @ each

    def vanishing(probs):
        """The chance to become mirage in this step, as a share of the exact one."""
        return process.posterior(seen[:1], probs[None], t, t - 1)[0, 0] / exact[0]

    def divergence(logits):
        still = TypesNoise(jnp.zeros(NUM_TYPES), seen)
        return process.loss(jnp.tile(logits, (NUM_TYPES, 1)), EVERY, seen, t, still)

    def cross_entropy(logits):
        return process.cross_entropy(jnp.tile(logits, (NUM_TYPES, 1)), EVERY, seen, t)

    np.testing.assert_allclose(vanishing(prior), 1, rtol=1e-4)
    assert vanishing(probs_0) < 0.1, "what Eq. 5 of D3PM would teach"
    slope = jax.grad(lambda logits: (probs_0 * cross_entropy(logits)).sum())(jnp.log(prior))
    assert jnp.abs(slope).max() < 1e-5
    # The floor of the published loss is more than the chance to become mirage: less is better yet.
    assert exact[0] < LOSS_FLOOR
    without = jnp.where(EVERY == 0, 1e-4, prior)
    losses = [(probs_0 * divergence(jnp.log(x / x.sum()))).sum() for x in (prior, without)]
    assert losses[1] < losses[0]


def test_the_ends_of_the_quantiles_and_the_last_step(process):
    logits = 50.0 * jax.nn.one_hot(jnp.array([8, 8]), NUM_TYPES)
    ends = jnp.array([0.0, 1 - 2**-24], jnp.float32)
    drawn = process.step(logits, jnp.array([8, 8]), at(999), at(998), ends)
    assert drawn.min() >= 0
    assert drawn.max() <= 99
    for t in (0, 300):
        last = process.step(logits, jnp.array([26, 3]), at(t), at(-1), ends)
        np.testing.assert_array_equal(last, [8, 8])
