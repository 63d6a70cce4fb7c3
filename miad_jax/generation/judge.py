"""What says which of several samples of a wish is the best: their energy above a hull.

Energies are those of the crystals as generated: one evaluation of the potential each, no
relaxation.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from miad_jax.crystal import Crystal
from miad_jax.data.structures import to_structures
from miad_jax.evaluation.stability.energies import e_above_hull, total_energy_ev_per_atom
from miad_jax.evaluation.stability.hull import Hull
from miad_jax.evaluation.stability.relax import relax
from miad_jax.mirage import reduce
from miad_jax.parallel.progress import Progress
from miad_jax.sampling.finite import is_finite


@dataclass(frozen=True)
class Judge:
    """What says which of several samples is best.

    Attributes:
        best_of: How many there are.
        calculator: The potential.
        weights: Name or file of its weights; None for its own.
        hull: Above which energies are measured.
        progress: Where to show how far it has come.
    """

    best_of: int
    calculator: str
    weights: str | None
    hull: Hull
    progress: Progress = field(default_factory=Progress)

    def energies(self, crystals: Crystal) -> Float[np.ndarray, " samples"]:
        """Energies above the hull in eV/atom, as generated; infinite where there is none."""
        found = np.full(len(crystals), np.inf)
        reduced = reduce(crystals)
        places = [i for i, x in enumerate(reduced) if is_crystal(x)]
        structures = to_structures([reduced[i] for i in places])
        relaxations = relax(
            structures,
            calculator=self.calculator,
            weights=self.weights,
            max_steps=0,
            progress=self.progress,
        )
        for i, structure, relaxation in zip(places, structures, relaxations, strict=True):
            total = total_energy_ev_per_atom(relaxation)
            above = e_above_hull(structure, total, self.hull)
            if not isinstance(above, str):
                found[i] = above
        return found


def is_crystal(crystal: Crystal) -> bool:
    """Whether a reduced sample has atoms in a cell with a volume, all of it finite."""
    cell = np.asarray(crystal.lattice, np.float64)
    return bool(crystal.size and is_finite(crystal) and abs(np.linalg.det(cell)) > 1e-3)
