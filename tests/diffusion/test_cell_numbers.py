"""Charts of cells, against pymatgen and NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pymatgen.core import Lattice

from miad_jax.diffusion.lattice_vp import LatticeVP
from miad_jax.diffusion.lengths_angles import RANGE, SMALLEST_ANGLE, LengthsAngles
from miad_jax.diffusion.limit_cell import DENSITY, LimitCell
from miad_jax.diffusion.log_stretch import LogStretch

CHARTS = {
    "LogStretch": LogStretch.make(),
    "LengthsAngles": LengthsAngles.make(),
    "LimitCell": LimitCell.make(25),
}
CUBIC, HEXAGONAL, FCC, NEEDLE = (
    Lattice.cubic(4.0),
    Lattice.hexagonal(3.2, 5.2),
    Lattice.from_parameters(2.9, 2.9, 2.9, 60, 60, 60),
    Lattice.from_parameters(2.6, 2.7, 60, 88, 91, 119),
)
CELLS = np.stack([x.matrix for x in (CUBIC, HEXAGONAL, FCC, NEEDLE)])


@pytest.fixture(params=CHARTS, ids=str)
def chart(request):
    return CHARTS[request.param]


def some_orthogonal(num):
    """Rotations and reflections."""
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(num, 3, 3)))[0]
    q[::2, 0] *= -1
    return q


def gram(lattice):
    lattice = np.float64(lattice)
    return lattice @ lattice.swapaxes(-1, -2)


def test_a_cell_comes_back_but_for_its_orientation(chart):
    for cells in (CELLS, CELLS @ some_orthogonal(len(CELLS))):
        z = chart.to_z(jnp.asarray(cells, jnp.float32))
        assert z.shape == (len(CELLS), 6)
        back = chart.from_z(z)
        np.testing.assert_allclose(gram(back), gram(CELLS), rtol=3e-4, atol=2e-2)
        assert (np.linalg.det(np.float64(back)) > 0).all()
        np.testing.assert_allclose(chart.of_noised(back), z, atol=2e-3)


def test_what_is_said_is_read(chart):
    z = jax.random.normal(jax.random.key(0), (50, 6))
    x_t, numbers = chart.from_z(z), jnp.flip(z, 0)
    np.testing.assert_allclose(chart.of_noised(x_t), z, atol=2e-3)
    np.testing.assert_allclose(chart.read(chart.saying(numbers, x_t), x_t), numbers, atol=1e-3)


@pytest.mark.parametrize("size", [1.0, 5.0, 10.0])
def test_all_numbers_make_finite_cells(chart, size):
    signs = np.float32(np.random.default_rng(1).choice([-1, 1], (256, 6)))
    cells = chart.from_z(jnp.asarray(size * signs))
    assert np.isfinite(cells).all()
    assert np.isfinite(chart.of_noised(cells)).all()
    assert np.isfinite(chart.read(cells, cells)).all()


def test_lengths_and_angles_are_pymatgen_s():
    chart = LengthsAngles.make(mean=(0.0,) * 6, std=(1.0,) * 6)
    numbers = np.float64(chart.to_z(jnp.asarray(CELLS, jnp.float32)))
    for found, lattice in zip(numbers, (CUBIC, HEXAGONAL, FCC, NEEDLE), strict=True):
        np.testing.assert_allclose(np.exp(found[:3]), lattice.abc, rtol=1e-5)
        share = (np.array(lattice.angles) - SMALLEST_ANGLE) / RANGE
        np.testing.assert_allclose(found[3:], np.log(share / (1 - share)), atol=2e-3)


def test_the_lengths_and_angles_of_a_data_set_are_near_the_prior():
    import miad_jax

    crystals, _ = miad_jax.load_dataset("prototypes", "val")
    z = np.asarray(CHARTS["LengthsAngles"].to_z(jnp.asarray(crystals.lattice)))
    assert np.abs(z.mean(0)).max() < 0.7
    assert 0.4 < z.std(0).min() < z.std(0).max() < 1.6
    assert np.abs(z).max() < 5


@pytest.mark.parametrize("corner", [(120, 120, 120), (60, 60, 120), (60, 120, 60), (120, 60, 60)])
def test_angles_that_make_no_cell_make_one_that_is_nearly_flat(corner):
    chart = LengthsAngles.make(mean=(0.0,) * 6, std=(1.0,) * 6)
    z = jnp.concatenate([jnp.zeros(3), jnp.where(jnp.array(corner) > 90, 12.0, -12.0)])
    volume = np.linalg.det(np.float64(chart.from_z(z)))
    assert 0 < volume < 0.05


@pytest.mark.parametrize("num_atoms", [1, 12, 25])
def test_noise_ends_in_a_cube_of_the_density_of_crystals(num_atoms):
    process = LatticeVP.limit(1000, limit_num_atoms=num_atoms)
    num = 20_000
    noise = jax.random.normal(jax.random.key(0), (num, 3, 3))
    clean = jnp.broadcast_to(jnp.asarray(CELLS[1], jnp.float32), noise.shape)
    ends = (
        jax.vmap(lambda key: process.prior(key, 5))(jax.random.split(jax.random.key(1), num)),
        process.add_noise(clean, jnp.full(num, 999), noise),
    )
    edge, spread = (num_atoms / DENSITY) ** (1 / 3), 0.5 * num_atoms ** (1 / 3)
    for cells in map(np.float64, ends):
        np.testing.assert_allclose(cells, cells.swapaxes(1, 2), atol=1e-4)
        # √ᾱ is 0.0066 at the end, so a little is left of the cell.
        np.testing.assert_allclose(cells.mean(0), edge * np.eye(3), atol=0.05 + 0.03 * spread)
        np.testing.assert_allclose(cells.std(0), spread, rtol=0.03)


def test_a_cell_whose_axis_is_turned_round_by_noise_is_led_back():
    process = LatticeVP.limit(1000, limit_num_atoms=8)
    clean = jnp.asarray(CELLS, jnp.float32)
    t = jnp.full(len(CELLS), 600)
    noise = jnp.broadcast_to(-8 * jnp.diag(jnp.array([1.0, 0.5, 0.0])), clean.shape)
    x_t = process.add_noise(clean, t, noise)
    assert (np.linalg.eigvalsh(np.float64(x_t)).min(1) < 0).all()
    said = process.predicting(clean, x_t, t)
    np.testing.assert_allclose(gram(process.clean(said, x_t, t)), gram(CELLS), rtol=1e-3, atol=1e-2)
