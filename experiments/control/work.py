"""What is asked of the weights, and what comes: each part is a table of rows, kept in a file."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from miad_jax import Condition, Known, from_structures, load_dataset, reduce, to_structures
from miad_jax.build import control_from, solver_from
from miad_jax.commands.drawing import Drawn, draw
from miad_jax.crystal import real_atom_mask
from miad_jax.diffusion.keys import sample_keys
from miad_jax.evaluation import describe_all
from miad_jax.evaluation.validity.composition import valid_composition
from miad_jax.model import TrainedModel
from miad_jax.padding import resize
from miad_jax.parallel.progress import Bar
from miad_jax.request import Request
from miad_jax.sampling import Sampler

MATCHER = StructureMatcher(ltol=0.3, stol=0.5, angle_tol=10)
"""The tolerances with which the field measures structure prediction."""

RANGES = ("6", "12", "4..8", "8..16")
REMOVED = (1, 2, 4)


@dataclass(frozen=True)
class Asked:
    """Samples of a request, and how long they took."""

    drawn: Drawn
    rows: Sequence[dict[str, Any]]
    seconds: float


class Weights:
    """A model with its own sampler, compiled once."""

    def __init__(self, model: TrainedModel):
        self.model, config = model, model.config
        self.size = config.infusion.num_atoms
        self.sampler = Sampler(
            model.diffusion,
            model.denoise,
            self.size,
            solver=solver_from(config),
            control=control_from(config),
        )

    def ask(self, request: Request, num: int, *, seed: int = 0, attempts: int = 1) -> Asked:
        """Draw samples, each at most so often."""
        started = time.perf_counter()
        drawn = draw(
            self.sampler,
            self.model,
            request,
            range(num),
            seed=seed,
            attempts=attempts,
            trajectory_every=None,
            bar=Bar(),
        )
        seconds = time.perf_counter() - started
        return Asked(drawn, list(describe_all(drawn.crystals)), seconds)


def chemical_systems(reference: str, num: int) -> list[str]:
    """Systems of three or four elements that crystals of the test split have, drawn once."""
    found = {}
    for structure in to_structures(list(load_dataset(reference, "test")[0])):
        symbols = sorted(structure.composition.get_el_amt_dict())
        if len(symbols) in (3, 4):
            found["-".join(symbols)] = None
    chosen = np.random.default_rng(0).permutation(sorted(found))[:num]
    return sorted(map(str, chosen))


def elements(weights: Weights, reference: str, num: int) -> list[dict[str, Any]]:
    """Ten chemical systems: who holds what was asked, and what the crystals are like."""
    sizes = _sizes_by_system(reference)
    rows = []
    for system in chemical_systems(reference, 10):
        asked = weights.ask(Request.of(chemical_system=system), num)
        missed = asked.drawn.missed
        atoms = np.asarray(real_atom_mask(asked.drawn.crystals)).sum(-1)
        rows.append(
            {
                "system": system,
                "no other element": float(np.mean([not _holds_others(m) for m in missed])),
                "all elements": float(np.mean([not m for m in missed])),
                "atoms": float(atoms.mean()),
                "atoms in the data": sizes[system],
                **_validity(asked),
                "seconds a sample": asked.seconds / num,
            }
        )
    return rows


def numbers(weights: Weights, reference: str, num: int) -> list[dict[str, Any]]:
    """Numbers of atoms that are asked: compliance, and the distribution within the range."""
    data = np.asarray(load_dataset(reference, "test")[0].mask).sum(-1)
    rows = []
    for text in RANGES:
        request = Request.of(num_atoms=text)
        asked = weights.ask(request, num)
        atoms = np.asarray(real_atom_mask(asked.drawn.crystals)).sum(-1)
        assert request.num_atoms is not None
        low, high = request.num_atoms
        inside = [np.bincount(x, minlength=64)[low : high + 1] for x in (atoms, data)]
        shares = [x / x.sum() for x in inside]
        rows.append(
            {
                "atoms": text,
                "as asked": float(((atoms >= low) & (atoms <= high)).mean()),
                "distance to the data": float(np.abs(shares[0] - shares[1]).sum() / 2),
                **_validity(asked),
            }
        )
    return rows


def completion(weights: Weights, reference: str, num: int) -> list[dict[str, Any]]:
    """Test crystals of 6 to 12 atoms of which some were taken away: how many come back."""
    crystals, _ = load_dataset(reference, "test")
    sizes = np.asarray(crystals.mask).sum(-1)
    places = np.flatnonzero((sizes >= 6) & (sizes <= 12))
    chosen = np.random.default_rng(1).permutation(places)[:num]
    whole = to_structures(list(crystals[chosen]))
    rows = []
    for removed in REMOVED:
        parts = resize(
            from_structures([without(x, removed, i) for i, x in enumerate(whole)]), weights.size
        )
        least = np.asarray(parts.mask).sum(-1)
        num_atoms = np.stack([least, np.full(num, weights.size)], -1)
        for keep_cell in (True, False):
            known = Known.atoms(parts, keep_cell=keep_cell)
            drawn, _ = weights.sampler.draw(
                sample_keys(jax.random.key(0), np.arange(num)),
                np.full(num, weights.size),
                Condition(known=known, num_atoms=num_atoms),
            )
            found = to_structures(reduce(drawn))
            rows.append(
                {
                    "taken away": removed,
                    "cell kept": keep_cell,
                    "crystals": num,
                    "number of atoms right": _share(
                        len(x) == len(y) for x, y in zip(whole, found, strict=True)
                    ),
                    "recovered": _share(
                        MATCHER.fit(x, y) for x, y in zip(whole, found, strict=True)
                    ),
                }
            )
    return rows


def without(crystal: Structure, num: int, seed: int) -> Structure:
    """A crystal without some of its atoms, in its own cell."""
    gone = np.random.default_rng(seed).permutation(len(crystal))[:num]
    part = crystal.copy()
    part.remove_sites(sorted(gone.tolist()))
    return part


def formulas(weights: Weights, reference: str, num: int) -> list[dict[str, Any]]:
    """Structures of the formulas of test crystals, with the number of formula units given."""
    crystals, _ = load_dataset(reference, "test")
    chosen = np.random.default_rng(2).permutation(len(crystals))[:num]
    known = to_structures(list(crystals[chosen]))
    request = Request.of(formula=[x.composition.formula for x in known], formula_units=1)
    asked = weights.ask(request, num)
    distances = [
        MATCHER.get_rms_dist(one, two)
        for one, two in zip(known, to_structures(reduce(asked.drawn.crystals)), strict=True)
    ]
    matched = [found[0] for found in distances if found is not None]
    small = [d is not None for d, x in zip(distances, known, strict=True) if len(x) <= 12]
    return [
        {
            "crystals": num,
            "matched": len(matched) / num,
            "matched, of at most 12 atoms": float(np.mean(small)),
            "rms distance": float(np.mean(matched)) if matched else None,
            "seconds a sample": asked.seconds / num,
        }
    ]


PARTS = {
    "elements": elements,
    "numbers": numbers,
    "completion": completion,
    "formulas": formulas,
}
"""By name: of the weights, the data set and a number of samples, rows."""


def _sizes_by_system(reference: str) -> dict[str, float]:
    """The mean number of atoms of the data's crystals in each chemical system."""
    sizes: dict[str, list[int]] = {}
    for split in ("train", "val", "test"):
        for structure in to_structures(list(load_dataset(reference, split)[0])):
            symbols = "-".join(sorted(structure.composition.get_el_amt_dict()))
            sizes.setdefault(symbols, []).append(len(structure))
    return {system: float(np.mean(found)) for system, found in sizes.items()}


def _share(verdicts: Iterable[bool]) -> float:
    return float(np.mean(list(verdicts)))


def _holds_others(missed: Sequence[str]) -> bool:
    return any(what.startswith("holds") for what in missed)


def _validity(asked: Asked) -> dict[str, float]:
    """Shares of valid structures, plausible ones and valid compositions."""
    compositions = [
        valid_composition(np.asarray(types)[np.asarray(real)])
        for types, real in zip(
            asked.drawn.crystals.atom_types, real_atom_mask(asked.drawn.crystals), strict=True
        )
    ]
    return {
        "valid": float(np.mean([bool(row["valid_structure"]) for row in asked.rows])),
        "plausible": float(np.mean([bool(row["plausible"]) for row in asked.rows])),
        "valid compositions": float(np.mean(compositions)),
        "above P1": float(np.mean([(row["spacegroup_number_0.1"] or 1) > 1 for row in asked.rows])),
    }
