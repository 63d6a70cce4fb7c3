"""Schedules and the formulas of lattice, coords and types against golden numbers and oracles."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miad_jax.diffusion import coords, lattice, make_diffusion, types

GOLDEN = Path(__file__).parents[1] / "golden"
NUM_TYPES = 100


def golden(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def full():
    return make_diffusion(ending="published")


def close(actual, expected, rtol=1e-4, atol=1e-5):
    np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol=rtol, atol=atol)


def test_schedules_equal_the_published(full):
    numbers = golden("schedules")
    close(full.lattice.alpha_bar, numbers["lattice_alpha_bar"])
    close(full.lattice.beta, numbers["lattice_beta"])
    close(full.lattice.reverse_std, numbers["lattice_reverse_std"])
    close(full.coords.sigma, numbers["coord_sigma"])
    close(full.coords.score_sq_mean, numbers["coord_score_sq_mean_exact"], rtol=1e-3, atol=0)
    off = full.types.one_minus_keep / NUM_TYPES
    close(full.types.keep + off, numbers["type_Qbar_diag"], atol=3e-4)
    close(off, numbers["type_Qbar_off"], atol=3e-4)
    close(1 - full.types.beta * (1 - 1 / NUM_TYPES), numbers["type_Q_diag"])
    close(full.types.beta / NUM_TYPES, numbers["type_Q_off"])


def test_score_equals_the_published_and_is_finite_where_that_is_not():
    numbers = golden("schedules")
    x, sigma = np.meshgrid(numbers["score_x"], numbers["score_sigma"], indexing="ij")
    score = np.asarray(coords.negative_score(jnp.asarray(x), jnp.asarray(sigma)))
    assert np.isfinite(score).all()
    known = np.isfinite(numbers["score_value"])
    assert (~known).sum() == 146
    close(score[known], numbers["score_value"][known], atol=3e-4)


def exact_score(d, sigma):
    """Sum over images in float64, relative to the nearest."""
    image = np.arange(-10, 11) + (d - np.round(d))
    exponent = -0.5 * (image / sigma) ** 2
    weight = np.exp(exponent - exponent.max())
    return (weight * image).sum() / weight.sum() / sigma**2


@given(st.floats(-3, 3, width=32), st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_score_equals_an_oracle(d, t):
    sigma = 0.005 * 100 ** (t / 999)
    d32, sigma32 = np.float32(d), np.float32(sigma)
    expected = exact_score(np.float64(d32), np.float64(sigma32))
    # Half a unit in the last place of d moves the jump at ½: the score's own slope bounds that.
    scale = 1e-4 * (1 + abs(expected)) + 1e-6 * 0.5 / sigma**4 * (abs(abs(d % 1) - 0.5) < 0.05)
    actual = float(coords.negative_score(jnp.float32(d32), jnp.float32(sigma32)))
    assert abs(actual - expected) <= scale


@given(st.floats(-1e6, 1e6, width=32), st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_score_is_finite_for_every_displacement(d, t):
    sigma = jnp.float32(0.005 * 100 ** (t / 999))
    assert np.isfinite(coords.negative_score(jnp.float32(d), sigma))


def test_score_is_the_gradient_of_the_wrapped_normal():
    def log_density(d, sigma):
        image = d + jnp.arange(-10.0, 11.0)
        return jax.scipy.special.logsumexp(-0.5 * (image / sigma) ** 2)

    for d in (0.1, -0.32, 0.77, 1.2):
        for sigma in (0.05, 0.2, 0.5):
            gradient = jax.grad(log_density)(jnp.float32(d), jnp.float32(sigma))
            score = coords.negative_score(jnp.float32(d), jnp.float32(sigma))
            close(score, -gradient, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("t", [999, 500, 120, 1, 0])
def test_reverse_steps_equal_the_published(t):
    numbers = golden("reverse_steps")
    g = {k.split("_", 1)[1]: jnp.asarray(v) for k, v in numbers.items() if k.startswith(f"t{t}_")}
    process = make_diffusion(corrector_gamma=float(numbers["step_lr"]), ending="published")
    schedule = replace(process.coords, score_sq_mean=jnp.asarray(numbers["coord_score_sq_mean"]))
    rows = jnp.full(5, t)
    half = coords.corrector_step(
        schedule, g["frac_t"], g["pred_coords_corrector"], rows, g["noise_corrector"]
    )
    close(half, g["frac_half"])
    after = coords.predictor_step(
        schedule, g["frac_half"], g["pred_coords_predictor"], rows, g["noise_predictor"]
    )
    difference = np.asarray(after - g["frac_next"], np.float64)
    close(difference - np.round(difference), 0)
    close(
        lattice.reverse_step(
            process.lattice, g["lattice_t"], g["pred_lattice"], rows, g["noise_lattice"]
        ),
        g["lattice_next"],
    )
    probs = jax.nn.softmax(g["pred_types"])
    types_t = g["types_t"].astype(jnp.int32)
    close(types.posterior(process.types, types_t, probs, rows), g["type_probs_next"])


@pytest.mark.parametrize("kept", [1, 7, 250])
def test_respaced_tables_keep_the_noise_levels(full, kept):
    short = make_diffusion(num_kept=kept, ending="published")
    times = np.asarray(short.times)
    assert len(times) == kept
    assert times[-1] == 999
    assert kept == 1 or times[0] == 0
    for name in ("alpha_bar", "one_minus_alpha_bar"):
        column = getattr(full.lattice, name)[times]
        close(getattr(short.lattice, name), column, rtol=1e-6, atol=0)
    close(np.cumprod(np.float64(short.lattice.alpha)), full.lattice.alpha_bar[times], rtol=1e-4)
    close(np.cumprod(1 - np.float64(short.types.beta)), full.types.keep[times], rtol=1e-4)
    close(short.coords.sigma_prev[1:], short.coords.sigma[:-1], rtol=0, atol=0)
    close(short.lattice.beta, 1 - np.float64(short.lattice.alpha), atol=1e-6)


def test_the_two_endings():
    clean, published = make_diffusion(ending="clean"), make_diffusion(ending="published")
    assert clean.coords.sigma_prev[0] == 0
    assert clean.coords.corrector_noise[0] == 0
    assert published.coords.sigma_prev[0] == published.coords.sigma[0]
    assert (published.coords.corrector_noise == 1).all()
    still, zero = jnp.full((1, 3), 0.25), jnp.int32(0)
    moved = coords.predictor_step(published.coords, still, still, zero, still)
    np.testing.assert_array_equal(moved, still)
    assert (coords.predictor_step(clean.coords, still, still, zero, still) != still).all()
    with pytest.raises(ValueError, match="ending is 'soft'; allowed: clean, published"):
        make_diffusion(ending="soft")
    with pytest.raises(ValueError, match="cannot keep 1001 of 1000"):
        make_diffusion(num_kept=1001)


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


def test_the_ends_of_the_quantiles_and_the_first_row(full):
    logits = 50.0 * jax.nn.one_hot(jnp.array([8, 8]), NUM_TYPES)
    ends = jnp.array([0.0, 1 - 2**-24], jnp.float32)
    drawn = types.reverse_step(full.types, jnp.array([8, 8]), logits, jnp.int32(999), ends)
    assert drawn.min() >= 0
    assert drawn.max() <= 99
    first = types.reverse_step(full.types, jnp.array([26, 3]), logits, jnp.int32(0), ends)
    np.testing.assert_array_equal(first, [8, 8])
