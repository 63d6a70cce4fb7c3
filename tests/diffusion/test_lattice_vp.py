"""The six numbers of a cell against NumPy in float64; orientations, bounds, predictions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from miad_jax.diffusion import make_diffusion
from miad_jax.diffusion.lattice import LatticeDDPM
from miad_jax.diffusion.lattice_vp import LatticeVP
from miad_jax.diffusion.log_stretch import LogStretch
from miad_jax.diffusion.stretch import BASIS, exp_of, log_of

RNG = np.random.default_rng(0)
PROCESS = LatticeVP.make(1000)
CHART = PROCESS.numbers
FARTHEST = CHART.farthest
T = jnp.array([0, 10, 300, 700, 990, 999])


def some_orthogonal(num):
    """Rotations and reflections."""
    q = np.linalg.qr(RNG.normal(size=(num, 3, 3)))[0]
    q[::2, 0] *= -1
    return q


def cells():
    """Cells as crystals have them, needles, plates, and the cube, in float64."""
    z = RNG.normal(size=(40, 6))
    k = np.float64(CHART.mean) + np.float64(CHART.std) * z
    common = np.stack([scipy.linalg.expm(np.einsum("k,kij", x, np.float64(BASIS))) for x in k])
    odd = [np.diag(x) for x in ([2.0, 2, 60], [2, 3, 60], [50, 50, 2], [4, 4, 4], [3, 3, 3.0001])]
    odd = np.stack([*odd, 5 * np.eye(3) + np.eye(3, k=1) * 4.9])
    return np.concatenate([common, odd @ some_orthogonal(len(odd))])


def test_the_basis_is_orthonormal_and_symmetric():
    np.testing.assert_allclose(np.einsum("kij,lij->kl", BASIS, BASIS), np.eye(6), atol=1e-7)
    np.testing.assert_array_equal(BASIS, BASIS.swapaxes(1, 2))
    assert BASIS.dtype == np.float32


def test_logarithm_and_exponential_are_those_of_float64():
    lattice = cells()
    found = jax.jit(log_of)(jnp.asarray(lattice, jnp.float32))
    # float32 cells are what is given: only what is made of them is compared.
    given = np.float64(np.float32(lattice))
    left, lengths, _ = np.linalg.svd(given)
    log = np.einsum("nij,nj,nkj->nik", left, np.log(lengths), left)
    expected = np.einsum("kij,nij->nk", BASIS, log)
    np.testing.assert_allclose(found, expected, atol=3e-5)
    assert np.abs(found[:40] - expected[:40]).max() < 3e-6
    back = jax.jit(exp_of)(jnp.asarray(expected, jnp.float32))
    np.testing.assert_allclose(back, [scipy.linalg.expm(x) for x in log], rtol=1e-5, atol=1e-5)


def test_a_cell_comes_back_but_for_its_orientation():
    lattice = cells()
    back = np.float64(exp_of(log_of(jnp.asarray(lattice, jnp.float32))))
    np.testing.assert_allclose(back, back.swapaxes(1, 2), rtol=1e-5, atol=1e-4)
    gram = lattice @ lattice.swapaxes(1, 2)
    np.testing.assert_allclose(back @ back.swapaxes(1, 2), gram, rtol=2e-4, atol=2e-3)
    assert (np.linalg.det(back) > 0).all()
    volume = np.log(np.abs(np.linalg.det(lattice)))
    np.testing.assert_allclose(np.sqrt(3) * log_of(jnp.float32(lattice))[:, 5], volume, atol=1e-4)


@pytest.mark.parametrize("t", [0, 500, 999])
def test_the_orientation_of_a_cell_changes_nothing(t):
    """Neither that of the clean cell, nor that in which a network sees the noised one."""
    lattice = cells()
    turned = jnp.asarray(lattice @ some_orthogonal(len(lattice)), jnp.float32)
    lattice, t = jnp.asarray(lattice, jnp.float32), jnp.full(len(lattice), t)
    noise = jax.random.normal(jax.random.key(0), lattice.shape)
    one, two = (PROCESS.add_noise(x, t, noise) for x in (lattice, turned))
    np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-3)
    matrix = jax.random.normal(jax.random.key(1), lattice.shape)
    q = jnp.asarray(some_orthogonal(len(lattice)), jnp.float32)
    for function in (
        lambda x: PROCESS.loss(matrix @ x, lattice, x, t, noise),
        lambda x: PROCESS.clean(matrix @ x, x, t),
        lambda x: PROCESS.step(matrix @ x, x, t, t - 1, noise),
    ):
        np.testing.assert_allclose(function(one), function(one @ q), rtol=2e-3, atol=2e-3)


def test_noise_has_the_moments_of_the_formula_and_ends_in_the_prior():
    num = 20_000
    z_0 = jnp.array([1.0, -1.0, 0.5, 2.0, 0.0, -2.0])
    x_0 = CHART.from_z(z_0)

    @jax.jit
    def draw(key):
        noise = jax.vmap(lambda key: PROCESS.draw_noise(key, 1))(jax.random.split(key, num))
        clean = jnp.broadcast_to(x_0, noise.shape)
        noised = [PROCESS.add_noise(clean, jnp.full(num, t), noise) for t in (300, 999)]
        prior = jax.vmap(lambda key: PROCESS.prior(key, 1))(jax.random.split(key, num))
        return [CHART.to_z(x) for x in (*noised, prior)]

    half, full, prior = (np.float64(z) for z in draw(jax.random.key(0)))
    alpha_bar = float(PROCESS.alpha_bar[300])
    for z, mean, variance in (
        (half, np.sqrt(alpha_bar) * np.float64(z_0), 1 - alpha_bar),
        (full, 0, 1),
        (prior, 0, 1),
    ):
        np.testing.assert_allclose(z.mean(0), mean + np.zeros(6), atol=4 / np.sqrt(num))
        np.testing.assert_allclose(np.cov(z.T), variance * np.eye(6), atol=6 / np.sqrt(num))


def test_the_loss_is_the_mean_square_of_six_numbers():
    lattice = jnp.asarray(cells()[:6], jnp.float32)
    noise = jax.random.normal(jax.random.key(0), lattice.shape)
    x_t = PROCESS.add_noise(lattice, T, noise)
    eps = np.einsum("kij,nij->nk", BASIS, noise)
    signal, spread = (np.sqrt(np.float64(x[T]))[:, None] for x in columns())
    v = signal * eps - spread * np.float64(CHART.to_z(lattice))
    said = np.arange(36.0).reshape(6, 6) / 20
    # An antisymmetric part of M means nothing.
    matrix = np.einsum("nk,kij->nij", said, BASIS) + np.array([[0, 3, 1], [-3, 0, 2], [-1, -2, 0]])
    found = PROCESS.loss(jnp.float32(matrix) @ x_t, lattice, x_t, T, noise)
    np.testing.assert_allclose(found, ((said - v) ** 2).mean(1), rtol=1e-3)


def test_the_gradient_is_finite_for_every_cell():
    """That of a cell too which is known, whose loss is taken and not counted."""
    lattice = jnp.asarray(cells(), jnp.float32)
    noise = jnp.zeros(lattice.shape)

    def total(said, t):
        x_t = PROCESS.add_noise(lattice, t, noise)
        return PROCESS.loss(said, lattice, x_t, jnp.maximum(t, 0), noise).sum()

    for t in (-1, 0, 999):
        gradient = jax.grad(total)(lattice, jnp.full(len(lattice), t))
        assert np.isfinite(gradient).all()
        assert (np.abs(gradient).max((1, 2)) > 0).all()


def columns():
    return PROCESS.alpha_bar, PROCESS.one_minus_alpha_bar


def test_steps_follow_the_posterior():
    """z_s of given z_t, ẑ_0 and noise, in float64."""
    rng = np.random.default_rng(2)
    z_t, z_0 = rng.normal(size=(2, 6, 6))
    t, s = np.array([10, 300, 700, 999, 5, 0]), np.array([9, 100, 0, 500, -1, -1])
    x_t = CHART.from_z(jnp.float32(z_t))
    noise = rng.normal(size=(6, 3, 3))
    alpha_bar, one_minus = (np.float64(x) for x in columns())
    v = (np.sqrt(alpha_bar[t])[:, None] * z_t - z_0) / np.sqrt(one_minus[t])[:, None]
    said = jnp.float32(np.einsum("nk,kij->nij", v, BASIS)) @ x_t
    found = CHART.to_z(PROCESS.step(said, x_t, jnp.array(t), jnp.array(s), jnp.float32(noise)))
    alpha = (alpha_bar[t] / alpha_bar[s])[:, None]
    left, remaining = one_minus[s][:, None], one_minus[t][:, None]
    mean = np.sqrt(alpha_bar[s])[:, None] * (1 - alpha) * z_0 + np.sqrt(alpha) * left * z_t
    std = np.sqrt((1 - alpha) * left / remaining)
    expected = mean / remaining + std * np.einsum("kij,nij->nk", BASIS, noise)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    np.testing.assert_allclose(found[4:], z_0[4:], atol=2e-3)


@pytest.mark.parametrize("said", [0.0, 1e4, -1e4])
def test_whatever_is_predicted_cells_stay_cells(said):
    x_t = jnp.asarray(cells()[:6], jnp.float32)
    for lattice in (
        PROCESS.clean(said * x_t, x_t, T),
        PROCESS.step(said * x_t, x_t, T, T - 1, jnp.zeros((6, 3, 3))),
        PROCESS.step(said * x_t, x_t, T, jnp.full(6, -1), jnp.zeros((6, 3, 3))),
    ):
        assert (np.linalg.det(np.float64(lattice)) > 0).all()
        assert np.abs(CHART.to_z(lattice)).max() < FARTHEST + 1
        assert np.linalg.norm(lattice, axis=-1).max() < 100


def test_a_clean_cell_keeps_its_orientation():
    lattice = jnp.asarray(cells(), jnp.float32)
    t = jnp.where(jnp.arange(len(lattice)) % 2, -1, 0)
    noised = PROCESS.add_noise(lattice, t, jnp.ones(lattice.shape))
    np.testing.assert_array_equal(noised[1::2], lattice[1::2])
    np.testing.assert_allclose(noised[::2], noised[::2].swapaxes(1, 2), rtol=1e-5, atol=1e-5)


def test_another_data_set_has_a_mean_and_deviations_of_its_own():
    other = LogStretch.make(mean=(0.0,) * 6, std=(0.5,) * 6)
    np.testing.assert_allclose(other.from_z(jnp.zeros(6)), np.eye(3), atol=1e-6)
    z = jnp.arange(6.0) / 3
    np.testing.assert_allclose(other.to_z(other.from_z(z)), z, atol=1e-5)
    np.testing.assert_allclose(log_of(other.from_z(z)), z / 2, atol=1e-5)


def test_the_cells_of_a_data_set_are_near_the_prior():
    import miad_jax

    crystals, _ = miad_jax.load_dataset("prototypes", "val")
    z = np.asarray(CHART.to_z(jnp.asarray(crystals.lattice)))
    assert np.abs(z.mean(0)).max() < 0.7
    assert 0.5 < z.std(0).min() < z.std(0).max() < 1.6
    assert np.abs(z).max() < FARTHEST


def test_it_is_chosen_by_name():
    assert isinstance(make_diffusion(10).lattice, LatticeDDPM)
    diffusion = make_diffusion(10, lattice="log")
    assert isinstance(diffusion.lattice, LatticeVP)
    assert diffusion.num_steps == 10
    with pytest.raises(ValueError, match="lattice is 'cubic'; allowed: ddpm, log, limit"):
        make_diffusion(10, lattice="cubic")
