"""Flow matching of the cell: its way, its velocity, and the distribution that it leads to."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.diffusion import make_diffusion
from miad_jax.diffusion.lattice_flow import LatticeFlow
from miad_jax.diffusion.lengths_angles import LengthsAngles
from miad_jax.diffusion.stretch import on_basis

FLOWS = {"flow": LatticeFlow.make(1000), "lengths_angles": LatticeFlow.lengths_angles(1000)}
MEAN = np.array([0.5, -1.0, 0.0, 0.3, 0.7, -0.7])
STD = np.array([0.4, 0.5, 0.8, 0.3, 0.7, 0.6])


@pytest.fixture(params=FLOWS, ids=str)
def process(request):
    return FLOWS[request.param]


def draw(seed, num=64):
    """Clean z, noise E, and ε."""
    first, second = jax.random.split(jax.random.key(seed))
    noise = jax.random.normal(second, (num, 3, 3))
    return jax.random.normal(first, (num, 6)), noise, on_basis(noise)


@pytest.mark.parametrize("t", [0, 1, 250, 700, 999])
def test_the_way_is_straight(process, t):
    z_0, noise, eps = draw(0)
    x_t = process.add_noise(process.numbers.from_z(z_0), jnp.full(64, t), noise)
    tau = (t + 1) / 1000
    expected = (1 - tau) * z_0 + tau * eps
    np.testing.assert_allclose(process.numbers.of_noised(x_t), expected, atol=2e-2)


def test_the_loss_is_the_mean_square_of_the_velocity_s_error(process):
    z_0, noise, eps = draw(1)
    t, said = jnp.arange(64) * 15, draw(2)[0]
    x_0 = process.numbers.from_z(z_0)
    x_t = process.add_noise(x_0, t, noise)
    found = process.loss(process.numbers.saying(said, x_t), x_0, x_t, t, noise)
    expected = np.square(np.float64(said) - np.float64(eps - z_0)).mean(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3)


def test_the_mean_velocity_leads_from_the_prior_to_the_data(process):
    """For a Gaussian E[ε − z_0 | z_t] is known; 100 steps of Euler's are compared to its widths."""
    num = 1500
    prior = jax.vmap(lambda key: process.prior(key, 1))(jax.random.split(jax.random.key(0), num))
    still = jnp.zeros((num, 3, 3))
    times = [*range(999, -1, -10), -1]

    @jax.jit
    def step(x, t, s):
        tau = process.tau[t][:, None]
        z = process.numbers.of_noised(x)
        variance = (1 - tau) ** 2 * STD**2 + tau**2
        slope = (tau - (1 - tau) * STD**2) / variance
        velocity = -MEAN + slope * (z - (1 - tau) * MEAN)
        return process.step(process.numbers.saying(velocity, x), x, t, s, still)

    x = prior
    for t, s in itertools.pairwise(times):
        x = step(x, jnp.full(num, t), jnp.full(num, s))
    found = np.float64(process.numbers.to_z(x))
    np.testing.assert_allclose(found.mean(0), MEAN, atol=0.08)
    np.testing.assert_allclose(found.std(0), STD, rtol=0.1)
    np.testing.assert_allclose(np.corrcoef(found.T), np.eye(6), atol=0.13)


@pytest.mark.parametrize("said", [0.0, 1e4, -1e4])
def test_whatever_is_predicted_cells_stay_finite(process, said):
    x_t = process.numbers.from_z(draw(3)[0])
    t = jnp.full(64, 500)
    for lattice in (
        process.clean(said * x_t, x_t, t),
        process.step(said * x_t, x_t, t, t - 1, x_t),
        process.step(said * x_t, x_t, t, jnp.full(64, -1), x_t),
    ):
        assert np.isfinite(lattice).all()
        assert (np.linalg.det(np.float64(lattice)) > 0).all()


def test_a_known_cell_stays_and_has_a_finite_gradient(process):
    x_0 = process.numbers.from_z(draw(4)[0])
    known = jnp.full(64, -1)
    np.testing.assert_array_equal(process.add_noise(x_0, known, x_0), x_0)

    def total(said):
        x_t = process.add_noise(x_0, known, x_0)
        return process.loss(said, x_0, x_t, jnp.maximum(known, 0), x_0).sum()

    assert np.isfinite(jax.grad(total)(x_0)).all()
    assert np.isfinite(process.step(x_0, x_0, known, known, x_0)).all()


def test_the_share_of_the_signal_falls_to_nothing(process):
    alpha_bar = np.asarray(process.alpha_bar)
    assert alpha_bar[-1] == 1
    assert (np.diff(alpha_bar[:-1]) < 0).all()
    assert alpha_bar[999] == 0


def test_it_is_chosen_by_name():
    assert isinstance(make_diffusion(10, lattice="flow").lattice, LatticeFlow)
    lattice = make_diffusion(10, lattice="lengths_angles").lattice
    assert isinstance(lattice.numbers, LengthsAngles)
    assert lattice.num_steps == 10
