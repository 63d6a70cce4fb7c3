"""The tables against the published numbers, and against formulas written once more in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.crystal import NUM_TYPES
from miad_jax.diffusion import make_diffusion
from miad_jax.diffusion.schedules import coords_schedule, respaced_times, score_sq_mean

STEPS, OFFSET = 1000, 0.008


@pytest.fixture(scope="module")
def full():
    return make_diffusion(ending="published")


def float64(table):
    return {name: np.float64(column) for name, column in vars(table).items()}


def lattice_oracle():
    """ᾱ_{-1}, ᾱ_0, …, ᾱ_{T−1} as a product, step by step."""
    alpha_bar = [1.0]
    for t in range(STEPS):
        f, f_next = (
            np.cos((u / STEPS + OFFSET) / (1 + OFFSET) * np.pi / 2) ** 2 for u in (t, t + 1)
        )
        alpha_bar.append(alpha_bar[-1] * (1 - min(max(1 - f_next / f, 1e-4), 0.9999)))
    return np.array(alpha_bar)


def types_oracle():
    """a(0), a(1), …, a(T)."""
    u = np.arange(STEPS + 1) / (STEPS + 1)
    return np.cos((u + OFFSET) / (1 + OFFSET) * np.pi / 2) / np.cos(
        OFFSET / (1 + OFFSET) * np.pi / 2
    )


def test_the_tables_equal_the_published(golden, full):
    g = golden("schedules")
    lattice, coords, types = (float64(x) for x in (full.lattice, full.coords, full.types))
    keep, redrawn, beta = types["keep"], types["one_minus_keep"], types["beta"]
    for ours, published, atol in (
        (lattice["alpha_bar"], g["lattice_alpha_bar"], 1e-5),
        (lattice["beta"], g["lattice_beta"], 1e-5),
        (lattice["reverse_std"], g["lattice_reverse_std"], 1e-5),
        (coords["sigma"], g["coord_sigma"], 1e-5),
        (keep + redrawn / NUM_TYPES, g["type_Qbar_diag"], 3e-4),
        (redrawn / NUM_TYPES, g["type_Qbar_off"], 3e-4),
        (1 - beta + beta / NUM_TYPES, g["type_Q_diag"], 1e-5),
        (beta / NUM_TYPES, g["type_Q_off"], 1e-5),
    ):
        assert ours.shape == published.shape == (STEPS,)
        np.testing.assert_allclose(ours, published, rtol=1e-4, atol=atol)


def test_the_mean_square_of_the_score_is_exact(golden, full):
    g = golden("schedules")
    np.testing.assert_allclose(full.coords.score_sq_mean, g["coord_score_sq_mean_exact"], rtol=1e-3)
    # The published estimate from random draws is as far off as it is said to be.
    error = g["coord_score_sq_mean_reference"] / np.float64(full.coords.score_sq_mean) - 1
    assert 0.005 < np.abs(error).max() < 0.02
    # Narrow: a normal on the line, E[s²] = 1/σ². Wide: q ≈ 1 + 2 e^{−2π²σ²} cos(2πd).
    np.testing.assert_allclose(score_sq_mean(np.array([0.005])), 1 / 0.005**2, rtol=1e-9)
    wide = 2 * (2 * np.pi * np.exp(-2 * np.pi**2 * 0.8**2)) ** 2
    np.testing.assert_allclose(score_sq_mean(np.array([0.8])), wide, rtol=1e-4)


def test_the_columns_keep_their_digits_at_small_t(full):
    """1 − ᾱ, β and 1 − a would have no correct digits as float32 differences."""
    alpha_bar, keep = lattice_oracle(), types_oracle()
    lattice, types = float64(full.lattice), float64(full.types)
    beta = 1 - alpha_bar[1:] / alpha_bar[:-1]
    expected = {
        "alpha_bar": alpha_bar[1:],
        "one_minus_alpha_bar": 1 - alpha_bar[1:],
        "alpha": 1 - beta,
        "beta": beta,
        "alpha_bar_prev": alpha_bar[:-1],
        "reverse_std": np.sqrt(beta * (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:])),
    }
    assert lattice.keys() == expected.keys()
    for name, column in expected.items():
        np.testing.assert_allclose(lattice[name], column, rtol=1e-6, err_msg=name)
    expected = {
        "keep": keep[1:],
        "one_minus_keep": 1 - keep[1:],
        "beta": 1 - keep[1:] / keep[:-1],
        "keep_prev": keep[:-1],
        "one_minus_keep_prev": 1 - keep[:-1],
        "temperature": 1.0,
    }
    assert types.keys() == expected.keys()
    for name, column in expected.items():
        np.testing.assert_allclose(types[name], column, rtol=1e-6, err_msg=name)
    assert all(column.dtype == jnp.float32 for column in vars(full.types).values())


@pytest.mark.parametrize("num_kept", [1, 2, 37, 1000])
def test_respaced_steps_multiply_to_the_full_process(full, num_kept):
    diffusion = make_diffusion(num_kept=num_kept)
    times = np.asarray(diffusion.times)
    assert diffusion.num_steps == num_kept
    assert times[-1] == STEPS - 1
    assert (np.diff(times) > 0).all()
    assert num_kept == 1 or times[0] == 0
    lattice, coords, types = (
        float64(x) for x in (diffusion.lattice, diffusion.coords, diffusion.types)
    )

    # The noise levels are those of the full process …
    for ours, whole, names in (
        (lattice, full.lattice, ("alpha_bar", "one_minus_alpha_bar")),
        (coords, full.coords, ("sigma", "score_sq_mean", "corrector_size")),
        (types, full.types, ("keep", "one_minus_keep")),
    ):
        for name in names:
            np.testing.assert_array_equal(ours[name], np.float64(getattr(whole, name))[times])

    # … and the steps between them compose to them.
    np.testing.assert_allclose(np.cumprod(lattice["alpha"]), lattice["alpha_bar"], rtol=1e-4)
    np.testing.assert_allclose(np.cumprod(1 - types["beta"]), types["keep"], rtol=1e-4)
    np.testing.assert_allclose(1 - lattice["beta"], lattice["alpha"], rtol=1e-6, atol=1e-7)
    gap = coords["sigma"] ** 2 - coords["sigma_prev"] ** 2
    np.testing.assert_allclose(np.cumsum(gap), coords["sigma"] ** 2, rtol=1e-4)
    for table, column, first in (
        (lattice, "alpha_bar", 1),
        (types, "keep", 1),
        (types, "one_minus_keep", 0),
        (coords, "sigma", 0),
    ):
        expected = np.concatenate([[first], table[column][:-1]])
        np.testing.assert_array_equal(table[f"{column}_prev"], expected)
    alpha_bar = lattice_oracle()
    before = np.concatenate([[1.0], alpha_bar[1:][times[:-1]]])
    after = alpha_bar[1:][times]
    variance = (1 - after / before) * (1 - before) / (1 - after)
    np.testing.assert_allclose(lattice["reverse_std"], np.sqrt(variance), rtol=1e-5)
    assert lattice["reverse_std"][0] == 0


def test_the_endings():
    times = np.arange(STEPS)
    clean, published = (
        coords_schedule(STEPS, times, corrector_gamma=5e-7, ending=ending)
        for ending in ("clean", "published")
    )
    assert clean.sigma_prev[0] == 0
    assert published.sigma_prev[0] == published.sigma[0]
    np.testing.assert_array_equal(clean.corrector_noise, (times > 0).astype(np.float32))
    np.testing.assert_array_equal(published.corrector_noise, np.ones(STEPS))
    np.testing.assert_array_equal(clean.sigma_prev[1:], published.sigma_prev[1:])
    assert make_diffusion(20).coords.sigma_prev[0] == 0, "the default is the clean ending"
    # h = γ (σ_t/σ_1)².
    np.testing.assert_allclose(clean.corrector_size[jnp.array([0, -1])], [5e-7, 5e-3], rtol=1e-5)


def test_the_process_has_both_ends(full):
    np.testing.assert_allclose(full.coords.sigma[jnp.array([0, -1])], [0.005, 0.5], rtol=1e-6)
    assert 0 < full.lattice.alpha_bar[-1] < 1e-5
    assert 0 < full.types.keep[-1] < 0.002
    short = make_diffusion(20)
    np.testing.assert_array_equal(short.times, np.arange(20))
    np.testing.assert_allclose(short.coords.sigma[jnp.array([0, -1])], [0.005, 0.5], rtol=1e-6)
    assert make_diffusion(1).num_steps == 1


@pytest.mark.parametrize("num_kept", [0, -3, 1001])
def test_more_steps_than_there_are_cannot_be_kept(num_kept):
    with pytest.raises(ValueError, match=rf"cannot keep {num_kept} of 1000 .*: choose 1 to 1000"):
        respaced_times(1000, num_kept)


def test_an_unknown_ending_is_refused():
    with pytest.raises(ValueError, match="ending is 'abrupt'; allowed: clean, published"):
        make_diffusion(ending="abrupt")
