"""Second order: a step is made again with the mean of the predictions at its two ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from miad_jax.crystal import Crystal, Prediction
from miad_jax.diffusion.joint import Denoise, Diffusion, StepNoise, step
from miad_jax.diffusion.keys import for_each
from miad_jax.diffusion.masked import MaskedTypes
from miad_jax.sampling.solvers.base import draw_step_noise
from miad_jax.sampling.times import Visits


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Heun(Visits):
    """Two evaluations a step: where it leads, and then again from where it began.

    Each field's own step, with its own noise, takes the mean of what the network says of the clean
    crystal at the two ends (after Karras et al., arXiv:2206.00364, Algorithm 2; the noise of the
    step is kept, so it stays a sample of the posterior). The last step, to the clean crystal, has
    one evaluation's prediction.

    Example:
        >>> miad_jax.Heun(steps=50).evaluations
        2
    """

    evaluations: ClassVar[int] = 2

    def check(self, diffusion: Diffusion) -> None:
        """Refuse masked types: of those that the first step decides the second is told nothing."""
        if isinstance(diffusion.types, MaskedTypes):
            raise ValueError(
                "heun cannot sample masked types, as a network says nothing of those that the "
                "first step decides: choose the solver ancestral or predictor_corrector"
            )

    def step(
        self,
        diffusion: Diffusion,
        denoise: Denoise,
        key: PRNGKeyArray,
        crystal_t: Crystal,
        t: Int[Array, "*batch"],
        s: Int[Array, "*batch"],
    ) -> Crystal:
        """There, and once more from the start."""

        def draw(key: PRNGKeyArray) -> StepNoise:
            lattice_key, coords_key, types_key = jax.random.split(key, 3)
            return draw_step_noise(diffusion, lattice_key, coords_key, types_key, crystal_t.size)

        noise = for_each(draw, key, crystal_t.batch_shape)
        said = denoise(crystal_t, t)
        crystal_s = step(diffusion, said, crystal_t, t, s, noise)
        later = jnp.maximum(s, 0)
        mean = _mean(diffusion, said, crystal_t, t, denoise(crystal_s, later), crystal_s, later)
        mean = jax.tree.map(
            lambda a, b: jnp.where(s.reshape(s.shape + (1,) * (a.ndim - s.ndim)) < 0, a, b),
            said,
            mean,
        )
        return step(diffusion, mean, crystal_t, t, s, noise)


def _mean(
    diffusion: Diffusion,
    said_t: Prediction,
    crystal_t: Crystal,
    t: Int[Array, "*batch"],
    said_s: Prediction,
    crystal_s: Crystal,
    s: Int[Array, "*batch"],
) -> Prediction:
    """What the network would say at t if it said of the clean crystal what it says on average."""
    lattice, coords = diffusion.lattice, diffusion.coords
    cell_s = lattice.clean(said_s.lattice, crystal_s.lattice, s)
    place_s = coords.clean(said_s.coords, crystal_s.frac_coords, s[..., None])
    from_s = Prediction(
        lattice.predicting(cell_s, crystal_t.lattice, t),
        coords.predicting(place_s, crystal_t.frac_coords, t[..., None]),
        said_s.types,
    )
    return jax.tree.map(lambda a, b: (a + b) / 2, said_t, from_s)
