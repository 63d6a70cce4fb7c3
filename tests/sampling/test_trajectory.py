"""States on the way: which they are, and that keeping them changes no sample."""

import jax
import numpy as np
import pytest

from miad_jax.crystal import real_atom_mask
from miad_jax.diffusion import make_diffusion
from miad_jax.diffusion.keys import sample_keys
from miad_jax.sampling import Sampler, Trajectory, sample

SIZE, CHUNK, NUM, STEPS = 3, 2, 5, 7
KEY = jax.random.key(11)


@pytest.fixture(scope="module")
def parts(tiny_net, tiny_params):
    return make_diffusion(STEPS + 1), jax.tree_util.Partial(tiny_net.denoise, tiny_params)


@pytest.fixture(scope="module")
def sampler(parts):
    return Sampler(*parts, SIZE, chunk_size=CHUNK)


@pytest.fixture(scope="module")
def plain(sampler):
    return sampler.draw(sample_keys(KEY, np.arange(NUM)), np.full(NUM, SIZE))


@pytest.fixture(scope="module")
def every_step(sampler):
    keys = sample_keys(KEY, np.arange(NUM))
    return sampler.draw(keys, np.full(NUM, SIZE), trajectory_every=1)


def assert_equal(one, two):
    jax.tree.map(np.testing.assert_array_equal, one, two)


@pytest.mark.slow
def test_keeping_states_changes_no_bit_of_a_sample(sampler, plain, every_step):
    assert jax.local_device_count() == 2
    assert_equal(every_step[:2], plain)
    for every in (3, 100):
        keys = sample_keys(KEY, np.arange(NUM))
        *drawn, trajectory = sampler.draw(keys, np.full(NUM, SIZE), trajectory_every=every)
        assert_equal(tuple(drawn), plain)
        assert_equal(trajectory.crystals, every_step[2].crystals[:, trajectory.steps])


def test_frames_are_the_noise_the_states_between_and_the_samples(plain, every_step):
    crystals, num_real = plain
    trajectory = every_step[2]
    assert trajectory.crystals.batch_shape == (NUM, STEPS + 1)
    assert trajectory.steps.tolist() == [*range(STEPS + 1)]
    assert trajectory.times.tolist() == [*range(STEPS - 1, -2, -1)]
    assert_equal(trajectory.crystals[:, -1], crystals)
    np.testing.assert_array_equal(
        real_atom_mask(trajectory.crystals).sum(-1)[:, 1:], num_real, "the states are the steps'"
    )
    assert len(np.unique(trajectory.crystals.lattice[:, :, 0, 0])) == NUM * (STEPS + 1)


def test_sample_returns_the_trajectory_beside_the_crystals(parts, plain, every_step):
    crystals, trajectory = sample(*parts, KEY, NUM, SIZE, chunk_size=CHUNK, trajectory_every=3)
    assert isinstance(trajectory, Trajectory)
    assert_equal(crystals, plain[0])
    assert trajectory.steps.tolist() == [0, 3, 6, 7]
    assert trajectory.times.tolist() == [6, 3, 0, -1]
    assert_equal(trajectory.crystals, every_step[2].crystals[:, [0, 3, 6, 7]])


@pytest.mark.parametrize("every", [0, -2])
def test_no_and_fewer_steps_between_states_are_refused(parts, every):
    with pytest.raises(ValueError, match=f"trajectory_every is {every}; allowed: .* from 1 on"):
        sample(*parts, KEY, 1, SIZE, trajectory_every=every)
