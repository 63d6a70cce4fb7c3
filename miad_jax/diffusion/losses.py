"""The training loss: draw times and noise, ask the denoiser, compare; and the losses as values.

`loss_terms` is the one place where the terms are made. A new term has its formula in its field's
process, its weight in `LossWeights`, and a line there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from miad_jax.condition import Condition, Time, each_part
from miad_jax.crystal import Crystal, real_atom_mask
from miad_jax.diffusion.joint import (
    Denoise,
    Diffusion,
    Noise,
    draw_noise,
    draw_times,
    noised,
    predict,
)
from miad_jax.diffusion.keys import crystal_keys, for_each


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses in their sum; in MiAD all 1, and none of the cross-entropy.

    Its fields are the terms that there are; `loss_terms` computes them.

    Example:
        >>> miad_jax.LossWeights(types=0.5)
        LossWeights(lattice=1.0, coords=1.0, types=0.5, cross_entropy=0.0)
    """

    lattice: float = 1.0
    coords: float = 1.0
    types: float = 1.0
    cross_entropy: float = 0.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LossTerms:
    """The losses as sums and counts, so that parts of a batch add up to the whole.

    The mean of each term is an attribute: `terms.lattice`, `terms.coords`, `terms.types` and
    `terms.cross_entropy`.

    Attributes:
        sums: Sum of each term over the crystals or atoms that it counts.
        counts: Number of these.

    Example:
        >>> half = miad_jax.LossTerms({"types": jnp.float32(8)}, {"types": jnp.float32(4)})
        >>> float((half + half).types), float(half.total(miad_jax.LossWeights(types=0.5)))
        (2.0, 1.0)
    """

    sums: Mapping[str, Float[Array, "*steps"]]
    counts: Mapping[str, Float[Array, "*steps"]]

    def __add__(self, other: LossTerms) -> LossTerms:
        """The terms of two parts of a batch together."""
        return jax.tree.map(jnp.add, self, other)

    def __getattr__(self, name: str) -> Float[Array, "*steps"]:
        """The mean of a term; 0 where it counts nothing."""
        sums = self.__dict__.get("sums", {})
        if name not in sums:
            raise AttributeError(f"LossTerms has no term {name!r}; its terms: {', '.join(sums)}")
        return sums[name] / jnp.maximum(self.counts[name], 1)

    def means(self) -> dict[str, Float[Array, "*steps"]]:
        """The mean of every term."""
        return {name: getattr(self, name) for name in self.sums}

    def total(self, weights: LossWeights) -> Float[Array, "*steps"]:
        """L = w_L L_lattice + w_F L_coords + w_A L_types + w_C L_cross-entropy.

        MiAD does not have the last term; see `UniformD3PM.cross_entropy`.
        """
        every = asdict(weights)
        return sum((every[name] * mean for name, mean in self.means().items()), jnp.float32(0))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Example:
    """Crystals as the loss takes them, clean and noised.

    Attributes:
        clean: Clean crystals, infused for MiAD.
        noised: The same at `time`.
        time: Time of each crystal, or of each of its parts.
        noise: What made the one from the other.
    """

    clean: Crystal
    noised: Crystal
    time: Time
    noise: Noise


def draw_example(
    diffusion: Diffusion, time_key: PRNGKeyArray, noise_key: PRNGKeyArray, crystal_0: Crystal
) -> Example:
    """Noise clean crystals at random times; each key is one, or one for each crystal."""
    t = draw_times(diffusion, time_key, crystal_0.batch_shape)
    return example_at(diffusion, noise_key, crystal_0, t)


def example_at(
    diffusion: Diffusion, noise_key: PRNGKeyArray, crystal_0: Crystal, time: Time
) -> Example:
    """Noise clean crystals at given times; the key is one, or one for each crystal."""
    noise = draw_noise(diffusion, noise_key, crystal_0)
    return Example(crystal_0, noised(diffusion, crystal_0, time, noise), time, noise)


def loss_terms(
    diffusion: Diffusion,
    denoise: Denoise,
    example: Example,
    *,
    mask_mirage: bool = True,
    condition: Condition | None = None,
) -> LossTerms:
    """The losses of a denoiser on examples; see `loss`."""
    each = terms_of_each(diffusion, denoise, example, mask_mirage=mask_mirage, condition=condition)
    return jax.tree.map(jnp.sum, each)


