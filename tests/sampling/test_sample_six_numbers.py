"""Sampling with a lattice of six numbers recovers a known distribution, whichever process it is."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.diffusion import make_diffusion
from miad_jax.diffusion.lattice_flow import LatticeFlow
from miad_jax.sampling import Control, make_solver
from miad_jax.sampling.sample import sample
from tests.sampling.known import exact_denoise

NUM_SAMPLES, STEPS = 1000, 100
MEAN = np.array([0.5, -1.0, 0.0, 0.3, 1.5, -0.7])
STD = np.array([0.4, 0.5, 1.0, 0.3, 0.7, 1.2])


def shares(process, time):
    """Of signal and noise in z_t."""
    if isinstance(process, LatticeFlow):
        return 1 - process.tau[time], process.tau[time]
    return jnp.sqrt(process.alpha_bar[time]), jnp.sqrt(process.one_minus_alpha_bar[time])


def exact(process, published, crystal, time):
    """The best possible prediction where z of the cell is normal, of `MEAN` and `STD`."""
    mean, variance = (jnp.asarray(x, jnp.float32) for x in (MEAN, STD**2))
    signal, spread = (x[:, None] for x in shares(process, time))
    z_t = process.numbers.of_noised(crystal.lattice)
    total = jnp.square(signal) * variance + jnp.square(spread)
    z_0 = mean + variance * signal * (z_t - signal * mean) / total
    is_flow = isinstance(process, LatticeFlow)
    v = ((z_t if is_flow else signal * z_t) - z_0) / spread
    said = process.numbers.saying(v, crystal.lattice)
    return replace(exact_denoise(published, crystal, time), lattice=said)


def std_of_sampler(process, times):
    """What the steps make of the deviations of z, which are linear in it."""
    variance = np.ones(6)
    for t, s in zip(times, [*times[1:], -1], strict=True):
        (signal, spread), (signal_s, spread_s) = (
            [float(x) for x in shares(process, time)] for time in (t, s)
        )
        of_noised = STD**2 * signal / (signal**2 * STD**2 + spread**2)
        if isinstance(process, LatticeFlow):
            left = spread_s / spread
            variance = ((1 - left) * of_noised + left) ** 2 * variance
        else:
            alpha = (signal / signal_s) ** 2
            beta = 1 - alpha
            factor = signal_s * beta * of_noised + np.sqrt(alpha) * spread_s**2
            noise = beta * (spread_s / spread) ** 2
            variance = (factor / spread**2) ** 2 * variance + noise
    return np.sqrt(variance)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lattice", "solver", "error"),  # of the widths, which so few steps make
    [
        ("log", "predictor_corrector", 0.06),
        ("limit", "predictor_corrector", 0.1),
        ("flow", "ancestral", 0.06),
        ("lengths_angles", "ancestral", 0.06),
    ],
)
def test_a_known_distribution_is_recovered(lattice, solver, error):
    diffusion, published = make_diffusion(lattice=lattice), make_diffusion()
    process = diffusion.lattice
    solver = make_solver(solver, steps=STEPS, first_time=999)
    crystals = sample(
        diffusion, jax.tree_util.Partial(exact, process, published), jax.random.key(0),
        NUM_SAMPLES, 2, solver=solver, control=Control(cell_bounds_angstrom=None),
        chunk_size=NUM_SAMPLES // 2,
    )  # fmt: skip
    z = np.float64(process.numbers.of_noised(jnp.asarray(crystals.lattice)))
    deviation = (z - MEAN) / STD
    expected = std_of_sampler(process, solver.times(diffusion)) / STD
    np.testing.assert_allclose(expected, 1, atol=error)
    np.testing.assert_allclose(deviation.mean(0), 0, atol=4 / np.sqrt(NUM_SAMPLES))
    np.testing.assert_allclose(deviation.std(0), expected, atol=4 / np.sqrt(2 * NUM_SAMPLES))
    correlation = np.corrcoef(deviation.T) - np.eye(6)
    np.testing.assert_allclose(correlation, 0, atol=5 / np.sqrt(NUM_SAMPLES))
    if lattice != "limit":
        assert (np.linalg.det(np.float64(crystals.lattice)) > 0).all()
