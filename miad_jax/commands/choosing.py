"""The best of several samples by their energy, as the flags of `sample` ask for it.

Each sample is drawn several times, and the one that lies lowest above the hull stays. Energies are
those of the crystals as generated: one evaluation of the potential each, no relaxation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from jaxtyping import Float

from miad_jax.commands.relax import POTENTIALS_HELP, WEIGHTS_HELP
from miad_jax.crystal import Crystal
from miad_jax.data.structures import to_structures
from miad_jax.evaluation.stability.energies import e_above_hull, total_energy_ev_per_atom
from miad_jax.evaluation.stability.hull import Hull
from miad_jax.evaluation.stability.hull_files import hull_from_entries
from miad_jax.evaluation.stability.potentials import prepare_potential
from miad_jax.evaluation.stability.relax import relax
from miad_jax.mirage import reduce

NAMES = ("best_of", "best_by", "best_weights", "hull")
"""Flags that say how the best is chosen."""


@dataclass(frozen=True)
class Judge:
    """What says which of several samples is best.

    Attributes:
        best_of: How many there are.
        calculator: The potential.
        weights: Name or file of its weights; None for its own.
        hull: Above which energies are measured.
    """

    best_of: int
    calculator: str
    weights: str | None
    hull: Hull

    def energies(self, crystals: Crystal) -> Float[np.ndarray, " samples"]:
        """Energies above the hull in eV/atom, as generated; infinite where there is none."""
        found = np.full(len(crystals), np.inf)
        reduced = reduce(crystals)
        places = [i for i, x in enumerate(reduced) if x.size and _is_finite(x)]
        structures = to_structures([reduced[i] for i in places])
        relaxations = relax(
            structures, calculator=self.calculator, weights=self.weights, max_steps=0
        )
        for i, structure, relaxation in zip(places, structures, relaxations, strict=True):
            total = total_energy_ev_per_atom(relaxation)
            above = e_above_hull(structure, total, self.hull)
            if not isinstance(above, str):
                found[i] = above
        return found


def define(values: flags.FlagValues) -> None:
    """Define the flags."""
    flags.DEFINE_integer(
        "best_of",
        1,
        "Draw each sample so often and keep the one with the lowest energy above the hull",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_string(
        "best_by", "nequix", f"The potential of --best_of: {POTENTIALS_HELP}", flag_values=values
    )
    flags.DEFINE_string("best_weights", None, WEIGHTS_HELP, flag_values=values)
    flags.DEFINE_string(
        "hull",
        None,
        "The hull of --best_of: a JSON of entries with total energies",
        flag_values=values,
    )


def judge_of(values: flags.FlagValues) -> Judge | None:
    """What the flags ask for; None where every sample is drawn once.

    Raises:
        ValueError: If the flags do not fit each other, or the potential or the hull cannot be used.
        FileNotFoundError: If a file is missing.
    """
    if values.best_of == 1:
        if given := [x for x in NAMES[1:] if values[x].present]:
            raise ValueError(f"--{given[0]} is given without --best_of: add it, or leave both")
        return None
    if values.hull is None:
        raise ValueError(
            "--best_of needs --hull, which makes energies of different compositions comparable: a "
            "JSON of entries, as `python -m miad_jax.download mp_hull` writes"
        )
    hull = hull_from_entries(values.hull)
    prepare_potential(values.best_by, values.best_weights, progress=True)
    return Judge(values.best_of, values.best_by, values.best_weights, hull)


def chosen_by(values: flags.FlagValues) -> Mapping[str, Any]:
    """What the choice depends on, in values that JSON knows; empty where there is none."""
    if values.best_of == 1:
        return {}
    said = {name: values[name].value for name in NAMES}
    return said | {"hull": hashlib.sha256(Path(values.hull).read_bytes()).hexdigest()}


def _is_finite(crystal: Crystal) -> bool:
    return bool(np.isfinite(crystal.lattice).all() and np.isfinite(crystal.frac_coords).all())
