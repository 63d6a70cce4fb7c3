"""The closed forms against explicit K×K matrices in float64."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.crystal import NUM_TYPES
from miad_jax.diffusion import make_diffusion, types

K, OFFSET = NUM_TYPES, 0.008
TIMES = (0, 1, 37, 500, 999)


@pytest.fixture(scope="module")
def schedule():
    return make_diffusion().types


def step_matrix(t):
    """Q_t = (1−β) I + β/K 11ᵀ, from the cosine."""
    before, after = (np.cos((u / 1001 + OFFSET) / (1 + OFFSET) * np.pi / 2) for u in (t, t + 1))
    beta = 1 - after / before
    return (1 - beta) * np.eye(K) + beta / K


@pytest.fixture(scope="module")
def matrices():
    """For each t of TIMES: Q_t, Q̄_{t−1} and Q̄_t, as products of all matrices before."""
    product, kept = np.eye(K), {}
    for t in range(1000):
        step = step_matrix(t)
        before, product = product, product @ step
        if t in TIMES:
            kept[t] = step, before, product
    return kept


def bayes(matrices, t, types_t, probs_0):
    """(x_t Qᵀ) ⊙ (x_0 Q̄_{t−1}), normalised."""
    step, before, _ = matrices[t]
    joint = step[:, types_t].T * (probs_0 @ before)
    return joint / joint.sum(-1, keepdims=True)


def random_probs(rng, num):
    logits = 3 * rng.normal(size=(num, K))
    probs = np.exp(logits)
    return np.float32(logits), probs / probs.sum(-1, keepdims=True)


@pytest.mark.parametrize("t", TIMES)
def test_the_transition_is_a_power_of_matrices(schedule, matrices, t):
    ours = types.transition(schedule, jnp.arange(K)[None], jnp.array([t]))[0]
    np.testing.assert_allclose(ours, matrices[t][2], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(ours.sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("t", TIMES)
def test_the_posterior_is_that_of_bayes(schedule, matrices, t):
    step, before, whole = matrices[t]
    # Every pair of x_t (rows) and x_0 (atoms): q(x_s | x_t, x_0) = Q[x_s, x_t] Q̄_s[x_0, x_s] / …
    types_t = jnp.broadcast_to(jnp.arange(K)[:, None], (K, K))
    probs_0 = jnp.broadcast_to(jnp.eye(K), (K, K, K))
    ours = types.posterior(schedule, types_t, probs_0, jnp.full(K, t))
    expected = step.T[:, None, :] * before[None] / whole.T[:, :, None]
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(ours.sum(-1), 1, rtol=1e-5)

    # The model's: x_0 replaced by a distribution over it.
    rng = np.random.default_rng(t)
    noised, (_, probs) = rng.integers(0, K, 50), random_probs(rng, 50)
    ours = types.posterior(
        schedule, jnp.asarray(noised)[None], jnp.asarray(probs, jnp.float32)[None], jnp.array([t])
    )[0]
    np.testing.assert_allclose(ours, bayes(matrices, t, noised, probs), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("t", TIMES)
def test_the_loss_is_the_divergence_of_the_posteriors(schedule, matrices, t):
    rng = np.random.default_rng(t)
    clean, redrawn = rng.integers(0, K, (2, 50))
    noised = np.where(rng.random(50) < 0.5, clean, redrawn)
    logits, probs = random_probs(rng, 50)
    q = bayes(matrices, t, noised, np.eye(K)[clean])
    p = bayes(matrices, t, noised, probs)
    expected = 1000 * (q * (np.log(q + 1e-4) - np.log(p + 1e-4))).sum(-1)
    mask = np.arange(50) < 40

    def loss(logits):
        return types.loss(
            schedule,
            jnp.asarray(logits)[None],
            *(jnp.asarray(x)[None] for x in (clean, noised)),
            jnp.array([t]),
            jnp.asarray(mask)[None],
        )[0]

    ours = loss(logits)
    np.testing.assert_allclose(ours, np.where(mask, expected, 0), rtol=1e-3, atol=3e-3)
    assert ours.min() > -0.1, "a divergence, but for the floor in the logarithm"
    assert ours.max() > 1e-3
    perfect = 200 * np.eye(K, dtype=np.float32)[clean]
    np.testing.assert_allclose(loss(perfect), 0, atol=1e-3)


def test_noising_draws_from_the_transition(schedule):
    """Pearson's χ² of 20,000 draws, as many degrees of freedom as there are other types."""
    num, t, clean = 20_000, 500, 13
    rng = np.random.default_rng(0)
    drawn = types.add_noise(
        schedule,
        jnp.full((1, num), clean),
        jnp.array([t]),
        jnp.asarray(rng.random((1, num)), jnp.float32),
        jnp.asarray(rng.integers(0, K, (1, num))),
    )
    expected = num * np.float64(
        types.transition(schedule, jnp.array([[clean]]), jnp.array([t]))[0, 0]
    )
    assert expected.min() > 50
    counts = np.bincount(np.ravel(drawn), minlength=K)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert 99 - 4 * np.sqrt(2 * 99) < chi_square < 99 + 4 * np.sqrt(2 * 99)


