"""The published sampler: a corrector of the coordinates before every step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from miad_jax.crystal import Crystal, wrap
from miad_jax.diffusion.joint import Denoise, Diffusion, StepNoise, step
from miad_jax.diffusion.keys import for_each
from miad_jax.diffusion.process import ScoreProcess
from miad_jax.padding import keep_padding
from miad_jax.sampling.corrector import langevin_step, renewal_step
from miad_jax.sampling.solvers.base import draw_step_noise
from miad_jax.sampling.times import Visits

LastStep = Literal["denoise", "hold"]
Corrector = Literal["langevin", "renewal"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PredictorCorrector(Visits):
    """The published sampler (Algorithm 2, DiffCSP): the network is evaluated twice a step.

    The coordinates are corrected at their noise level; then all three fields move, with the second
    evaluation.

    Attributes:
        corrector_gamma: γ of the corrector, the published `step_lr`: 1e-5, for Perov-5 5e-7.
        last_step: What the coordinates do in the last step. "denoise": they go to σ = 0, without
            noise from the corrector (DiffCSP). "hold": the corrector is noisy, and the predictor
            does not move them (MiAD's published code).
        corrector: "langevin", which is published and leaves more noise than there should be (1.25
            of the variance with γ = 1e-5), or "renewal", which leaves as much.

    Example:
        >>> solver = miad_jax.PredictorCorrector(steps=3, first_time=999)
        >>> solver.times(miad_jax.make_diffusion(1000)).tolist()
        [999, 500, 0]
    """

    evaluations: ClassVar[int] = 2

    corrector_gamma: float = 1e-5
    last_step: LastStep = field(default="denoise", metadata={"static": True})
    corrector: Corrector = field(default="langevin", metadata={"static": True})

    def __post_init__(self) -> None:
        """Refuse a last step and a corrector that are none."""
        for name, kinds in (("last_step", LastStep), ("corrector", Corrector)):
            if getattr(self, name) not in get_args(kinds):
                allowed = ", ".join(get_args(kinds))
                raise ValueError(f"{name} is {getattr(self, name)!r}; allowed: {allowed}")

    def check(self, diffusion: Diffusion) -> None:
        """Refuse coordinates without a score."""
        _with_score(diffusion)

    def step(
        self,
        diffusion: Diffusion,
        denoise: Denoise,
        key: PRNGKeyArray,
        crystal_t: Crystal,
        t: Int[Array, "*batch"],
        s: Int[Array, "*batch"],
    ) -> Crystal:
        """Corrector at t, then predictor to s."""
        size = crystal_t.size

        def draw(key: PRNGKeyArray) -> tuple[StepNoise, Array]:
            lattice_key, corrector_key, coords_key, types_key = jax.random.split(key, 4)
            noise = draw_step_noise(diffusion, lattice_key, coords_key, types_key, size)
            return noise, jax.random.normal(corrector_key, (size, 3), jnp.float32)

        noise, corrector_noise = for_each(draw, key, crystal_t.batch_shape)
        return self.step_with(diffusion, denoise, crystal_t, t, s, noise, corrector_noise)

    def step_with(
        self,
        diffusion: Diffusion,
        denoise: Denoise,
        crystal_t: Crystal,
        t: Int[Array, "*batch"],
        s: Int[Array, "*batch"],
        noise: StepNoise,
        corrector_noise: Float[Array, "*batch atoms 3"],
    ) -> Crystal:
        """The same from given noise."""
        is_last = (s < 0)[..., None]
        if self.last_step == "denoise":
            corrector_noise = jnp.where(is_last[..., None], 0, corrector_noise)
        correct = langevin_step if self.corrector == "langevin" else renewal_step
        corrected = replace(
            crystal_t,
            frac_coords=correct(
                _with_score(diffusion),
                crystal_t.frac_coords,
                denoise(crystal_t, t).coords,
                t[..., None],
                corrector_noise,
                gamma=self.corrector_gamma,
            ),
        )
        corrected = keep_padding(corrected, crystal_t)
        moved = step(diffusion, denoise(corrected, t), corrected, t, s, noise)
        if self.last_step == "hold":
            held = jnp.where(is_last[..., None], wrap(corrected.frac_coords), moved.frac_coords)
            moved = keep_padding(replace(moved, frac_coords=held), crystal_t)
        return moved


def _with_score(diffusion: Diffusion) -> ScoreProcess:
    """The process of the coordinates, if it has a score."""
    if not isinstance(diffusion.coords, ScoreProcess):
        raise ValueError(
            f"predictor_corrector corrects coordinates by their score, and those of a "
            f"{type(diffusion.coords).__name__} have none: choose the solver ancestral or heun"
        )
    return diffusion.coords
