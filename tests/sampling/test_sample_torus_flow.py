"""Sampling with a flow of the coordinates recovers a known distribution, or is refused."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.diffusion import make_diffusion
from miad_jax.sampling import make_solver, reverse_step
from miad_jax.sampling.sample import sample
from tests.sampling.known import (
    CENTERS,
    COORDS_STD,
    PAIR_PROBS,
    PAIRS,
    exact_denoise,
    exact_flow,
    mean_way,
)

NUM_SAMPLES = 1000
FLOW, WRAPPED = make_diffusion(coords="flow"), make_diffusion()


def exact(flow, wrapped, crystal, time):
    """The best possible prediction; lattice and types are those of `wrapped`."""
    return replace(exact_denoise(wrapped, crystal, time), coords=exact_flow(flow, crystal, time))


def std_of_coords(solver):
    """What the steps make of coordinates that begin uniform, in float64."""
    times = solver.times(FLOW)
    place = (np.arange(4001) + 0.5) / 4001 - 0.5
    for t, s in zip(times, [*times[1:], -1], strict=True):
        tau, tau_s = (t + 1) / 1000, (s + 1) / 1000
        factor = min(1 + solver.coords_ahead * (1 - t / 1000), 1 / (1 - tau_s / tau))
        way = mean_way(place, np.full_like(place, tau), np)
        place = place - (tau - tau_s) * factor * way
        place = place - np.round(place)
    return place.std()


# After 20, 50 and 100 steps: how far the width of the coordinates may be from the truth. Those
# ahead of their schedule end near their mean by design.
@pytest.mark.parametrize(
    ("steps", "ahead", "coords_error"),
    [
        pytest.param(20, 0.0, 0.12, marks=pytest.mark.slow),
        (50, 0.0, 0.04),
        pytest.param(100, 0.0, 0.03, marks=pytest.mark.slow),
        pytest.param(50, 1.0, 0.9, marks=pytest.mark.slow),
    ],
)
def test_a_known_distribution_is_recovered(steps, ahead, coords_error):
    solver = make_solver("ancestral", steps=steps, coords_ahead=ahead)
    crystals = sample(
        FLOW, jax.tree_util.Partial(exact, FLOW, WRAPPED), jax.random.key(0), NUM_SAMPLES, 2,
        solver=solver, chunk_size=NUM_SAMPLES // 2,
    )  # fmt: skip
    assert crystals.frac_coords.min() >= 0
    assert crystals.frac_coords.max() < 1
    displacement = np.float64(crystals.frac_coords) - CENTERS
    displacement = (displacement - np.round(displacement)) / COORDS_STD
    expected = std_of_coords(solver) / COORDS_STD
    np.testing.assert_allclose(expected, 1, atol=coords_error)
    np.testing.assert_allclose(displacement.mean(0), 0, atol=4 * expected / np.sqrt(NUM_SAMPLES))
    error_of_width = 4 / np.sqrt(2 * 6 * NUM_SAMPLES)
    np.testing.assert_allclose(displacement.std(), expected, rtol=error_of_width + 0.01)
    correlation = np.corrcoef(displacement.reshape(-1, 6).T) - np.eye(6)
    np.testing.assert_allclose(correlation, 0, atol=5 / np.sqrt(NUM_SAMPLES))

    # The other fields are what they are beside a wrapped normal.
    types = np.asarray(crystals.atom_types)
    drawn = [(types == pair).all(1).mean() for pair in PAIRS]
    error = 4 * np.sqrt(np.prod(PAIR_PROBS) / NUM_SAMPLES)
    np.testing.assert_allclose(drawn, PAIR_PROBS, atol=error + 0.5 / steps)


def test_a_step_of_second_order_sees_both_ends():
    solver = make_solver("heun", steps=25)
    crystals = sample(
        FLOW, jax.tree_util.Partial(exact, FLOW, WRAPPED), jax.random.key(0), NUM_SAMPLES, 2,
        solver=solver, chunk_size=NUM_SAMPLES // 2,
    )  # fmt: skip
    displacement = np.float64(crystals.frac_coords) - CENTERS
    displacement = (displacement - np.round(displacement)) / COORDS_STD
    np.testing.assert_allclose(displacement.mean(0), 0, atol=4 / np.sqrt(NUM_SAMPLES))
    np.testing.assert_allclose(displacement.std(), 1, atol=0.1)


def test_a_step_of_the_coordinates_has_no_noise(plain_denoise, crystals):
    solver = make_solver("ancestral")
    one, two = (
        reverse_step(FLOW, plain_denoise, jax.random.key(i), crystals, 500, 480, solver=solver)
        for i in (0, 1)
    )
    np.testing.assert_array_equal(one.frac_coords, two.frac_coords)
    assert (one.lattice != two.lattice).any()


def test_coordinates_ahead_of_their_schedule_do_not_overshoot(plain_denoise, crystals):
    def step(ahead, s):
        solver = make_solver("ancestral", coords_ahead=ahead)
        key = jax.random.key(0)
        return reverse_step(FLOW, plain_denoise, key, crystals, 399, s, solver=solver).frac_coords

    def way(to):
        gone = np.float64(to - crystals.frac_coords)[np.asarray(crystals.mask)]
        return gone - np.round(gone)

    plain, ahead, whole = (way(step(x, 199)) for x in (0.0, 0.5, 100.0))
    np.testing.assert_allclose(ahead, plain * (1 + 0.5 * (1 - 0.399)), atol=1e-5)
    np.testing.assert_allclose(whole, 2 * plain, atol=1e-5)
    np.testing.assert_allclose(whole, way(step(0.0, -1)), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ancestral", {"churn": 0.5}, "churn is 0.5; allowed: 0, .* TorusFlow"),
        ("predictor_corrector", {}, "score, .* TorusFlow have none: .* solver ancestral or heun"),
    ],
)
def test_what_needs_a_score_is_refused(plain_denoise, crystals, name, settings, message):
    solver = make_solver(name, steps=5, **settings)
    with pytest.raises(ValueError, match=message):
        sample(FLOW, plain_denoise, jax.random.key(0), 1, 2, solver=solver)
    with pytest.raises(ValueError, match=message):
        reverse_step(FLOW, plain_denoise, jax.random.key(0), crystals, 5, solver=solver)


@pytest.mark.slow
def test_a_flow_beside_masked_types_on_six_numbers(tiny_denoise):
    """All of the processes that are not published, together."""
    diffusion = make_diffusion(40, lattice="log", coords="flow", types="masked")
    crystals = sample(
        diffusion, tiny_denoise, jax.random.key(0), 3, 4,
        solver=make_solver("ancestral", steps=10, coords_ahead=1.0), chunk_size=2,
    )  # fmt: skip
    for x in (crystals.lattice, crystals.frac_coords):
        assert np.isfinite(x).all()
    assert jnp.asarray(crystals.atom_types).max() < 100