def test_noising_leaves_what_is_not_redrawn(schedule):
    clean = jnp.array([[1, 2, 3]])
    level = float(schedule.one_minus_keep[40])
    uniform = jnp.array([[level - 1e-4, level + 1e-4, 0.0]])
    noised = types.add_noise(schedule, clean, jnp.array([40]), uniform, jnp.array([[7, 8, 9]]))
    np.testing.assert_array_equal(noised, [[7, 2, 9]])


@pytest.mark.parametrize("t", [1, 500, 999])
def test_a_reverse_step_inverts_the_distribution_function(schedule, matrices, t):
    """Evenly spaced quantiles hit every type in proportion to its probability."""
    num, rng = 10_000, np.random.default_rng(t)
    logits, probs = random_probs(rng, 1)
    quantiles = (np.arange(num) + 0.5) / num
    drawn = np.asarray(
        types.reverse_step(
            schedule,
            jnp.full((1, num), 42, jnp.int32),
            jnp.broadcast_to(jnp.asarray(logits), (1, num, K)),
            jnp.array([t]),
            jnp.asarray(quantiles, jnp.float32)[None],
        )
    )[0]
    assert drawn.dtype == np.int32
    expected = bayes(matrices, t, np.array([42]), probs)[0]
    counts = np.bincount(drawn, minlength=K)
    np.testing.assert_allclose(counts, num * expected, atol=1.5)
    assert (np.diff(drawn) >= 0).all()


def test_the_first_row_takes_the_mode(schedule):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(2, 30, K)), jnp.float32)
    types_t = jnp.asarray(rng.integers(0, K, (2, 30)), jnp.int32)
    uniform = jnp.asarray(rng.random((2, 30)), jnp.float32)
    rows = jnp.array([0, 500])
    drawn = types.reverse_step(schedule, types_t, logits, rows, uniform)
    probs = types.posterior(schedule, types_t, jax.nn.softmax(logits), rows)
    np.testing.assert_array_equal(drawn[0], probs[0].argmax(-1))
    np.testing.assert_array_equal(probs[0].argmax(-1), logits[0].argmax(-1))
    assert (drawn[1] != probs[1].argmax(-1)).any(), "the other rows draw"


@pytest.mark.parametrize("possible", [(0, 3), (50,), (96, 98), (99,), (0, 99)])
def test_the_outermost_quantiles_are_possible_types(schedule, possible):
    """With Q̄_{t−1} = I only the types that x̂_0 allows have a positive probability."""
    certain = replace(
        schedule,
        keep_prev=jnp.ones_like(schedule.keep_prev),
        one_minus_keep_prev=jnp.zeros_like(schedule.keep_prev),
    )
    logits = jnp.full(K, -1e4).at[jnp.array(possible)].set(0)
    uniform = jnp.array([[0.0, np.nextafter(np.float32(1), np.float32(0))]])
    types_t = jnp.full((1, 2), 5)
    logits = jnp.broadcast_to(logits, (1, 2, K))
    probs = types.posterior(certain, types_t, jax.nn.softmax(logits), jnp.array([500]))
    assert (probs[0, 0] > 0).sum() == len(possible)
    drawn = types.reverse_step(certain, types_t, logits, jnp.array([500]), uniform)
    np.testing.assert_array_equal(drawn, [[min(possible), max(possible)]])
