"""The symmetries of Appendix A of arXiv:2511.14426: of the network, the loss and a reverse step.

Each symmetry is one transformation of everything that goes in (the noise too), and what it must
do to everything that comes out.
"""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miad_jax.crystal import NUM_TYPES, Crystal, Prediction
from miad_jax.diffusion import Noise, joint, make_diffusion

SLOTS = 5
TIMES = np.array([3, 400, 999], np.int32)
seeds = st.integers(0, 2**32 - 1)


@dataclass(frozen=True)
class Transformation:
    """Lattice to lattice @ rotation, coordinates shifted, slots reordered, padding overwritten."""

    rotation: np.ndarray
    shift: np.ndarray  # broadcasts against [batch, slots, 3]
    order: np.ndarray
    garbage: bool = False

    def crystal(self, crystal):
        frac_coords = np.asarray(crystal.frac_coords) + self.shift
        atom_types, mask = np.asarray(crystal.atom_types), np.asarray(crystal.mask)
        if self.garbage:
            frac_coords = np.where(mask[..., None], frac_coords, 100 * np.sin(frac_coords + 5))
            atom_types = np.where(mask, atom_types, 99 - atom_types)
        return Crystal(
            self.vectors(crystal.lattice),
            self.slots(frac_coords),
            self.slots(atom_types),
            self.slots(mask),
        )

    def vectors(self, lattice):
        return np.asarray(np.float64(lattice) @ self.rotation, np.float32)

    def slots(self, x):
        """Reorder the slots; nothing else happens to the noise and the prediction of an atom."""
        return np.asarray(x)[:, self.order].astype(np.asarray(x).dtype)

    def noise(self, noise):
        """Transform the noise of a noising or of a reverse step."""
        moved = {k: self.slots(x) for k, x in vars(noise).items() if k != "lattice"}
        return replace(noise, lattice=self.vectors(noise.lattice), **moved)


def nothing():
    return Transformation(np.eye(3), np.zeros((1, 1, 3), np.float32), np.arange(SLOTS))


def permutation(rng):
    return replace(nothing(), order=rng.permutation(SLOTS))


def rotation(rng):
    """A rotation or a reflection."""
    orthogonal, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return replace(nothing(), rotation=orthogonal * rng.choice([-1, 1], 3))


def translation(rng):
    return replace(nothing(), shift=rng.uniform(-2, 2, (3, 1, 3)).astype(np.float32))


def integer_shift(rng):
    """Every atom into a cell of its own."""
    return replace(nothing(), shift=rng.integers(-3, 4, (3, SLOTS, 3)).astype(np.float32))


def padding(rng):
    return replace(nothing(), garbage=True)


def everything(rng):
    return Transformation(
        rotation(rng).rotation,
        translation(rng).shift + integer_shift(rng).shift,
        rng.permutation(SLOTS),
        garbage=True,
    )


SYMMETRIES = [permutation, rotation, translation, integer_shift, padding, everything]
each_symmetry = pytest.mark.parametrize("symmetry", SYMMETRIES, ids=lambda s: s.__name__)


@pytest.fixture(scope="module")
def compiled(tiny_net, tiny_params, random_crystals):
    """Network, loss and reverse step at fixed times, and crystals to try them on."""
    diffusion, t = make_diffusion(), jnp.asarray(TIMES)

    def denoise(crystal, time):
        return tiny_net.denoise(tiny_params, crystal, time)

    def loss_terms(crystal, noise):
        noised = joint.noised(diffusion, crystal, t, noise)
        return joint.loss_terms(diffusion, denoise(noised, t), crystal, noised, t, noise)

    return SimpleNamespace(
        crystals=random_crystals([5, 3, 4], SLOTS, num_mirage=1),
        predict=jax.jit(lambda crystal: denoise(crystal, t)),
        loss_terms=jax.jit(loss_terms),
        step_back=jax.jit(
            lambda crystal, noise: joint.step_back(diffusion, denoise, crystal, t, noise)
        ),
    )


def draw(rng, kind):
    """Noise of a kind."""
    shapes = {"lattice": (3, 3, 3), "types_uniform": (3, SLOTS), "types": (3, SLOTS)}
    fields = {}
    for name in kind.__dataclass_fields__:
        shape = shapes.get(name, (3, SLOTS, 3))
        fields[name] = rng.normal(size=shape).astype(np.float32)
        if name.startswith("types"):
            fields[name] = rng.random((3, SLOTS), np.float32)
        if name == "types_redrawn":
            fields[name] = rng.integers(0, NUM_TYPES, (3, SLOTS), np.int32)
    return kind(**fields)


def assert_close(actual, expected, message):
    expected = np.asarray(expected)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * scale, err_msg=message)


@each_symmetry
@given(seed=seeds)
def test_the_network(compiled, symmetry, seed):
    crystals, move = compiled.crystals, symmetry(np.random.default_rng(seed))
    before = compiled.predict(crystals)
    after = compiled.predict(move.crystal(crystals))
    expected = Prediction(
        move.vectors(before.lattice), move.slots(before.coords), move.slots(before.types)
    )
    for name in ("lattice", "coords", "types"):
        assert_close(getattr(after, name), getattr(expected, name), name)


@each_symmetry
@given(seed=seeds)
def test_the_loss(compiled, symmetry, seed):
    rng = np.random.default_rng(seed)
    move, noise = symmetry(rng), draw(rng, Noise)
    before = compiled.loss_terms(compiled.crystals, noise)
    after = compiled.loss_terms(move.crystal(compiled.crystals), move.noise(noise))
    for name, value in vars(before).items():
        np.testing.assert_allclose(getattr(after, name), value, rtol=2e-4, err_msg=name)


@each_symmetry
@given(seed=seeds)
def test_a_reverse_step(compiled, same_coords, symmetry, seed):
    rng = np.random.default_rng(seed)
    move, noise = symmetry(rng), draw(rng, joint.ReverseNoise)
    expected = move.crystal(compiled.step_back(compiled.crystals, noise))
    after = compiled.step_back(move.crystal(compiled.crystals), move.noise(noise))
    real = expected.mask
    np.testing.assert_array_equal(after.mask, real)
    np.testing.assert_array_equal(np.asarray(after.atom_types)[real], expected.atom_types[real])
    same_coords(np.asarray(after.frac_coords)[real], expected.frac_coords[real], atol=1e-5)
    for i in range(3):  # the scales differ: far from the data a step multiplies by 100
        assert_close(after.lattice[i], expected.lattice[i], f"lattice at t = {TIMES[i]}")
    assert np.abs(np.asarray(after.frac_coords)[real] - 0.5).max() <= 0.5


def test_the_outputs_are_not_trivial(compiled):
    """Symmetries would hold for zeros as well."""
    prediction = compiled.predict(compiled.crystals)
    real = np.asarray(compiled.crystals.mask)
    assert np.asarray(prediction.coords)[real].std() > 0.1
    assert np.asarray(prediction.types)[real].std() > 0.1
    assert (np.abs(prediction.lattice).max((1, 2)) > 1e-2).all()
    # The shape of the cell and the places of the atoms matter.
    stretched = replace(compiled.crystals, lattice=compiled.crystals.lattice * 1.2)
    moved = replace(compiled.crystals, frac_coords=compiled.crystals.frac_coords.at[:, 0].add(0.2))
    for other in (stretched, moved):
        assert np.abs(compiled.predict(other).coords - prediction.coords)[real].max() > 1e-2
