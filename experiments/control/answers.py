"""Samples of questions, drawn once and kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from pymatgen.core import Structure

from experiments.control.questions import Question
from miad_jax import Condition, Known, reduce, to_structures
from miad_jax.crystal import Crystal
from miad_jax.data.formats import npz_bytes
from miad_jax.diffusion.keys import sample_keys
from miad_jax.evaluation import describe_all
from miad_jax.evaluation.validity.composition import valid_composition
from miad_jax.generation.drawing import draw, sampler_of
from miad_jax.model import TrainedModel, load_model
from miad_jax.padding import resize
from miad_jax.parallel.progress import Bar
from miad_jax.sampling import Sampler
from miad_jax.sampling.devices import cores_as_devices
from miad_jax.storage.files import write_atomically

FIELDS = ("lattice", "frac_coords", "atom_types", "mask")


@dataclass(frozen=True)
class Answer:
    """The samples of a question, and how long they took."""

    question: Question
    crystals: Crystal
    seconds: float

    @cached_property
    def structures(self) -> list[Structure]:
        """The samples without mirage atoms."""
        return to_structures(self.reduced)

    @cached_property
    def reduced(self) -> Sequence[Crystal]:
        """The same, as arrays."""
        return reduce(self.crystals)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """What is said of each sample."""
        return list(describe_all(self.crystals))

    @cached_property
    def refined(self) -> list[dict[str, Any]]:
        """What is said of each, with its atoms moved onto the symmetry found within 0.1 Å."""
        return list(describe_all(self.crystals, refine_angstrom=0.1))

    @cached_property
    def num_atoms(self) -> np.ndarray:
        """Atoms of each sample."""
        return np.array([len(x.atom_types) for x in self.reduced])

    def missed(self) -> list[list[str]]:
        """What each is not that was asked."""
        request = self.question.request
        return [request.missed_by(x.atom_types.tolist(), i) for i, x in enumerate(self.reduced)]

    def space_groups(self, angstrom: str, *, refined: bool = False) -> np.ndarray:
        """Space groups within 0.1 or 0.01 Å; 1 where none was found."""
        rows = self.refined if refined else self.rows
        return np.array([row[f"spacegroup_number_{angstrom}"] or 1 for row in rows])

    def validity(self) -> dict[str, float]:
        """Shares of valid and plausible structures, valid compositions, and symmetric crystals."""
        compositions = [valid_composition(x.atom_types) for x in self.reduced]
        return {
            "valid": float(np.mean([bool(row["valid_structure"]) for row in self.rows])),
            "plausible": float(np.mean([bool(row["plausible"]) for row in self.rows])),
            "valid compositions": float(np.mean(compositions)),
            "above P1": float(np.mean(self.space_groups("0.1") > 1)),
        }


class Weights:
    """A model with its own sampler, compiled once for each weight of guidance.

    Crystals of few slots are drawn faster when the network sees more of them at once.
    """

    def __init__(self, model: TrainedModel, chunk_size: int | None = None):
        self.model = model
        self.chunk_size = chunk_size
        self._samplers: dict[tuple[float, float | None], Sampler] = {}

    def answer(self, question: Question, file: Path) -> Answer:
        """The samples of a question: those that a file keeps, or new ones."""
        if not file.exists():
            started = time.perf_counter()
            crystals = self._drawn(question)
            arrays = {name: np.asarray(getattr(crystals, name)) for name in FIELDS}
            seconds = time.perf_counter() - started
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, npz_bytes({**arrays, "seconds": seconds}))
        with np.load(file) as arrays:
            crystals = Crystal(*(arrays[name] for name in FIELDS))
            return Answer(question, crystals, float(arrays["seconds"]))

    def _drawn(self, question: Question) -> Crystal:
        request = question.request
        sampler = self._sampler(question)
        if question.parts is not None:
            return _completed(sampler, question.parts, keeps_cell=question.keeps_cell)
        return draw(
            sampler,
            self.model,
            request,
            range(question.num),
            seed=question.seed,
            attempts=1,
            trajectory_every=None,
            bar=Bar(),
        ).crystals

    def _sampler(self, question: Question) -> Sampler:
        request = question.request
        kind = question.guidance, request.strength if request.like is not None else None
        if kind not in self._samplers:
            config = self.model.config.copy_and_resolve_references()
            config.sampling.guidance = question.guidance
            self._samplers[kind] = sampler_of(
                self.model, config, request, chunk_size=self.chunk_size
            )
        return self._samplers[kind]


def weights_of(name_or_path: str, chunk_size: int | None = None, dtype: str = "float32") -> Weights:
    """A model that draws as `miad_jax.sample` does: on all cores, in one precision."""
    cores_as_devices()
    jax.config.update("jax_default_matmul_precision", "float32")
    return Weights(load_model(name_or_path, dtype=dtype), chunk_size)


def _completed(sampler: Sampler, parts: Crystal, *, keeps_cell: bool) -> Crystal:
    parts = resize(parts, sampler.size)
    num_atoms = np.asarray(parts.mask).sum(-1)
    size = np.full(len(num_atoms), sampler.size)
    keys = sample_keys(jax.random.key(0), np.arange(len(num_atoms)))
    known = Known.atoms(parts, keep_cell=keeps_cell)
    condition = Condition(known=known, num_atoms=np.stack([num_atoms, size], -1))
    return sampler.draw(keys, size, condition)[0]
