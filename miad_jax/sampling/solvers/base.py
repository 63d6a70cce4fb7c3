"""What a solver is, and the noise of one step."""

from __future__ import annotations

from typing import ClassVar, Protocol, Self

import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from miad_jax.crystal import Crystal
from miad_jax.diffusion.joint import Denoise, Diffusion, StepNoise


class Solver(Protocol):
    """What the sampler asks of a solver: a pytree, compiled once for each of its static fields.

    Attributes:
        evaluations: How often a step asks the network.
    """

    evaluations: ClassVar[int]

    def times(self, diffusion: Diffusion) -> Int[np.ndarray, " steps"]:
        """The times to visit, from the noisiest to the least noisy; after the last comes −1.

        Raises:
            ValueError: If the process has no such times.
        """

    def check(self, diffusion: Diffusion) -> None:
        """Refuse a process that these settings cannot sample.

        Raises:
            ValueError: Naming the setting, and what to choose instead.
        """

    def not_before(self, diffusion: Diffusion, first: int) -> Self:
        """The same solver from a time on: what it would have visited before is left out."""

    def anywhere(self) -> Self:
        """The same solver without its times: one program for all of them."""

    def step(
        self,
        diffusion: Diffusion,
        denoise: Denoise,
        key: PRNGKeyArray,
        crystal_t: Crystal,
        t: Int[Array, "*batch"],
        s: Int[Array, "*batch"],
    ) -> Crystal:
        """Draw the crystals at time s from those at t; one key for each crystal."""


def draw_step_noise(
    diffusion: Diffusion,
    lattice_key: PRNGKeyArray,
    coords_key: PRNGKeyArray,
    types_key: PRNGKeyArray,
    size: int,
) -> StepNoise:
    """What one step of all three fields takes of one crystal of `size` atom slots."""
    return StepNoise(
        diffusion.lattice.draw_step_noise(lattice_key, size),
        diffusion.coords.draw_step_noise(coords_key, size),
        diffusion.types.draw_step_noise(types_key, size),
    )
