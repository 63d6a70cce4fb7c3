"""DDPM on the lattice against its formulas in float64, for steps of any length."""

import jax.numpy as jnp
import numpy as np
import pytest

ROWS = np.array([0, 249, 500, 749, 999])


@pytest.fixture(scope="module")
def process(full):
    return full.lattice


@pytest.fixture(scope="module", params=[1, 25, 1000], ids=["next", "respaced", "to clean"])
def earlier(request):
    """The time that each row steps to."""
    return jnp.asarray(np.maximum(ROWS - request.param, -1))


@pytest.fixture(scope="module")
def drawn():
    """Clean lattices and noise, five of each."""
    rng = np.random.default_rng(0)
    clean = 4 * np.eye(3) + rng.normal(size=(5, 3, 3))
    return [jnp.asarray(x, jnp.float32) for x in (clean, *rng.normal(size=(2, 5, 3, 3)))]


def column(values, rows):
    return np.float64(values)[np.asarray(rows)][:, None, None]


def test_noising_keeps_the_variance(process, drawn):
    clean, eps, _ = drawn
    alpha_bar = column(process.alpha_bar, ROWS)
    expected = np.sqrt(alpha_bar) * np.float64(clean) + np.sqrt(1 - alpha_bar) * np.float64(eps)
    noised = process.add_noise(clean, jnp.asarray(ROWS), eps)
    np.testing.assert_allclose(noised, expected, rtol=1e-4, atol=1e-5)


def test_a_step_draws_from_the_true_posterior(process, earlier, drawn):
    """With ε̂ = ε the step is q(L_s | L_t, L_0), whose mean and variance DDPM gives (Eq. 7)."""
    clean, eps, z = drawn
    t = jnp.asarray(ROWS)
    noised = process.add_noise(clean, t, eps)
    after, before = (column(process.alpha_bar, rows) for rows in (ROWS, earlier))
    left_after, left_before = (column(process.one_minus_alpha_bar, r) for r in (ROWS, earlier))
    alpha = after / before
    table = process.log_alpha_bar
    log_alpha = sum(column(x, ROWS) - column(x, earlier) for x in (table.high, table.low))
    beta = -np.expm1(log_alpha)
    mean = np.sqrt(before) * beta / left_after * np.float64(clean)
    mean += np.sqrt(alpha) * left_before / left_after * np.float64(noised)
    std = np.sqrt(beta * left_before / left_after)

    # The last rows divide by √α ≈ 0.01, and to the clean lattice by 1.6e-5: rounding with it.
    quiet = process.step(eps, noised, t, earlier, jnp.zeros_like(z))
    assert (np.abs(quiet - mean) < 1e-5 + 3e-7 / np.sqrt(alpha)).all()
    noisy = process.step(eps, noised, t, earlier, z)
    np.testing.assert_allclose(noisy - quiet, std * np.float64(z), rtol=1e-3, atol=1e-4)


def test_the_last_step_ends_at_the_clean_lattice(process, drawn):
    clean, eps, z = drawn
    first = jnp.zeros(5, jnp.int32)
    noised = process.add_noise(clean, first, eps)
    assert np.abs(noised - clean).max() > 1e-3
    stepped = process.step(eps, noised, first, first - 1, z)
    np.testing.assert_allclose(stepped, clean, rtol=1e-5, atol=1e-5)


def test_one_time_for_all_or_one_for_each(process, drawn):
    clean, eps, z = drawn
    t, s = jnp.int32(7), jnp.int32(3)
    each_t, each_s = jnp.full(5, 7), jnp.full(5, 3)
    for all_, each, alone in (
        (
            process.add_noise(clean, t, eps),
            process.add_noise(clean, each_t, eps),
            process.add_noise(clean[2], t, eps[2]),
        ),
        (
            process.step(eps, clean, t, s, z),
            process.step(eps, clean, each_t, each_s, z),
            process.step(eps[2], clean[2], t, s, z[2]),
        ),
        (
            process.clean(eps, clean, t),
            process.clean(eps, clean, each_t),
            process.clean(eps[2], clean[2], t),
        ),
    ):
        np.testing.assert_array_equal(all_, each)
        np.testing.assert_allclose(alone, all_[2], rtol=1e-6)


def test_the_loss_is_the_mean_over_nine_entries(process, drawn):
    clean, eps, _ = drawn
    t = jnp.asarray(ROWS)
    expected = ((np.float64(clean) - np.float64(eps)) ** 2).reshape(5, 9).mean(-1)
    np.testing.assert_allclose(process.loss(clean, clean, clean, t, eps), expected, rtol=1e-5)
    np.testing.assert_array_equal(process.loss(eps, clean, clean, t, eps), np.zeros(5))
