"""The corrector against its formula in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.sampling.corrector import langevin_step

SIGMA = 0.005 * 100 ** (np.arange(1000) / 999)


@pytest.fixture(autouse=True)
def strict_dtypes():
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.mark.parametrize("one_for_all", [True, False])
def test_a_corrector_step_follows_its_formula(full, one_for_all):
    rng = np.random.default_rng(2)
    start = rng.random((4, 2, 3))
    prediction, z = rng.normal(size=(2, 4, 2, 3))
    start, prediction, z = (jnp.asarray(x, jnp.float32) for x in (start, prediction, z))
    t = np.array([[0], [1], [400], [999]]) if one_for_all else rng.integers(0, 1000, (4, 2))
    sigma = SIGMA[t][..., None]
    rms = np.sqrt(np.float64(full.coords.score_sq_mean)[t])[..., None]
    size = 1e-4 * (sigma / 0.005) ** 2
    expected = np.float64(start) - size * rms * np.float64(prediction)
    expected += np.sqrt(2 * size) * np.float64(z)
    corrected = langevin_step(
        full.coords, start, prediction, jnp.asarray(t, jnp.int32), z, gamma=1e-4
    )
    np.testing.assert_allclose(corrected, expected, rtol=1e-4, atol=1e-5)
    assert (corrected < 0).any() or (corrected > 1).any(), "the corrector does not wrap"


def test_its_size_grows_with_the_noise(full):
    """h = γ (σ_t/σ_0)²: the step of a unit score, from one end to the other."""
    t = jnp.array([0, 999])
    score = full.coords.score(jnp.ones((2, 3)), t)
    still = jnp.zeros((2, 3))
    moved = langevin_step(full.coords, still, jnp.ones((2, 3)), t, still, gamma=5e-7)
    np.testing.assert_allclose((moved / score)[:, 0], [5e-7, 5e-3], rtol=1e-5)
