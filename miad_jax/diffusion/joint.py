"""Lattice, coordinates and types as one process: prior, noising, loss and reverse step.

Randomness enters here. Every crystal has a key of its own: where a function takes a batch, its
`key` is either an array of keys, one for each crystal, or a single key, which is folded with
the index of each crystal. What happens to a crystal therefore does not depend on the batch.

The network enters as a function `denoise(crystal, time) -> Prediction`. It gets the integer
time of the full process, which for a respaced process differs from the row of its table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from miad_jax.crystal import NUM_TYPES, Crystal, Prediction, real_atom_mask
from miad_jax.diffusion import coords, lattice, types
from miad_jax.diffusion.losses import LossTerms, LossWeights
from miad_jax.diffusion.schedules import (
    CoordsSchedule,
    Ending,
    LatticeSchedule,
    TypesSchedule,
    coords_schedule,
    lattice_schedule,
    respaced_times,
    types_schedule,
)

T = TypeVar("T")
Denoise = Callable[[Crystal, Int[Array, "*batch"]], Prediction]
CoordsScore = Literal["marginal", "conditional"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Diffusion:
    """The joint process, as tables.

    Attributes:
        lattice: DDPM on the lattice.
        coords: Wrapped normal on the fractional coordinates.
        types: D3PM on the atom types.
        times: Time of each row in the full process, which the denoiser is told.
        coords_score: Which score moves the coordinates of an atom that may be mirage: see
            `step_back`.

    Example:
        >>> diffusion = miad_jax.make_diffusion()
        >>> diffusion.num_steps, round(float(diffusion.coords.sigma[-1]), 3)
        (1000, 0.5)
    """

    lattice: LatticeSchedule
    coords: CoordsSchedule
    types: TypesSchedule
    times: Int[Array, " time"]
    coords_score: CoordsScore = field(default="conditional", metadata={"static": True})

    @property
    def num_steps(self) -> int:
        """Number of rows, that is of reverse steps."""
        return self.times.shape[0]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Noise:
    """All that is random in one noising of a crystal.

    Attributes:
        lattice: Standard normal.
        coords: Standard normal.
        types_uniform: Uniform in [0, 1): decides whether a type is redrawn.
        types_redrawn: Uniform over the types: what it becomes if so.
    """

    lattice: Float[Array, "*batch 3 3"]
    coords: Float[Array, "*batch atoms 3"]
    types_uniform: Float[Array, "*batch atoms"]
    types_redrawn: Int[Array, "*batch atoms"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ReverseNoise:
    """All that is random in one reverse step.

    Attributes:
        lattice: Standard normal.
        corrector: Standard normal, for the corrector of the coordinates.
        predictor: Standard normal, for their predictor.
        types: Uniform in [0, 1): the quantile drawn from each atom's posterior.
    """

    lattice: Float[Array, "*batch 3 3"]
    corrector: Float[Array, "*batch atoms 3"]
    predictor: Float[Array, "*batch atoms 3"]
    types: Float[Array, "*batch atoms"]


def make_diffusion(
    num_steps: int = 1000,
    *,
    num_kept: int | None = None,
    corrector_gamma: float = 1e-5,
    ending: Ending = "clean",
    type_temperature: float = 1.0,
    coords_score: CoordsScore = "conditional",
) -> Diffusion:
    """Build the tables of the joint process.

    Args:
        num_steps: T of the full process, the one that is trained.
        num_kept: Number of reverse steps after respacing; None keeps all.
        corrector_gamma: γ of the corrector: 1e-5, for Perov-5 5e-7.
        ending: How the coordinates end; see `schedules.coords_schedule`.
        type_temperature: What logits of atom types are divided by while sampling.
        coords_score: Which score moves the coordinates; see `step_back`.

    Raises:
        ValueError: If `num_kept` exceeds `num_steps`, or `ending` or `coords_score` is unknown.

    Example:
        >>> miad_jax.make_diffusion(1000, num_kept=3).times.tolist()
        [0, 500, 999]
    """
    if coords_score not in get_args(CoordsScore):
        raise ValueError(
            f"coords_score is {coords_score!r}; allowed: {', '.join(get_args(CoordsScore))}"
        )
    times = respaced_times(num_steps, num_steps if num_kept is None else num_kept)
    return Diffusion(
        lattice=lattice_schedule(num_steps, times),
        coords=coords_schedule(num_steps, times, corrector_gamma=corrector_gamma, ending=ending),
        types=types_schedule(num_steps, times, temperature=type_temperature),
        times=jnp.asarray(times, jnp.int32),
        coords_score=coords_score,
    )


def crystal_keys(key: PRNGKeyArray, batch_shape: tuple[int, ...]) -> PRNGKeyArray:
    """One key for each crystal: `key` itself if it is that already, else folded with the index.

    Raises:
        ValueError: If the keys fit neither one crystal nor the batch.
    """
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    if key.shape == batch_shape:
        return key
    if key.shape == () and len(batch_shape) == 1:
        return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch_shape[0]))
    raise ValueError(
        f"keys of shape {key.shape} do not fit crystals of batch shape {batch_shape}: "
        "give one key, or one for each crystal"
    )


def prior(key: PRNGKeyArray, mask: Bool[Array, "*batch atoms"]) -> Crystal:
    """A crystal of pure noise: normal lattice, uniform coordinates, uniform types.

    Args:
        key: One key, or one for each crystal.
        mask: False on padding; all True for MiAD.
    """
    size = mask.shape[-1]

    def draw(key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        lattice_key, coords_key, types_key = jax.random.split(key, 3)
        return (
            jax.random.normal(lattice_key, (3, 3), jnp.float32),
            jax.random.uniform(coords_key, (size, 3), jnp.float32),
            jax.random.randint(types_key, (size,), 0, NUM_TYPES, jnp.int32),
        )

    return Crystal(*_for_each(draw, key, mask.shape[:-1]), mask)


def draw_noise(key: PRNGKeyArray, crystal: Crystal) -> Noise:
    """Draw the noise of one noising for every crystal."""
    size = crystal.size

    def draw(key: PRNGKeyArray) -> Noise:
        lattice_key, coords_key, uniform_key, redrawn_key = jax.random.split(key, 4)
        return Noise(
            lattice=jax.random.normal(lattice_key, (3, 3), jnp.float32),
            coords=jax.random.normal(coords_key, (size, 3), jnp.float32),
            types_uniform=jax.random.uniform(uniform_key, (size,), jnp.float32),
            types_redrawn=jax.random.randint(redrawn_key, (size,), 0, NUM_TYPES, jnp.int32),
        )

    return _for_each(draw, key, crystal.batch_shape)


def draw_reverse_noise(key: PRNGKeyArray, crystal: Crystal) -> ReverseNoise:
    """Draw the noise of one reverse step for every crystal."""
    size = crystal.size

    def draw(key: PRNGKeyArray) -> ReverseNoise:
        lattice_key, corrector_key, predictor_key, types_key = jax.random.split(key, 4)
        return ReverseNoise(
            lattice=jax.random.normal(lattice_key, (3, 3), jnp.float32),
            corrector=jax.random.normal(corrector_key, (size, 3), jnp.float32),
            predictor=jax.random.normal(predictor_key, (size, 3), jnp.float32),
            types=jax.random.uniform(types_key, (size,), jnp.float32),
        )

    return _for_each(draw, key, crystal.batch_shape)


def draw_times(
    diffusion: Diffusion, key: PRNGKeyArray, batch_shape: tuple[int, ...]
) -> Int[Array, "*batch"]:
    """Rows t drawn uniformly, one for every crystal.

    Differs from the published code, which rounds a real number so that both ends come half as
    often.
    """
    return _for_each(
        lambda key: jax.random.randint(key, (), 0, diffusion.num_steps), key, batch_shape
    )


def noised(
    diffusion: Diffusion, crystal_0: Crystal, t: Int[Array, "*#batch"], noise: Noise
) -> Crystal:
    """The crystal at row t, from given noise; padding stays as it is."""
    frac_coords = coords.add_noise(diffusion.coords, crystal_0.frac_coords, t, noise.coords)
    atom_types = types.add_noise(
        diffusion.types, crystal_0.atom_types, t, noise.types_uniform, noise.types_redrawn
    )
    return Crystal(
        lattice=lattice.add_noise(diffusion.lattice, crystal_0.lattice, t, noise.lattice),
        frac_coords=jnp.where(crystal_0.mask[..., None], frac_coords, crystal_0.frac_coords),
        atom_types=jnp.where(crystal_0.mask, atom_types, crystal_0.atom_types),
        mask=crystal_0.mask,
    )


def add_noise(
    diffusion: Diffusion, key: PRNGKeyArray, crystal_0: Crystal, t: Int[Array, "*#batch"]
) -> tuple[Crystal, Noise]:
    """Draw x_t ~ q(x_t | x_0).

    Args:
        diffusion: The joint process.
        key: One key, or one for each crystal.
        crystal_0: Clean crystals.
        t: Row of the tables, for all crystals or for each.

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
    noise = draw_noise(key, crystal_0)
    return noised(diffusion, crystal_0, jnp.asarray(t), noise), noise


