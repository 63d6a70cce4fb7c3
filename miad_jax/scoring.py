"""How likely a model finds a crystal: its denoising loss, on noise that is the same for all.

The losses of noised copies of a crystal, weighted as in training, bound its negative logarithm of
the likelihood up to the weights of the noise levels (Ho et al., arXiv:2006.11239; for types Austin
et al., arXiv:2107.03006). A lower score is a crystal that the model knows how to make. Scores of
one model compare crystals; those of two models do not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from miad_jax.build import loss_weights_from
from miad_jax.crystal import Crystal
from miad_jax.data.packing import stack
from miad_jax.data.standard import standard_arrays
from miad_jax.diffusion.joint import Denoise, Diffusion
from miad_jax.diffusion.losses import LossTerms, example_at, terms_of_each
from miad_jax.mirage import Placement, infuse
from miad_jax.model import DEFAULT, TrainedModel, load_model
from miad_jax.network import chunk_size_of
from miad_jax.padding import resize
from miad_jax.parallel.progress import Progress, as_progress

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True)
class Score:
    """The denoising loss of a crystal: a mean over noise levels, and over noise at each.

    Attributes:
        loss: The weighted sum of the terms, as in training.
        error: Its standard error, from the noise; 0 where nothing was varied.
        terms: The mean of each term: `lattice`, `coords`, `types` and `cross_entropy`.

    Example:
        >>> miad_jax.Score(loss=1.5, error=0.1, terms={"lattice": 0.4}).terms["lattice"]
        0.4
    """

    loss: float
    error: float
    terms: dict[str, float]


def score(
    structures: Structure | Iterable[Structure],
    model: TrainedModel | str | Path = DEFAULT,
    *,
    num_draws: int = 64,
    seed: int = 0,
    progress: Progress | bool = False,
) -> list[Score]:
    """Score crystals, each in its primitive Niggli cell, in which models know crystals.

    The noise levels lie at equal distances, and every crystal meets the same noise, so that the
    difference of two scores is less uncertain than either of them.

    Args:
        structures: The crystals.
        model: A model, or what `load_model` takes.
        num_draws: Noised copies of a crystal: an even number, two of neighbouring levels each.
        seed: Of the noise.
        progress: Where to show how far it has come; True for a bar on standard error.

    Returns:
        A score of each crystal, in order.

    Raises:
        ValueError: If a crystal is none that the model can know, or `num_draws` is not even.

    Example:
        >>> from pymatgen.core import Lattice, Structure
        >>> cell, places = Lattice.cubic(4.12), [[0, 0, 0], [0.5, 0.5, 0.5]]
        >>> salt = Structure(cell, ["Cs", "Cl"], places)
        >>> crushed = Structure(cell, ["Cs", "Cl"], [[0, 0, 0], [0.1, 0.1, 0.1]])
        >>> one, other = miad_jax.score([salt, crushed], num_draws=16)
        >>> one.loss < other.loss
        True
    """
    if num_draws < 2 or num_draws % 2:
        raise ValueError(f"num_draws is {num_draws}; allowed: an even number from 2 on")
    model = model if isinstance(model, TrainedModel) else load_model(model)
    config, diffusion, denoise = model.config, model.diffusion, model.denoise
    arrays = [standard_arrays(x, primitive=True, niggli=True) for x in _each(structures)]
    infused = config.infusion.enabled
    size = config.infusion.num_atoms if infused else len(model.histogram) - 1
    for i, (_, _, types, *_) in enumerate(arrays):
        if len(types) > size:
            raise ValueError(
                f"crystal {i} has {len(types)} atoms, and the model {size} slots: leave it out, or "
                "choose a model with more"
            )
    crystals = resize(stack(arrays), size)
    levels = (np.arange(num_draws) + 0.5) / num_draws * diffusion.num_steps
    keys = jax.random.split(jax.random.key(seed), num_draws)
    num, parts = len(arrays), []
    chunk = min(chunk_size_of(denoise, size, jax.default_backend()), num)
    with as_progress(progress).bar("scoring", num, "crystals") as bar:
        for first in range(0, num, chunk):
            places = np.minimum(np.arange(first, first + chunk), num - 1)
            terms = _terms(
                diffusion,
                denoise,
                keys,
                jnp.asarray(levels, jnp.int32),
                crystals[places],
                placement=config.infusion.placement if infused else None,
                mask_mirage=config.infusion.mask_mirage,
            )
            here = min(chunk, num - first)
            parts.append(jax.tree.map(lambda x, here=here: np.asarray(x)[:, :here], terms))
            bar.advance(here)
    terms = jax.tree.map(lambda *x: np.concatenate(x, 1), *parts)
    losses = np.asarray(terms.total(loss_weights_from(config)), np.float64)
    means = {name: np.asarray(mean, np.float64) for name, mean in terms.means().items()}
    # Neighbouring levels differ by their noise alone, almost: the variance within strata.
    errors = np.sqrt(((losses[::2] - losses[1::2]) ** 2).sum(0)) / num_draws
    return [
        Score(
            float(losses[:, i].mean()),
            float(errors[i]),
            {name: float(mean[:, i].mean()) for name, mean in means.items()},
        )
        for i in range(num)
    ]


def _each(structures: Structure | Iterable[Structure]) -> list[Structure]:
    from pymatgen.core import Structure

    return [structures] if isinstance(structures, Structure) else list(structures)


@partial(jax.jit, static_argnames=("placement", "mask_mirage"))
def _terms(
    diffusion: Diffusion,
    denoise: Denoise,
    keys: PRNGKeyArray,
    levels: Int[Array, " draws"],
    crystal: Crystal,
    *,
    placement: Placement | None,
    mask_mirage: bool,
) -> LossTerms:
    """The terms of each crystal in each draw, [draws, crystals]; no placement is no infusion."""

    def draw(key_and_level: tuple[PRNGKeyArray, Float[Array, ""]]) -> LossTerms:
        key, level = key_and_level
        where, noise = (jnp.broadcast_to(x, crystal.batch_shape) for x in jax.random.split(key))
        clean = crystal
        if placement is not None:
            clean = jax.vmap(partial(infuse, num_atoms=crystal.size, placement=placement))(
                where, crystal
            )
        time = jnp.full(crystal.batch_shape, level)
        example = example_at(diffusion, noise, clean, time)
        return terms_of_each(diffusion, denoise, example, mask_mirage=mask_mirage)

    return jax.lax.map(draw, (keys, levels))
