"""Sampling with the lattice of six numbers recovers a known distribution."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.diffusion import make_diffusion
from miad_jax.diffusion.stretch import BASIS
from miad_jax.sampling import PredictorCorrector
from miad_jax.sampling.sample import sample
from tests.sampling.known import exact_denoise

NUM_SAMPLES, STEPS = 1000, 100
MEAN = np.array([0.5, -1.0, 0.0, 0.3, 1.5, -0.7])
STD = np.array([0.4, 0.5, 1.0, 0.3, 0.7, 1.2])


def exact_denoise_log(full, crystal, time):
    """The best possible prediction where z of the cell is normal, of `MEAN` and `STD`."""
    alpha_bar, noise_variance = (
        column[time][:, None]
        for column in (full.lattice.alpha_bar, full.lattice.one_minus_alpha_bar)
    )
    mean, variance = (jnp.asarray(x, jnp.float32) for x in (MEAN, STD**2))
    signal, spread = jnp.sqrt(alpha_bar), jnp.sqrt(noise_variance)
    z_t = full.lattice.to_z(crystal.lattice)
    centred = z_t - signal * mean
    z_0 = mean + variance * signal * centred / (alpha_bar * variance + noise_variance)
    v = (signal * z_t - z_0) / spread
    said = jnp.einsum("bk,kij,bjl->bil", v, BASIS, crystal.lattice)
    return replace(exact_denoise(full, crystal, time), lattice=said)


def std_of_sampler(diffusion, solver):
    """What the steps make of the deviations of z, which are linear in it."""
    process = diffusion.lattice
    alpha_bar = np.float64(process.alpha_bar)
    one_minus = np.float64(process.one_minus_alpha_bar)
    times = solver.times(diffusion)
    variance = np.ones(6)
    for t, s in zip(times, [*times[1:], -1], strict=True):
        alpha = alpha_bar[t] / alpha_bar[s]
        beta, left, remaining = 1 - alpha, one_minus[s], one_minus[t]
        of_noised = STD**2 * np.sqrt(alpha_bar[t]) / (alpha_bar[t] * STD**2 + remaining)
        factor = (np.sqrt(alpha_bar[s]) * beta * of_noised + np.sqrt(alpha) * left) / remaining
        variance = factor**2 * variance + beta * left / remaining
    return np.sqrt(variance)


@pytest.mark.slow
def test_a_known_distribution_is_recovered():
    log = make_diffusion(lattice="log")
    solver = PredictorCorrector(steps=STEPS)
    denoise = jax.tree_util.Partial(exact_denoise_log, log)
    crystals = sample(
        log, denoise, jax.random.key(0), NUM_SAMPLES, 2, solver=solver, chunk_size=NUM_SAMPLES // 2
    )
    z = np.float64(log.lattice.to_z(jnp.asarray(crystals.lattice)))
    deviation = (z - MEAN) / STD
    expected = std_of_sampler(log, solver) / STD
    np.testing.assert_allclose(expected, 1, atol=0.06)
    np.testing.assert_allclose(deviation.mean(0), 0, atol=4 / np.sqrt(NUM_SAMPLES))
    np.testing.assert_allclose(deviation.std(0), expected, atol=4 / np.sqrt(2 * NUM_SAMPLES))
    correlation = np.corrcoef(deviation.T) - np.eye(6)
    np.testing.assert_allclose(correlation, 0, atol=5 / np.sqrt(NUM_SAMPLES))
    assert (np.linalg.det(np.float64(crystals.lattice)) > 0).all()
