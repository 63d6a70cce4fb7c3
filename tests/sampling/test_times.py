"""The times that a sampler visits."""

import jax
import numpy as np
import pytest

from miad_jax.diffusion import make_diffusion
from miad_jax.sampling import SOLVERS, make_solver, sample
from miad_jax.sampling.sampler import steps_of
from miad_jax.sampling.times import FIRST_ALPHA_BAR, first_time


@pytest.fixture(params=SOLVERS)
def name(request):
    return request.param


def test_sampling_starts_where_noise_and_data_cannot_be_told_apart(full):
    first = first_time(full)
    alpha_bar = np.asarray(full.lattice.alpha_bar)
    assert alpha_bar[first] >= FIRST_ALPHA_BAR > alpha_bar[first + 1]
    assert first == 978
    assert first_time(make_diffusion(1)) == 0


@pytest.mark.parametrize("steps", [1, 7, 250, 979])
def test_times_are_evenly_spaced_from_the_first_on(full, name, steps):
    solver = make_solver(name, steps=steps)
    times = solver.times(full)
    assert times.shape == (steps,)
    assert np.issubdtype(times.dtype, np.integer)
    assert (np.diff(times) < 0).all()
    assert times[0] == 978
    assert steps == 1 or times[-1] == 0
    assert np.abs(np.diff(times) + 978 / max(steps - 1, 1)).max(initial=0) <= 1

    listed = steps_of(solver, full)
    assert listed.shape == (steps, 3)
    np.testing.assert_array_equal(listed[:, 0], times)
    np.testing.assert_array_equal(listed[:, 1], [*times[1:], -1])
    np.testing.assert_array_equal(listed[:, 2], np.arange(steps)[::-1])


def test_without_a_number_of_steps_all_are_taken(full, name):
    np.testing.assert_array_equal(make_solver(name).times(full), np.arange(979)[::-1])
    published = make_solver(name, first_time=999)
    np.testing.assert_array_equal(published.times(full), np.arange(1000)[::-1])


def test_many_steps_begin_earlier(full, name):
    assert make_solver(name, steps=990).times(full)[0] == 989
    np.testing.assert_array_equal(make_solver(name, steps=1000).times(full), np.arange(1000)[::-1])


def test_the_first_time_is_a_choice(full, name):
    assert make_solver(name, steps=3, first_time=950).times(full).tolist() == [950, 475, 0]
    assert make_solver(name, steps=1, first_time=999).times(full).tolist() == [999]


def test_the_times_are_a_list(full, name):
    times = make_solver(name, visit=(975, 300, 20)).times(full)
    assert times.tolist() == [975, 300, 20]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 0}, "cannot take 0 steps of a diffusion of 1000 from time 978: choose 1 to 979"),
        ({"steps": -3}, "cannot take -3 steps"),
        ({"steps": 1001}, "cannot take 1001 steps of a diffusion of 1000 from time 999"),
        ({"steps": 5, "first_time": 3}, "from time 3: choose 1 to 4"),
        ({"first_time": 1000}, "first_time is 1000; allowed: 0 to 999"),
        ({"first_time": -1}, "first_time is -1; allowed: 0 to 999"),
        ({"visit": (3, 3)}, r"visit is \(3, 3\); allowed: falling whole numbers from at most 999"),
        ({"visit": (3, 5)}, "visit is"),
        ({"visit": (3, -1)}, "visit is"),
        ({"visit": (1000, 3)}, "visit is"),
        ({"visit": (3, 1), "steps": 2}, "leave out steps and first_time"),
    ],
)
def test_times_that_are_not_there_are_refused(full, plain_denoise, name, settings, said):
    solver = make_solver(name, **settings)
    with pytest.raises(ValueError, match=said):
        solver.times(full)
    with pytest.raises(ValueError, match=said):
        sample(full, plain_denoise, jax.random.key(0), 1, 2, solver=solver)
