"""Six numbers of a cell: logarithms of its lengths and logits of its angles (FlowMM).

The angles of a Niggli-reduced cell lie between 60° and 120°. With p = (angle − 59.9°)/60.2° the
numbers are ln a, ln b, ln c, and logit p of α, β and γ (arXiv:2406.04713, and its code for the
bounds); z is what they are after subtracting a mean and dividing by a deviation.

A noised cell stands with a along x, and b in the plane of x and y. A cell is read in any
orientation, a left-handed one as its mirror image, and angles outside the bounds as at them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from miad_jax.diffusion.cell_numbers import ReadsMatrix
from miad_jax.diffusion.stretch import Lattice, Numbers

MEAN = (1.57, 1.70, 1.98, -0.45, -0.94, -0.80)
STD = (0.25, 0.27, 0.35, 3.25, 2.66, 3.55)
"""Of the six numbers over the training crystals of MP-20, whose cells are Niggli-reduced."""

SMALLEST_ANGLE, RANGE = 59.9, 60.2
"""In degrees."""

NEAREST = 1e-6
"""How near to the bounds float32 tells an angle, as a share of the range."""

FLATTEST = 1e-4
"""What sin² of the angle between c and the plane of a and b is at least.

Angles of α + β = γ, or of α + β + γ = 360°, make no cell. Between 60° and 120° there are four such
corners, (120°, 120°, 120°) and (60°, 60°, 120°) in any order; in the 0.1° beyond them c is lifted.
"""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LengthsAngles(ReadsMatrix):
    """The chart of log-lengths and logit angles.

    Attributes:
        mean: Subtracted from the six numbers.
        std: By which they are divided.
        farthest: No training crystal of MP-20 has |z_i| beyond.
    """

    farthest: ClassVar[float] = 10.0

    mean: Float[Array, " 6"]
    std: Float[Array, " 6"]

    @classmethod
    def make(cls, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> LengthsAngles:
        """The chart of a data set.

        Args:
            mean: Of the six numbers.
            std: Their standard deviations.

        Example:
            >>> round(float(LengthsAngles.make().from_z(jnp.zeros(6))[0, 0]), 1)
            4.8
        """
        return cls(jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32))

    def to_z(self, lattice: Lattice) -> Numbers:
        """The six numbers of a cell in Å, in any orientation.

        Example:
            >>> chart = LengthsAngles.make(mean=(0.0,) * 6, std=(1.0,) * 6)
            >>> bool(jnp.allclose(chart.to_z(jnp.eye(3)), 0, atol=1e-5))
            True
        """
        squares = jnp.square(lattice).sum(-1)
        units = lattice * jax.lax.rsqrt(squares)[..., None]
        cosines = jnp.stack([(units[..., i, :] * units[..., j, :]).sum(-1) for i, j in _PAIRS], -1)
        angles = jnp.degrees(jnp.arccos(jnp.clip(cosines, -1, 1)))
        share = jnp.clip((angles - SMALLEST_ANGLE) / RANGE, NEAREST, 1 - NEAREST)
        logits = jnp.log(share) - jnp.log1p(-share)
        numbers = jnp.concatenate([0.5 * jnp.log(squares), logits], -1)
        return (numbers - self.mean) / self.std

    def of_noised(self, lattice: Lattice) -> Numbers:
        """The same of a noised cell.

        Example:
            >>> LengthsAngles.make().of_noised(4.0 * jnp.eye(3)).shape
            (6,)
        """
        return self.to_z(lattice)

    def from_z(self, z: Numbers) -> Lattice:
        """The cell of z, in Å.

        Example:
            >>> chart = LengthsAngles.make(mean=(0.0,) * 6)
            >>> [round(float(x), 2) for x in chart.from_z(jnp.zeros(6)).diagonal()]
            [1.0, 1.0, 1.0]
        """
        numbers = self.mean + self.std * z
        lengths = jnp.exp(numbers[..., :3])
        angles = jnp.radians(SMALLEST_ANGLE + RANGE * jax.nn.sigmoid(numbers[..., 3:]))
        alpha, beta, gamma = (jnp.cos(angles[..., i]) for i in range(3))
        sine = jnp.sin(angles[..., 2])
        along = (alpha - beta * gamma) / sine
        above = jnp.maximum(1 - jnp.square(beta) - jnp.square(along), FLATTEST)
        one, none = jnp.ones_like(sine), jnp.zeros_like(sine)
        units = jnp.stack(
            [
                jnp.stack([one, none, none], -1),
                jnp.stack([gamma, sine, none], -1),
                jnp.stack([beta, along, jnp.sqrt(above)], -1),
            ],
            -2,
        )
        return lengths[..., None] * units


_PAIRS = ((1, 2), (0, 2), (0, 1))
"""The cell vectors between which α, β and γ are."""
