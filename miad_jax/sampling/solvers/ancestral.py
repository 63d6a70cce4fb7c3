"""One evaluation of the network a step: the fields' own steps, with or without renewed noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from miad_jax.crystal import Crystal, Prediction
from miad_jax.diffusion.joint import Denoise, Diffusion, StepNoise, draw_noise, step
from miad_jax.diffusion.keys import for_each
from miad_jax.diffusion.process import MarkovProcess
from miad_jax.diffusion.renoise import renoised
from miad_jax.sampling.solvers.base import draw_step_noise
from miad_jax.sampling.times import Visits


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Ancestral(Visits):
    """Every field's own step, without a corrector (Ho et al., arXiv:2006.11239).

    With churn, all fields first go back up in time by their forward process, by `churn` times the
    length of the step, and then down to where the step leads (Karras et al., arXiv:2206.00364,
    Algorithm 2). Atoms and types that were decided too early are decided again.

    Attributes:
        churn: How far up, as a share of the step's length; 0 is none. The last step has none.
        coords_ahead: How much faster than their schedule the coordinates go where noise is small:
            their score, or the velocity of a flow, counts 1 + coords_ahead (1 − t/T) times, up to
            the denoised place; 0 is exact. Flows call it anti-annealing (arXiv:2406.04713).

    Example:
        >>> miad_jax.make_solver("ancestral", steps=100, churn=0.5).churn
        0.5
    """

    evaluations: ClassVar[int] = 1

    churn: float = 0.0
    coords_ahead: float = 0.0

    def __post_init__(self) -> None:
        """Refuse negative settings; what is traced cannot be asked."""
        for name in ("churn", "coords_ahead"):
            value = getattr(self, name)
            if isinstance(value, int | float) and not value >= 0:
                raise ValueError(f"{name} is {value}; allowed: 0 or more")

    def check(self, diffusion: Diffusion) -> None:
        """Refuse churn where coordinates flow; what is traced cannot be asked."""
        is_set = isinstance(self.churn, int | float) and self.churn > 0
        if is_set and not isinstance(diffusion.coords, MarkovProcess):
            raise ValueError(
                f"churn is {self.churn}; allowed: 0, as the coordinates are those of a "
                f"{type(diffusion.coords).__name__}, which does not go back up in time"
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
        """Up to a noisier time, then down to s."""
        size = crystal_t.size

        def draw(key: PRNGKeyArray) -> tuple[StepNoise, PRNGKeyArray]:
            lattice_key, coords_key, types_key, up_key = jax.random.split(key, 4)
            noise = draw_step_noise(diffusion, lattice_key, coords_key, types_key, size)
            return noise, up_key

        noise, up_keys = for_each(draw, key, crystal_t.batch_shape)
        crystal, higher = crystal_t, t
        if isinstance(diffusion.coords, MarkovProcess):
            up = jnp.round(self.churn * (t - s)).astype(t.dtype)
            higher = jnp.where(s < 0, t, jnp.minimum(t + up, diffusion.num_steps - 1))
            up_noise = draw_noise(diffusion, up_keys, crystal_t)
            crystal = renoised(diffusion, crystal_t, t, higher, up_noise)
        said = denoise(crystal, higher)
        return step(diffusion, self._hurried(diffusion, said, higher, s), crystal, higher, s, noise)

    def _hurried(
        self,
        diffusion: Diffusion,
        said: Prediction,
        t: Int[Array, "*batch"],
        s: Int[Array, "*batch"],
    ) -> Prediction:
        """The prediction that takes the coordinates ahead of the schedule."""
        way = diffusion.coords.progress(t, s)
        factor = jnp.minimum(1 + self.coords_ahead * (1 - t / diffusion.num_steps), 1 / way)
        return replace(said, coords=factor[..., None, None] * said.coords)
