"""The symmetries of Appendix A of arXiv:2511.14426, as transformations of crystals and noise.

Each is one transformation of everything that goes in (the noise too), and what it must do to
everything that comes out. They are of batches of three crystals of five slots.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.crystal import Crystal

SLOTS = 5


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
        """Transform the noise of a noising or of a step."""
        moved = jax.tree.map(lambda x: jnp.asarray(self.slots(x)), noise.types)
        return replace(
            noise,
            lattice=self.vectors(noise.lattice),
            coords=self.slots(noise.coords),
            types=moved,
        )


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
