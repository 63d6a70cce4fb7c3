import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.diffusion import lattice, make_diffusion


@pytest.fixture(scope="module", params=[1000, 40], ids=["full", "respaced"])
def schedule(request):
    return make_diffusion(num_kept=request.param).lattice


@pytest.fixture(scope="module")
def rows(schedule):
    return jnp.asarray(np.linspace(0, len(schedule.beta) - 1, 5).astype(int))


@pytest.fixture(scope="module")
def drawn():
    """Clean lattices and noise, five of each."""
    rng = np.random.default_rng(0)
    clean = 4 * np.eye(3) + rng.normal(size=(5, 3, 3))
    return [jnp.asarray(x, jnp.float32) for x in (clean, *rng.normal(size=(2, 5, 3, 3)))]


def test_noising_keeps_the_variance(schedule, rows, drawn):
    clean, eps, _ = drawn
    alpha_bar = np.float64(schedule.alpha_bar)[rows][:, None, None]
    expected = np.sqrt(alpha_bar) * np.float64(clean) + np.sqrt(1 - alpha_bar) * np.float64(eps)
    noised = lattice.add_noise(schedule, clean, rows, eps)
    np.testing.assert_allclose(noised, expected, rtol=1e-4, atol=1e-5)


def test_a_reverse_step_draws_from_the_true_posterior(schedule, rows, drawn):
    """With ε̂ = ε the step is q(L_s | L_t, L_0), whose mean and variance DDPM gives (Eq. 7)."""
    clean, eps, z = drawn
    noised = lattice.add_noise(schedule, clean, rows, eps)
    after, before = (
        np.float64(column)[rows][:, None, None]
        for column in (schedule.alpha_bar, schedule.alpha_bar_prev)
    )
    alpha = after / before
    mean = np.sqrt(before) * (1 - alpha) / (1 - after) * np.float64(clean)
    mean += np.sqrt(alpha) * (1 - before) / (1 - after) * np.float64(noised)
    std = np.sqrt((1 - alpha) * (1 - before) / (1 - after))

    # The last rows divide by √α_t ≈ 0.01, and rounding with it.
    quiet = lattice.reverse_step(schedule, noised, eps, rows, jnp.zeros_like(z))
    np.testing.assert_allclose(quiet, mean, rtol=2e-3, atol=2e-3)
    noisy = lattice.reverse_step(schedule, noised, eps, rows, z)
    np.testing.assert_allclose(noisy - quiet, std * np.float64(z), rtol=1e-3, atol=1e-4)


def test_the_first_row_ends_at_the_clean_lattice(schedule, drawn):
    clean, eps, z = drawn
    first = jnp.zeros(5, jnp.int32)
    noised = lattice.add_noise(schedule, clean, first, eps)
    assert np.abs(noised - clean).max() > 1e-3
    np.testing.assert_allclose(
        lattice.reverse_step(schedule, noised, eps, first, z), clean, rtol=1e-5, atol=1e-5
    )


def test_one_time_for_all_or_one_for_each(schedule, drawn):
    clean, eps, z = drawn
    t = jnp.int32(7)
    for function, args in ((lattice.add_noise, (eps,)), (lattice.reverse_step, (eps, z))):
        x, *rest = (clean, *args)
        if function is lattice.add_noise:
            results = [function(schedule, x, time, *rest) for time in (t, jnp.full(5, 7))]
            alone = function(schedule, x[2], t, rest[0][2])
        else:
            results = [
                function(schedule, x, rest[0], time, rest[1]) for time in (t, jnp.full(5, 7))
            ]
            alone = function(schedule, x[2], rest[0][2], t, rest[1][2])
        np.testing.assert_array_equal(*results)
        np.testing.assert_allclose(alone, results[0][2], rtol=1e-6)


def test_the_loss_is_the_mean_over_nine_entries(drawn):
    clean, eps, _ = drawn
    expected = ((np.float64(clean) - np.float64(eps)) ** 2).reshape(5, 9).mean(-1)
    np.testing.assert_allclose(lattice.loss(clean, eps), expected, rtol=1e-5)
    np.testing.assert_array_equal(lattice.loss(eps, eps), np.zeros(5))
