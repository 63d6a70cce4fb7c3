"""Draw the samples of some indices, those that miss what is asked again and again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray
from ml_collections import ConfigDict

from miad_jax.build import control_from, solver_from
from miad_jax.condition import Condition
from miad_jax.crystal import Crystal, real_atom_mask
from miad_jax.diffusion.keys import ATTEMPTS, CANDIDATES, sample_keys, streams
from miad_jax.generation.judge import Judge
from miad_jax.model import TrainedModel
from miad_jax.network.base import takes_times
from miad_jax.parallel.progress import Bar
from miad_jax.request import Request
from miad_jax.sampling import Sampler, Trajectory
from miad_jax.sampling.sampler import start_near


@dataclass(frozen=True)
class Drawn:
    """Samples as they are kept.

    Attributes:
        crystals: The samples, mirage atoms among them.
        num_real: Number of real atoms after each step.
        missed: What each is not that was asked.
        attempts: How often each was drawn.
        trajectory: Their states on the way, if they are kept.
        energies: Their energies above the hull in eV/atom, infinite where unknown, if they are the
            best of several.
    """

    crystals: Crystal
    num_real: Int[np.ndarray, "samples steps"]
    missed: Sequence[Sequence[str]]
    attempts: Int[np.ndarray, " samples"]
    trajectory: Trajectory | None
    energies: Float[np.ndarray, " samples"] | None = None


def sampler_of(
    model: TrainedModel,
    config: ConfigDict,
    request: Request,
    *,
    chunk_size: int | None = None,
) -> Sampler:
    """The sampler that a configuration describes, for a wish.

    Args:
        model: What samples.
        config: Its configuration, whose `sampling` says how.
        request: What is asked: variations start from a crystal, late in the process.
        chunk_size: Samples the network sees at once; None for its own choice.
    """
    solver = solver_from(config)
    if request.like is not None:
        last = round(request.strength * model.diffusion.num_steps) - 1
        solver = solver.not_before(model.diffusion, last)
    return Sampler(
        model.diffusion,
        model.denoise,
        config.infusion.num_atoms if config.infusion.enabled else len(model.histogram) - 1,
        solver=solver,
        control=control_from(config),
        chunk_size=chunk_size,
    )


def samples_at_a_time(sampler: Sampler) -> int:
    """How many samples are drawn in one go: whole chunks on every device, 16 samples or more."""
    at_once = jax.local_device_count() * sampler.chunk_size
    return -(-16 // at_once) * at_once


def draw_best(
    sampler: Sampler, model: TrainedModel, request: Request, judge: Judge, **options: Any
) -> Drawn:
    """Draw each sample several times; keep what is as asked, and of that the lowest energy.

    Args:
        sampler: What draws them.
        model: Whose samples they are.
        request: What is asked.
        judge: What says which is best.
        options: The others of `draw`, all by name.
    """
    first = draw(sampler, model, request, **options)
    every, bar = [first], options.pop("bar")
    for i in range(1, judge.best_of):
        said = f"candidate {i + 1} of {judge.best_of}"
        with bar.part(said, len(options["indices"]), "samples") as part:
            every.append(draw(sampler, model, request, candidate=i, bar=part, **options))
    candidates = jax.tree.map(lambda *x: np.concatenate(x), *(x.crystals for x in every))
    energies = judge.energies(candidates).reshape(len(every), -1)
    misses = np.array([[bool(what) for what in x.missed] for x in every])
    choice = np.lexsort((energies, misses), axis=0)[0]
    index = np.arange(len(choice))

    def chosen(*arrays: Any) -> np.ndarray:
        return np.stack(arrays)[choice, index]

    trajectory = first.trajectory
    if trajectory is not None:
        states = jax.tree.map(chosen, *(x.trajectory.crystals for x in every if x.trajectory))
        trajectory = Trajectory(states, trajectory.times, trajectory.steps)
    return Drawn(
        jax.tree.map(chosen, *(x.crystals for x in every)),
        chosen(*(x.num_real for x in every)),
        [every[candidate].missed[i] for i, candidate in enumerate(choice)],
        np.sum([x.attempts for x in every], 0),
        trajectory,
        energies[choice, index],
    )


def draw(
    sampler: Sampler,
    model: TrainedModel,
    request: Request,
    indices: Sequence[int],
    *,
    seed: int,
    attempts: int,
    trajectory_every: int | None,
    bar: Bar,
    candidate: int = 0,
) -> Drawn:
    """Draw the samples, each until it is what was asked, and at most `attempts` times.

    The first attempt has the sample's own key; a later one a key that is folded from it. A number
    of atoms is held in the last attempt. In those before the sample is led to it and then decides,
    which gives better crystals where it comes to that number.

    Args:
        sampler: What draws them.
        model: Whose samples they are.
        request: What is asked.
        indices: Their places in the run.
        seed: Of the run.
        attempts: How often a sample is drawn at most.
        trajectory_every: Number of steps between two states to keep; None keeps none.
        bar: Moves on by the number of samples in the first attempt.
        candidate: Which of several samples of each index; the first has the sample's own key.
    """
    index = np.asarray(indices)
    own = sample_keys(jax.random.key(seed), index)
    if candidate:
        own = streams(own, CANDIDATES + candidate)
    todo = np.arange(len(index))
    kept: Any = None
    drawn = np.zeros(len(index), int)
    missed: list[list[str]] = [[] for _ in indices]
    for attempt in range(attempts):
        keys = own[todo] if attempt == 0 else streams(own[todo], ATTEMPTS + attempt)
        is_last = attempt == attempts - 1
        num_atoms, condition = _condition(request, model, sampler.size, keys, index[todo], is_last)
        more: dict[str, Any] = {}
        if trajectory_every is not None:
            more["trajectory_every"] = trajectory_every
        if request.like is not None:
            more["initial"] = start_near(
                model.diffusion,
                keys,
                request.variations_of(len(todo), sampler.size),
                sampler.first_time,
                infused=model.config.infusion.enabled,
            )
        said = f"attempt {attempt + 1} of {attempts}"
        with nullcontext(bar) if attempt == 0 else bar.part(said, len(todo), "samples") as shown:
            found: Any = sampler.draw(keys, num_atoms, condition, shown, **more)
        kept = found if kept is None else _put(kept, todo, found)
        drawn[todo] += 1
        for place, crystal in zip(todo, found[0], strict=True):
            atoms = np.asarray(crystal.atom_types)[np.asarray(real_atom_mask(crystal))]
            missed[place] = request.missed_by(atoms.tolist(), int(index[place]))
        todo = np.array([i for i, what in enumerate(missed) if what], int)
        if not len(todo):
            break
    trajectory = kept[2] if trajectory_every is not None else None
    return Drawn(kept[0], kept[1], missed, drawn, trajectory)


def check(request: Request, model: TrainedModel, size: int) -> None:
    """Refuse what a model of `size` slots cannot be asked.

    Raises:
        ValueError: If it has too few slots.
    """
    _condition(request, model, size, sample_keys(jax.random.key(0), np.arange(1)), np.arange(1))
    if request.like is not None:
        request.variations_of(1, size)


def _condition(
    request: Request,
    model: TrainedModel,
    size: int,
    keys: PRNGKeyArray,
    index: np.ndarray,
    holds_number: bool = True,
) -> tuple[np.ndarray, Condition | None]:
    """What the sampler takes for the samples of some keys."""
    return request.condition(
        keys,
        index,
        size,
        infused=model.config.infusion.enabled,
        takes_times=takes_times(model.denoise),
        histogram=model.histogram,
        holds_number=holds_number,
    )


def _put(kept: Any, places: np.ndarray, found: Any) -> Any:
    """Samples with some of them replaced; what is not of samples, as times, stays."""

    def put(old: Any, new: Any) -> Any:
        old = np.array(old)
        old[places] = new
        return old

    crystals, num_real, *trajectory = kept
    replaced = jax.tree.map(put, (crystals, num_real), (found[0], found[1]))
    if not trajectory:
        return replaced
    states = jax.tree.map(put, trajectory[0].crystals, found[2].crystals)
    return *replaced, Trajectory(states, trajectory[0].times, trajectory[0].steps)
