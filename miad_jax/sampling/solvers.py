"""Solvers: which times a sampler visits, and how it goes from one to the next.

A solver is an object with `times` and `step`, and holds its own settings. It asks the denoiser,
and moves the three fields by their processes' own steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Protocol, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from miad_jax.crystal import Crystal, wrap
from miad_jax.diffusion.joint import Denoise, Diffusion, StepNoise, step
from miad_jax.diffusion.keys import for_each
from miad_jax.padding import keep_padding
from miad_jax.sampling.corrector import langevin_step
from miad_jax.spelling import did_you_mean

LastStep = Literal["denoise", "hold"]


class Solver(Protocol):
    """What the sampler asks of a solver: a pytree, compiled once for each of its static fields."""

    def times(self, num_steps: int) -> Int[np.ndarray, " steps"]:
        """The times to visit, from the noisiest to the least noisy; after the last comes −1.

        Raises:
            ValueError: If the process of `num_steps` has not so many.
        """

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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PredictorCorrector:
    """The published sampler (Algorithm 2, DiffCSP): the network is evaluated twice a step.

    The coordinates are corrected at their noise level; then all three fields move, with the second
    evaluation.

    Attributes:
        steps: Number of steps, evenly spread over the process with both ends; None for all.
        corrector_gamma: γ of the corrector, the published `step_lr`: 1e-5, for Perov-5 5e-7.
        last_step: What the coordinates do in the last step. "denoise": they go to σ = 0, without
            noise from the corrector (DiffCSP). "hold": the corrector is noisy, and the predictor
            does not move them (MiAD's published code).

    Example:
        >>> miad_jax.PredictorCorrector(steps=3).times(1000).tolist()
        [999, 500, 0]
    """

    steps: int | None = field(default=None, metadata={"static": True})
    corrector_gamma: float = 1e-5
    last_step: LastStep = field(default="denoise", metadata={"static": True})

    def __post_init__(self) -> None:
        """Refuse a last step that is none."""
        if self.last_step not in get_args(LastStep):
            allowed = ", ".join(get_args(LastStep))
            raise ValueError(f"last_step is {self.last_step!r}; allowed: {allowed}")

    def times(self, num_steps: int) -> Int[np.ndarray, " steps"]:
        """Times evenly spread over the process, the noisiest first.

        Raises:
            ValueError: If `steps` is not between 1 and `num_steps`.
        """
        return spread_times(num_steps, self.steps)

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
            noise = StepNoise(
                diffusion.lattice.draw_step_noise(lattice_key, size),
                diffusion.coords.draw_step_noise(coords_key, size),
                diffusion.types.draw_step_noise(types_key, size),
            )
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
        corrected = Crystal(
            crystal_t.lattice,
            langevin_step(
                diffusion.coords,
                crystal_t.frac_coords,
                denoise(crystal_t, t).coords,
                t[..., None],
                corrector_noise,
                gamma=self.corrector_gamma,
            ),
            crystal_t.atom_types,
            crystal_t.mask,
        )
        corrected = keep_padding(corrected, crystal_t)
        moved = step(diffusion, denoise(corrected, t), corrected, t, s, noise)
        if self.last_step == "hold":
            held = jnp.where(is_last[..., None], wrap(corrected.frac_coords), moved.frac_coords)
            moved = keep_padding(replace(moved, frac_coords=held), crystal_t)
        return moved


SOLVERS: dict[str, type] = {"predictor_corrector": PredictorCorrector}
"""Solvers by the name that `config.sampling.solver` gives."""


def make_solver(name: str, **settings: Any) -> Solver:
    """A solver by its name.

    Args:
        name: A key of `SOLVERS`.
        **settings: Its fields; those of other solvers are left out.

    Raises:
        ValueError: If the name is unknown, or a field has an impossible value.

    Example:
        >>> miad_jax.make_solver("predictor_corrector", steps=250).steps
        250
    """
    if name not in SOLVERS:
        hint = did_you_mean(name, SOLVERS)
        raise ValueError(f"no solver is called {name!r}{hint}; allowed: {', '.join(SOLVERS)}")
    known = {f.name for f in fields(SOLVERS[name])}
    return SOLVERS[name](**{field: value for field, value in settings.items() if field in known})


def spread_times(num_steps: int, num_kept: int | None) -> Int[np.ndarray, " kept"]:
    """Times evenly spread over a process, both ends among them, the noisiest first.

    Args:
        num_steps: T of the process.
        num_kept: How many; None for all.

    Raises:
        ValueError: If `num_kept` is not between 1 and `num_steps`.
    """
    num_kept = num_steps if num_kept is None else num_kept
    if not 1 <= num_kept <= num_steps:
        raise ValueError(
            f"cannot take {num_kept} steps of a diffusion of {num_steps}: choose 1 to {num_steps}"
        )
    if num_kept == 1:
        return np.array([num_steps - 1])
    return np.round(np.linspace(0, num_steps - 1, num_kept)).astype(int)[::-1]