def loss_terms(
    diffusion: Diffusion,
    prediction: Prediction,
    crystal_0: Crystal,
    crystal_t: Crystal,
    t: Int[Array, "*#batch"],
    noise: Noise,
    *,
    mask_mirage: bool = True,
) -> LossTerms:
    """The losses of a prediction, from given noise; see `loss`."""
    counted = real_atom_mask(crystal_0) if mask_mirage else crystal_0.mask
    coords_loss = coords.loss(
        prediction.coords, coords.target(diffusion.coords, t, noise.coords), counted
    )
    types_loss = types.loss(
        diffusion.types,
        prediction.types,
        crystal_0.atom_types,
        crystal_t.atom_types,
        t,
        crystal_0.mask,
    )
    lattice_loss = lattice.loss(prediction.lattice, noise.lattice)
    return LossTerms(
        jnp.where(crystal_0.mask.any(-1), lattice_loss, 0).sum(),
        coords_loss.sum(),
        types_loss.sum(),
        types.cross_entropy(
            diffusion.types,
            prediction.types,
            crystal_0.atom_types,
            crystal_t.atom_types,
            t,
            crystal_0.mask,
        ).sum(),
        *loss_counts(crystal_0, mask_mirage=mask_mirage),
    )


def loss_counts(
    crystal_0: Crystal, *, mask_mirage: bool = True
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """What the losses are divided by: the counts of `LossTerms`.

    A crystal that is all padding does not count.
    """
    counted = real_atom_mask(crystal_0) if mask_mirage else crystal_0.mask
    masks = (crystal_0.mask.any(-1), counted, crystal_0.mask)
    num_crystals, num_coords, num_atoms = (mask.sum().astype(jnp.float32) for mask in masks)
    return num_crystals, num_coords, num_atoms


def loss(
    diffusion: Diffusion,
    denoise: Denoise,
    key: PRNGKeyArray,
    crystal_0: Crystal,
    *,
    weights: LossWeights | None = None,
    mask_mirage: bool = True,
) -> tuple[Float[Array, ""], LossTerms]:
    """The training loss at random times: noise the crystals, denoise them, compare.

    Args:
        diffusion: The joint process.
        denoise: The network.
        key: One key, or one for each crystal.
        crystal_0: Clean crystals, infused for MiAD.
        weights: Weights of the losses; None for MiAD's: all 1, and no cross-entropy.
        mask_mirage: Leave mirage atoms out of the coordinate loss (MiAD); False is the
            NonMasked ablation of Table 5.

    Returns:
        The weighted sum, and its terms.

    Example:
        >>> crystals, _ = miad_jax.load_dataset("prototypes", "val")
        >>> net = miad_jax.CSPNet(hidden_dim=16, num_layers=2, num_freqs=4)
        >>> denoise = jax.tree_util.Partial(net.denoise, net.init_params(jax.random.key(0)))
        >>> infused = miad_jax.infuse(jax.random.key(1), crystals[:8], 25)
        >>> total, terms = miad_jax.loss(
        ...     miad_jax.make_diffusion(), denoise, jax.random.key(2), infused
        ... )
        >>> bool(jnp.isclose(total, terms.lattice + terms.coords + terms.types))
        True
    """
    keys = crystal_keys(key, crystal_0.batch_shape)
    t = draw_times(diffusion, _fold(keys, 0), crystal_0.batch_shape)
    crystal_t, noise = add_noise(diffusion, _fold(keys, 1), crystal_0, t)
    prediction = denoise(crystal_t, diffusion.times[t])
    terms = loss_terms(
        diffusion, prediction, crystal_0, crystal_t, t, noise, mask_mirage=mask_mirage
    )
    return terms.total(weights or LossWeights()), terms


def step_back(
    diffusion: Diffusion,
    denoise: Denoise,
    crystal_t: Crystal,
    t: Int[Array, "*batch"],
    noise: ReverseNoise,
) -> Crystal:
    """One reverse step from given noise; see `reverse_step`.

    MiAD's loss of the coordinates counts real atoms alone, so the network predicts the score of an
    atom *given* that it is real. A mirage atom is uniform in the cell, so its score is 0, and the
    score of the whole process is P(real | x_t) times the prediction, with P from the predicted
    types, of their temperature too: that is `coords_score="marginal"`. "conditional" takes the
    prediction as it is, which is published, and exact where there is no mirage atom or where they
    count in the loss.
    """
    time = diffusion.times[t]
    mask = crystal_t.mask

    def score(prediction: Prediction) -> Array:
        if diffusion.coords_score == "conditional":
            return prediction.coords
        logits = prediction.types / diffusion.types.temperature
        log_probs = types.log_probs_0(diffusion.types, logits, crystal_t.atom_types, t)
        return prediction.coords * -jnp.expm1(log_probs[..., :1])

    corrected = coords.corrector_step(
        diffusion.coords,
        crystal_t.frac_coords,
        score(denoise(crystal_t, time)),
        t,
        noise.corrector,
    )
    corrected = jnp.where(mask[..., None], corrected, crystal_t.frac_coords)
    prediction = denoise(Crystal(crystal_t.lattice, corrected, crystal_t.atom_types, mask), time)
    frac_coords = coords.predictor_step(
        diffusion.coords, corrected, score(prediction), t, noise.predictor
    )
    atom_types = types.reverse_step(
        diffusion.types, crystal_t.atom_types, prediction.types, t, noise.types
    )
    return Crystal(
        lattice=lattice.reverse_step(
            diffusion.lattice, crystal_t.lattice, prediction.lattice, t, noise.lattice
        ),
        frac_coords=jnp.where(mask[..., None], frac_coords, crystal_t.frac_coords),
        atom_types=jnp.where(mask, atom_types, crystal_t.atom_types),
        mask=mask,
    )


def reverse_step(
    diffusion: Diffusion,
    denoise: Denoise,
    key: PRNGKeyArray,
    crystal_t: Crystal,
    t: Int[Array, "*#batch"],
) -> Crystal:
    """Draw the crystal of the row before t: corrector, then predictor (Algorithm 2, DiffCSP).

    The network is evaluated twice; lattice and types move with the second evaluation.

    Args:
        diffusion: The joint process.
        denoise: The network.
        key: One key, or one for each crystal.
        crystal_t: Crystals at row t.
        t: Row of the tables, for all crystals or for each.

    Example:
        >>> diffusion = miad_jax.make_diffusion()
        >>> net = miad_jax.CSPNet(hidden_dim=16, num_layers=2, num_freqs=4)
        >>> denoise = jax.tree_util.Partial(net.denoise, net.init_params(jax.random.key(0)))
        >>> noise = miad_jax.diffusion.joint.prior(jax.random.key(1), jnp.ones((2, 6), bool))
        >>> before = miad_jax.reverse_step(diffusion, denoise, jax.random.key(2), noise, t=999)
        >>> before.frac_coords.shape
        (2, 6, 3)
    """
    noise = draw_reverse_noise(key, crystal_t)
    rows = jnp.broadcast_to(jnp.asarray(t, jnp.int32), crystal_t.batch_shape)
    return step_back(diffusion, denoise, crystal_t, rows, noise)


def _for_each(
    draw: Callable[[PRNGKeyArray], T], key: PRNGKeyArray, batch_shape: tuple[int, ...]
) -> T:
    """Call `draw` with the key of each crystal."""
    for _ in batch_shape:
        draw = jax.vmap(draw)
    return draw(crystal_keys(key, batch_shape))


def _fold(keys: PRNGKeyArray, data: int) -> PRNGKeyArray:
    fold = jax.random.fold_in
    for _ in keys.shape:
        fold = jax.vmap(fold, (0, None))
    return fold(keys, data)