def terms_of_each(
    diffusion: Diffusion,
    denoise: Denoise,
    example: Example,
    *,
    mask_mirage: bool = True,
    condition: Condition | None = None,
) -> LossTerms:
    """The same with sums and counts of each crystal, [batch]."""
    clean, noised, noise = example.clean, example.noised, example.noise
    said = predict(denoise, noised, example.time, condition)
    # Losses are of noised parts; what they give for known ones does not count.
    times = jax.tree.map(lambda t: jnp.maximum(t, 0), each_part(example.time))
    kinds = clean.atom_types, noised.atom_types, times.types
    losses = {
        "lattice": diffusion.lattice.loss(
            said.lattice, clean.lattice, noised.lattice, times.lattice, noise.lattice
        ),
        "coords": diffusion.coords.loss(
            said.coords, clean.frac_coords, noised.frac_coords, times.coords, noise.coords
        ),
        "types": diffusion.types.loss(said.types, *kinds, noise.types),
        "cross_entropy": diffusion.types.cross_entropy(said.types, *kinds),
    }
    counted = _counted(example, mask_mirage)
    sums = {name: _of_each(jnp.where(counted[name], losses[name], 0)) for name in losses}
    return LossTerms(sums, {name: _of_each(mask) for name, mask in counted.items()})


def loss_counts(example: Example, *, mask_mirage: bool = True) -> dict[str, Float[Array, ""]]:
    """What the sums of each term are divided by."""
    counted = _counted(example, mask_mirage)
    return {name: mask.sum().astype(jnp.float32) for name, mask in counted.items()}


def _of_each(values: Array) -> Float[Array, " batch"]:
    """Sums over the parts of each crystal."""
    return values.astype(jnp.float32).reshape(len(values), -1).sum(-1)


def _counted(example: Example, mask_mirage: bool) -> dict[str, Bool[Array, "*parts"]]:
    """Which crystals or atoms each term counts: no padding, and no part that is known."""
    clean, times = example.clean, each_part(example.time)
    atoms = clean.mask & (times.types >= 0)
    coords = real_atom_mask(clean) if mask_mirage else clean.mask
    return {
        "lattice": clean.mask.any(-1) & (times.lattice >= 0),
        "coords": coords & (times.coords >= 0),
        "types": atoms,
        "cross_entropy": atoms,
    }


def loss(
    diffusion: Diffusion,
    denoise: Denoise,
    key: PRNGKeyArray,
    crystal_0: Crystal,
    *,
    weights: LossWeights | None = None,
    mask_mirage: bool = True,
    condition: Condition | None = None,
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
        condition: What the network is told of each crystal besides.

    Returns:
        The weighted sum, and its terms.

    Example:
        >>> crystals, _ = miad_jax.load_dataset("prototypes", "val")
        >>> net = miad_jax.CSPNet(hidden_dim=16, num_layers=2, num_freqs=4)
        >>> denoise = jax.tree_util.Partial(net.denoise, net.init_params(jax.random.key(0)))
        >>> infused = miad_jax.infuse(jax.random.key(1), crystals[:8], 25)
        >>> total, terms = jax.jit(miad_jax.loss)(
        ...     miad_jax.make_diffusion(), denoise, jax.random.key(2), infused
        ... )
        >>> bool(jnp.isclose(total, terms.lattice + terms.coords + terms.types))
        True
    """
    crystal_0 = jax.tree.map(jnp.asarray, crystal_0)
    shape = crystal_0.batch_shape
    keys = crystal_keys(key, shape)
    time_key, noise_key = (for_each(_folded(i), keys, shape) for i in (0, 1))
    example = draw_example(diffusion, time_key, noise_key, crystal_0)
    terms = loss_terms(diffusion, denoise, example, mask_mirage=mask_mirage, condition=condition)
    return terms.total(weights or LossWeights()), terms


def _folded(data: int) -> Callable[[PRNGKeyArray], PRNGKeyArray]:
    return lambda key: jax.random.fold_in(key, data)
