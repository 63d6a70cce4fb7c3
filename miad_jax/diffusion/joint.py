"""Lattice, coordinates and types as one process: prior, noising, and the three steps at once.

Randomness enters here, from explicit keys: where a function takes a batch, its `key` is either one
key, or an array with one for each crystal (`keys`).

The network enters as a denoiser, a function of a noised crystal and its time. Where the parts of a
crystal have times of their own it gets `Times`, and a third argument where something is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from miad_jax.condition import Condition, Time, Times, each_part
from miad_jax.crystal import Crystal, Prediction
from miad_jax.diffusion.keys import for_each
from miad_jax.diffusion.process import CoordsProcess, LatticeProcess, TypesProcess
from miad_jax.diffusion.types import TypesNoise
from miad_jax.padding import keep_padding

Denoise = Callable[..., Prediction]
"""`denoise(crystal, time)`, or `denoise(crystal, time, condition)` where something is asked."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Diffusion:
    """The joint process: one process for each field, all of the same T.

    Attributes:
        lattice: Of the lattice; DDPM as published, `LatticeVP`, or `LatticeFlow`.
        coords: Of the fractional coordinates; a wrapped normal as published, or `TorusFlow`.
        types: Of the atom types; D3PM as published, `MaskedTypes`, or `TypesFlow`.

    Example:
        >>> diffusion = miad_jax.make_diffusion()
        >>> diffusion.num_steps, round(float(diffusion.coords.sigma[999]), 3)
        (1000, 0.5)
    """

    lattice: LatticeProcess
    coords: CoordsProcess
    types: TypesProcess

    @property
    def num_steps(self) -> int:
        """T."""
        return self.lattice.num_steps


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Noise:
    """All that is random in one noising of a crystal, field by field."""

    lattice: Float[Array, "*batch 3 3"]
    coords: Float[Array, "*batch atoms 3"]
    types: TypesNoise | Float[Array, "*batch atoms"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StepNoise:
    """All that is random in one step of each field."""

    lattice: Float[Array, "*batch 3 3"]
    coords: Float[Array, "*batch atoms 3"]
    types: Float[Array, "*batch atoms"]


def prior(diffusion: Diffusion, key: PRNGKeyArray, mask: Bool[Array, "*batch atoms"]) -> Crystal:
    """A crystal of pure noise.

    Args:
        diffusion: The joint process.
        key: One key, or one for each crystal.
        mask: False on padding; all True for MiAD.
    """
    size = mask.shape[-1]

    def draw(key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        lattice_key, coords_key, types_key = jax.random.split(key, 3)
        return (
            diffusion.lattice.prior(lattice_key, size),
            diffusion.coords.prior(coords_key, size),
            diffusion.types.prior(types_key, size),
        )

    return Crystal(*for_each(draw, key, mask.shape[:-1]), mask)


def draw_noise(diffusion: Diffusion, key: PRNGKeyArray, crystal: Crystal) -> Noise:
    """Draw the noise of one noising for every crystal."""

    def draw(key: PRNGKeyArray) -> Noise:
        keys = jax.random.split(key, 4)
        return Noise(
            diffusion.lattice.draw_noise(keys[0], crystal.size),
            diffusion.coords.draw_noise(keys[1], crystal.size),
            diffusion.types.draw_noise(keys[2:], crystal.size),
        )

    return for_each(draw, key, crystal.batch_shape)


def draw_times(
    diffusion: Diffusion, key: PRNGKeyArray, batch_shape: tuple[int, ...]
) -> Int[Array, "*batch"]:
    """Times drawn uniformly from 0 … T−1, one for every crystal.

    Differs from the published code, which rounds a real number so that both ends come half as
    often.
    """
    return for_each(
        lambda key: jax.random.randint(key, (), 0, diffusion.num_steps), key, batch_shape
    )


def noised(diffusion: Diffusion, crystal_0: Crystal, t: Time, noise: Noise) -> Crystal:
    """The crystal at time t, from given noise; padding stays as it is."""
    times = each_part(t)
    crystal_t = Crystal(
        diffusion.lattice.add_noise(crystal_0.lattice, times.lattice, noise.lattice),
        diffusion.coords.add_noise(crystal_0.frac_coords, times.coords, noise.coords),
        diffusion.types.add_noise(crystal_0.atom_types, times.types, noise.types),
        crystal_0.mask,
    )
    return keep_padding(crystal_t, crystal_0)


def add_noise(
    diffusion: Diffusion, key: PRNGKeyArray, crystal_0: Crystal, t: Time
) -> tuple[Crystal, Noise]:
    """Draw x_t ~ q(x_t | x_0).

    Args:
        diffusion: The joint process.
        key: One key, or one for each crystal.
        crystal_0: Clean crystals.
        t: Time 0 … T−1 of all crystals or of each, or `Times` of their parts.

    Returns:
        The noised crystals, and the noise that made them.

    Example:
        >>> crystals, _ = miad_jax.load_dataset("prototypes", "val")
        >>> diffusion = miad_jax.make_diffusion()
        >>> noised, noise = miad_jax.add_noise(diffusion, jax.random.key(0), crystals, t=999)
        >>> noised.lattice.shape == noise.lattice.shape == crystals.lattice.shape
        True
    """
    crystal_0 = jax.tree.map(jnp.asarray, crystal_0)
    noise = draw_noise(diffusion, key, crystal_0)
    return noised(diffusion, crystal_0, jax.tree.map(jnp.asarray, t), noise), noise


def step(
    diffusion: Diffusion,
    prediction: Prediction,
    crystal_t: Crystal,
    t: Time,
    s: Time,
    noise: StepNoise,
) -> Crystal:
    """Each field at time s, from given noise; padding, and parts that are known, stay.

    Args:
        diffusion: The joint process.
        prediction: What the denoiser says of the crystal at t.
        crystal_t: Crystals at t.
        t: Time of all parts, or `Times`; −1 for parts that are known.
        s: Any earlier time; −1 is clean.
        noise: As the fields' `draw_step_noise` draws it.
    """
    now, then, said = each_part(t), each_part(s), prediction
    crystal_s = Crystal(
        diffusion.lattice.step(
            said.lattice, crystal_t.lattice, now.lattice, then.lattice, noise.lattice
        ),
        diffusion.coords.step(
            said.coords, crystal_t.frac_coords, now.coords, then.coords, noise.coords
        ),
        diffusion.types.step(said.types, crystal_t.atom_types, now.types, then.types, noise.types),
        crystal_t.mask,
    )
    if isinstance(t, Times):
        crystal_s = _keep_known(crystal_s, crystal_t, t)
    return keep_padding(crystal_s, crystal_t)


def predict(
    denoise: Denoise, crystal: Crystal, t: Time, condition: Condition | None = None
) -> Prediction:
    """Ask the denoiser; one that takes no condition is not given any where nothing is asked."""
    return denoise(crystal, t) if condition is None else denoise(crystal, t, condition)


def _keep_known(crystal_s: Crystal, crystal_t: Crystal, t: Times) -> Crystal:
    """Parts at time −1 stay as they are."""
    return Crystal(
        jnp.where(t.lattice[..., None, None] < 0, crystal_t.lattice, crystal_s.lattice),
        jnp.where(t.coords[..., None] < 0, crystal_t.frac_coords, crystal_s.frac_coords),
        jnp.where(t.types < 0, crystal_t.atom_types, crystal_s.atom_types),
        crystal_t.mask,
    )
