"""Crystals in one call, as a notebook wants them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from miad_jax.config import validate
from miad_jax.data.structures import to_structures
from miad_jax.data.written import as_written
from miad_jax.generation.drawing import check, draw, sampler_of, samples_at_a_time
from miad_jax.generation.judge import is_crystal
from miad_jax.mirage import reduce
from miad_jax.model import DEFAULT, TrainedModel, load_model
from miad_jax.parallel.progress import Progress, as_progress
from miad_jax.request import Request
from miad_jax.sampling.quality import settings_of

if TYPE_CHECKING:
    from pymatgen.core import Structure


def generate(
    num: int = 8,
    *,
    model: TrainedModel | str | Path = DEFAULT,
    quality: str | None = None,
    guidance: float | None = None,
    seed: int = 0,
    attempts: int = 4,
    progress: Progress | bool = True,
    **wishes: Any,
) -> list[Structure]:
    """Generate crystals: `miad_jax.generate(8, elements="Li,Fe,P,O")`.

    They are those of `python -m miad_jax.sample` with the same seed and wishes, where
    `miad_jax.cores_as_devices()` was called before JAX computed anything.

    Args:
        num: How many.
        model: A model, or what `load_model` takes.
        quality: "draft", "standard", "best" or "published"; None for the model's own sampler.
        guidance: Weight of the properties that are asked; None for the model's own.
        seed: Of the samples.
        attempts: How often a sample that misses what was asked is drawn at most.
        progress: Where to show how far it has come; True for a bar.
        wishes: What is asked, as `Request.of` takes it: `elements`, `contain`, `chemical_system`,
            `num_atoms`, `formula`, `complete`, `like`, `properties`, and the others.

    Returns:
        The crystals that are as was asked, in their Niggli cells; fewer than `num` where samples
        missed it in every attempt.

    Raises:
        ValueError: If something that is asked is not understood, or cannot be met.

    Example:
        >>> crystals = miad_jax.generate(2, quality="draft", elements="Li,O", progress=False)
        >>> all({site.specie.symbol for site in x} <= {"Li", "O"} for x in crystals)
        True
    """
    if num < 1:
        raise ValueError(f"num is {num}; allowed: a whole number from 1 on")
    model = model if isinstance(model, TrainedModel) else load_model(model)
    config = model.config.copy_and_resolve_references()
    if quality is not None:
        config.sampling.update(settings_of(quality, config.diffusion.num_steps, config.sampling))
    if guidance is not None:
        config.sampling.guidance = guidance
    config = validate(config, num_devices=1)
    request = Request.of(**wishes)
    sampler = sampler_of(model, config, request)
    check(request, model, sampler.size)
    batch_size = samples_at_a_time(sampler)
    found = []
    with as_progress(progress).bar("sampling", num, "samples") as bar:
        for first in range(0, num, batch_size):
            drawn = draw(
                sampler,
                model,
                request,
                range(first, min(first + batch_size, num)),
                seed=seed,
                attempts=attempts,
                trajectory_every=None,
                bar=bar,
            )
            found += [
                as_written(crystal).crystal
                for crystal, missed in zip(reduce(drawn.crystals), drawn.missed, strict=True)
                if not missed and is_crystal(crystal)
            ]
    return to_structures(found) if found else []
