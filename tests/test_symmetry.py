"""The symmetries of Appendix A of arXiv:2511.14426: of the loss and of a reverse step.

Those of the networks are in network/test_networks.py.
"""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miad_jax.crystal import NUM_TYPES
from miad_jax.diffusion import Example, Noise, StepNoise, joint, loss_terms
from miad_jax.diffusion.types import TypesNoise
from miad_jax.sampling import PredictorCorrector
from tests.symmetries import SLOTS, each_symmetry

TIMES = np.array([3, 400, 999], np.int32)
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def compiled(full, tiny_net, tiny_params, random_crystals):
    """Loss and reverse step at fixed times, and crystals to try them on."""
    t = jnp.asarray(TIMES)

    def denoise(crystal, time):
        return tiny_net.denoise(tiny_params, crystal, time)

    def losses(crystal, noise):
        noised = joint.noised(full, crystal, t, noise)
        return loss_terms(full, denoise, Example(crystal, noised, t, noise))

    def step_back(crystal, noise, corrector_noise):
        solver = PredictorCorrector()
        return solver.step_with(full, denoise, crystal, t, t - 1, noise, corrector_noise)

    return SimpleNamespace(
        crystals=random_crystals([5, 3, 4], SLOTS, num_mirage=1),
        losses=jax.jit(losses),
        step_back=jax.jit(step_back),
    )


def normal(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def noise_of_a_noising(rng):
    types = rng.random((3, SLOTS), np.float32), rng.integers(0, NUM_TYPES, (3, SLOTS), np.int32)
    types = TypesNoise(*map(jnp.asarray, types))
    return Noise(normal(rng, 3, 3, 3), normal(rng, 3, SLOTS, 3), types)


def noise_of_a_step(rng):
    types = rng.random((3, SLOTS), np.float32)
    return StepNoise(normal(rng, 3, 3, 3), normal(rng, 3, SLOTS, 3), types)


def assert_close(actual, expected, message):
    expected = np.asarray(expected)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * scale, err_msg=message)


@each_symmetry
@given(seed=seeds)
def test_the_loss(compiled, symmetry, seed):
    rng = np.random.default_rng(seed)
    move, noise = symmetry(rng), noise_of_a_noising(rng)
    before = compiled.losses(compiled.crystals, noise)
    after = compiled.losses(move.crystal(compiled.crystals), move.noise(noise))
    for part in ("sums", "counts"):
        for name, value in getattr(before, part).items():
            assert value > 0, name
            found = getattr(after, part)[name]
            np.testing.assert_allclose(found, value, rtol=2e-4, err_msg=f"{part} {name}")


@each_symmetry
@given(seed=seeds)
def test_a_reverse_step(compiled, same_coords, symmetry, seed):
    rng = np.random.default_rng(seed)
    move, noise, corrector = symmetry(rng), noise_of_a_step(rng), normal(rng, 3, SLOTS, 3)
    expected = move.crystal(compiled.step_back(compiled.crystals, noise, corrector))
    after = compiled.step_back(
        move.crystal(compiled.crystals), move.noise(noise), move.slots(corrector)
    )
    real = expected.mask
    np.testing.assert_array_equal(after.mask, real)
    np.testing.assert_array_equal(np.asarray(after.atom_types)[real], expected.atom_types[real])
    same_coords(np.asarray(after.frac_coords)[real], expected.frac_coords[real], atol=1e-5)
    for i in range(3):  # the scales differ: far from the data a step multiplies by 100
        assert_close(after.lattice[i], expected.lattice[i], f"lattice at t = {TIMES[i]}")
    assert np.abs(np.asarray(after.frac_coords)[real] - 0.5).max() <= 0.5
