"""Flow matching on the torus: its way, its velocity, and what the loss teaches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.diffusion import make_diffusion
from miad_jax.diffusion.coords import WrappedNormal
from miad_jax.diffusion.joint import draw_noise, noised
from miad_jax.diffusion.renoise import renoised
from miad_jax.diffusion.torus_flow import TorusFlow

PROCESS = TorusFlow.make(1000)
RNG = np.random.default_rng(0)
CLEAN, NOISE, SAID = (
    jnp.asarray(x, jnp.float32)
    for x in (RNG.random((64, 5, 3)), RNG.random((64, 5, 3)), RNG.normal(size=(64, 5, 3)))
)


def at(t):
    return jnp.full((64, 1), t, jnp.int32)


def apart(one, two):
    """The shortest way between coordinates, in float64."""
    way = np.float64(one) - np.float64(two)
    return way - np.round(way)


@pytest.mark.parametrize("t", [0, 1, 250, 700, 999])
def test_the_way_is_straight_and_the_shortest(t):
    x_t = PROCESS.add_noise(CLEAN, at(t), NOISE)
    assert 0 <= x_t.min() <= x_t.max() < 1
    whole = apart(NOISE, CLEAN)
    images = np.float64(NOISE)[..., None] + np.arange(-1, 2) - np.float64(CLEAN)[..., None]
    np.testing.assert_allclose(np.abs(whole), np.abs(images).min(-1), atol=1e-6)
    np.testing.assert_allclose(apart(x_t, CLEAN), (t + 1) / 1000 * whole, atol=1e-6)
    if t == 999:
        np.testing.assert_allclose(apart(x_t, NOISE), 0, atol=1e-6)


def test_the_velocity_has_unit_variance_and_the_way_its_derivative():
    target = np.float64(PROCESS.target(CLEAN, NOISE))
    np.testing.assert_allclose(target.std(), 1, atol=0.05)
    np.testing.assert_allclose(target.mean(), 0, atol=5 / np.sqrt(target.size))
    assert np.abs(target).max() <= 3**0.5 + 1e-5
    now, then = (PROCESS.add_noise(CLEAN, at(t), NOISE) for t in (399, 299))
    np.testing.assert_allclose(apart(now, then) / 0.1, target / 12**0.5, atol=1e-5)


def test_translations_move_the_way_and_not_the_velocity():
    moved = [x + jnp.array([0.3, -0.7, 12.2]) for x in (CLEAN, NOISE)]
    one, two = (
        PROCESS.add_noise(*x) for x in ((CLEAN, at(600), NOISE), (moved[0], at(600), moved[1]))
    )
    np.testing.assert_allclose(apart(two - jnp.array([0.3, -0.7, 12.2]), one), 0, atol=1e-5)
    np.testing.assert_allclose(PROCESS.target(*moved), PROCESS.target(CLEAN, NOISE), atol=2e-5)


def test_the_loss_is_the_squared_error_of_the_velocity():
    losses = PROCESS.loss(SAID, CLEAN, CLEAN, at(5), NOISE)
    expected = np.square(np.float64(SAID) - apart(NOISE, CLEAN) * 12**0.5).mean(-1)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


def test_steps_of_one_velocity_add_up():
    x_t = PROCESS.add_noise(CLEAN, at(800), NOISE)
    one = PROCESS.step(SAID, x_t, at(800), at(100), NOISE)
    middle = PROCESS.step(SAID, x_t, at(800), at(437), NOISE)
    two = PROCESS.step(SAID, middle, at(437), at(100), 0 * NOISE)
    np.testing.assert_allclose(apart(one, two), 0, atol=1e-6)
    np.testing.assert_allclose(
        apart(PROCESS.step(SAID, x_t, at(800), at(-1), NOISE), PROCESS.clean(SAID, x_t, at(800))),
        0,
        atol=1e-6,
    )


@pytest.mark.parametrize("t", [0, 300, 999])
def test_what_predicts_a_place_moves_there_by_the_shortest_way(t):
    said = PROCESS.predicting(CLEAN, NOISE, at(t))
    np.testing.assert_allclose(apart(PROCESS.clean(said, NOISE, at(t)), CLEAN), 0, atol=1e-6)
    way = np.float64(said) * (t + 1) / 1000 / 12**0.5
    assert np.abs(way).max() <= 0.5 + 1e-5


def test_progress_is_the_share_of_the_way_that_a_step_goes():
    t, s = jnp.array([999, 700, 700, 0]), jnp.array([0, 699, 350, -1])
    for process in (PROCESS, WrappedNormal.make(1000)):
        place, end = jnp.full((4, 3), 0.5), jnp.full((4, 3), 0.4)
        said = process.predicting(end, place, t)
        gone = process.step(said, place, t, s, jnp.zeros((4, 3)))
        share = apart(gone, place) / apart(end, place)
        np.testing.assert_allclose(
            share, np.tile(process.progress(t, s)[:, None], 3), rtol=2e-4, atol=2e-6
        )


def test_the_mean_velocity_carries_the_clean_distribution_up_and_down():
    """Two places, of which one is likelier: E[d | x_t] leads from uniform noise to both."""
    places, probs = np.array([0.2, 0.6]), np.array([0.3, 0.7])
    x = (np.arange(2000) + 0.5) / 2000
    process = TorusFlow.make(400)
    for t in np.arange(400)[::-1]:
        tau = (t + 1) / 400
        way = apart(x[:, None], places)
        inside = np.abs(way) <= tau / 2 + 1e-9
        density = probs * inside
        velocity = (density * way / tau).sum(1) / np.maximum(density.sum(1), 1e-9)
        nearest = np.take_along_axis(way, np.abs(way).argmin(1)[:, None], 1)[:, 0] / tau
        velocity = np.where(density.any(1), velocity, np.clip(nearest, -0.5, 0.5))
        said = jnp.asarray(velocity * 12**0.5, jnp.float32)[:, None]
        moved = process.step(
            jnp.tile(said, 3), jnp.asarray(np.tile(x[:, None], 3), jnp.float32),
            jnp.array([t]), jnp.array([t - 1]), jnp.zeros((2000, 3)),
        )  # fmt: skip
        x = np.float64(moved)[:, 0]
    found = np.array([(np.abs(apart(x, place)) < 0.01).mean() for place in places])
    np.testing.assert_allclose(found, probs, atol=0.02)


# In the joint process.


def test_it_does_not_go_back_up_in_time(random_crystals):
    diffusion, crystals = make_diffusion(10, coords="flow"), random_crystals([2, 1], 2)
    noise = draw_noise(diffusion, jax.random.key(0), crystals)
    t = jnp.array([5, 5])
    assert not hasattr(diffusion.coords, "renoise")
    with pytest.raises(ValueError, match="TorusFlow, which does not go back up in time"):
        renoised(diffusion, crystals, t - 2, t, noise)
    x_t = noised(diffusion, crystals, t, noise)
    np.testing.assert_array_equal(x_t.frac_coords[1, 1], crystals.frac_coords[1, 1], "padding")


def test_it_is_chosen_by_name():
    assert isinstance(make_diffusion(10).coords, WrappedNormal)
    diffusion = make_diffusion(10, coords="flow")
    assert isinstance(diffusion.coords, TorusFlow)
    assert diffusion.coords.num_steps == 10
    with pytest.raises(ValueError, match="coords is 'torus'; allowed: wrapped_normal, flow"):
        make_diffusion(10, coords="torus")
