"""Flow matching of the fractional coordinates on the torus (FlowMM, arXiv:2406.04713).

A straight way leads from an atom's clean place to a random one, by the shortest way round the cell
(Riemannian flow matching, Chen and Lipman, arXiv:2302.03660). The network predicts the velocity,
and sampling follows it back, without noise. The way depends on the clean place, so x_t of x_s
alone has no distribution: this process has no `renoise`.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from miad_jax.crystal import wrap
from miad_jax.diffusion.coords import Coords, Times
from miad_jax.diffusion.schedules import linear_share, table

ROOT_MEAN_SQUARE = 12**-0.5
"""Of one direction of the velocity, which is uniform in [−½, ½]."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TorusFlow:
    """Straight ways on the torus to uniform places; the network predicts √12 times the velocity.

    Attributes:
        tau: τ_t, which share of the way is gone at t; 0 in the clean row.
    """

    tau: Float[Array, " time"]

    @classmethod
    def make(cls, num_steps: int) -> TorusFlow:
        """The process of T steps, with τ_t = (t + 1)/T: at T−1 coordinates are uniform.

        Example:
            >>> [round(float(TorusFlow.make(1000).tau[t]), 3) for t in (-1, 0, 499, 999)]
            [0.0, 0.001, 0.5, 1.0]
        """
        return cls(table(linear_share(num_steps), 0.0))

    @property
    def num_steps(self) -> int:
        """T."""
        return self.tau.shape[0] - 1

    def prior(self, key: PRNGKeyArray, size: int) -> Float[Array, "atoms 3"]:
        """Coordinates uniform in the cell."""
        return jax.random.uniform(key, (size, 3), jnp.float32)

    def draw_noise(self, key: PRNGKeyArray, size: int) -> Float[Array, "atoms 3"]:
        """Where the ways lead: places uniform in the cell."""
        return jax.random.uniform(key, (size, 3), jnp.float32)

    def draw_step_noise(self, key: PRNGKeyArray, size: int) -> Float[Array, "atoms 3"]:
        """As `draw_noise`; steps do not read it."""
        return self.draw_noise(key, size)

    def add_noise(self, x_0: Coords, t: Times, noise: Coords) -> Coords:
        """F_t = (F_0 + τ_t d) mod 1, where d is the shortest way from F_0 to the place `noise`.

        Example:
            >>> process, t = TorusFlow.make(1000), jnp.array([499])
            >>> process.add_noise(jnp.full((1, 3), 0.9), t, jnp.full((1, 3), 0.1)).round(2).tolist()
            [[0.0, 0.0, 0.0]]
        """
        return wrap(x_0 + self.tau[t][..., None] * _shortest(noise - x_0))

    def target(self, x_0: Coords, noise: Coords) -> Coords:
        """What the network has to predict: √12 d, of unit variance at every t.

        Example:
            >>> process = TorusFlow.make(1000)
            >>> target = process.target(jnp.full((1, 3), 0.9), jnp.full((1, 3), 0.1))
            >>> [round(float(x), 3) for x in target[0]]
            [0.693, 0.693, 0.693]
        """
        return _shortest(noise - x_0) / ROOT_MEAN_SQUARE

    def loss(
        self, said: Coords, x_0: Coords, x_t: Coords, t: Times, noise: Coords
    ) -> Float[Array, "*batch atoms"]:
        """Mean over the three directions of (prediction − target)², for each atom.

        Example:
            >>> process, t, still = TorusFlow.make(10), jnp.array([5]), jnp.zeros((1, 3))
            >>> process.loss(still + 1, still, still, t, still).tolist()
            [1.0]
        """
        del x_t, t
        return jnp.square(said - self.target(x_0, noise)).mean(-1)

    def clean(self, said: Coords, x_t: Coords, t: Times) -> Coords:
        """F̂_0 = (F_t − τ_t d̂) mod 1, with d̂ the prediction over √12.

        Example:
            >>> process, t = TorusFlow.make(1000), jnp.array([499])
            >>> clean, noise = jnp.full((1, 3), 0.9), jnp.zeros((1, 3))
            >>> noised = process.add_noise(clean, t, noise)
            >>> found = process.clean(process.target(clean, noise), noised, t)
            >>> [round(float(x), 3) for x in found[0]]
            [0.9, 0.9, 0.9]
        """
        return wrap(x_t - self.tau[t][..., None] * self._velocity(said))

    def predicting(self, x_0: Coords, x_t: Coords, t: Times) -> Coords:
        """The prediction of which `clean` makes F̂_0: it moves by the shortest way; t ≥ 0.

        Example:
            >>> process, t = TorusFlow.make(1000), jnp.array([499])
            >>> said = process.predicting(jnp.zeros((1, 3)), jnp.full((1, 3), 0.75), t)
            >>> [round(float(x), 3) for x in said[0]]
            [-1.732, -1.732, -1.732]
        """
        return _shortest(x_t - x_0) / (ROOT_MEAN_SQUARE * self.tau[t][..., None])

    def progress(self, t: Int[Array, "*times"], s: Int[Array, "*times"]) -> Float[Array, "*times"]:
        """1 − τ_s/τ_t: which share of the way to F̂_0 a step goes; t ≥ 0.

        Example:
            >>> process, t = TorusFlow.make(1000), jnp.array([499, 499])
            >>> process.progress(t, jnp.array([249, -1])).tolist()
            [0.5, 1.0]
        """
        return 1 - self.tau[s] / self.tau[t]

    def step(self, said: Coords, x_t: Coords, t: Times, s: Times, noise: Coords) -> Coords:
        """F_s = (F_t − (τ_t − τ_s) d̂) mod 1: a step of Euler's along the velocity, without noise.

        Example:
            >>> process, said = TorusFlow.make(1000), jnp.full((1, 3), 3**0.5)
            >>> t, s = jnp.array([499]), jnp.array([249])
            >>> moved = process.step(said, jnp.full((1, 3), 0.5), t, s, said)
            >>> [round(float(x), 3) for x in moved[0]]
            [0.375, 0.375, 0.375]
        """
        del noise
        return wrap(x_t - (self.tau[t] - self.tau[s])[..., None] * self._velocity(said))

    def _velocity(self, said: Coords) -> Coords:
        """D̂, in fractions of the cell."""
        return said * ROOT_MEAN_SQUARE


def _shortest(way: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return way - jnp.round(way)
