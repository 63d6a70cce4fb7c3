"""Whether a crystal could exist as it stands: the tests that "valid" leaves out.

The field's validity (0.5 Å, 0.1 Å³) passes a needle of 197 Å with 0.07 Å between its faces. These
bounds are wide enough for every crystal at ambient pressure but solid hydrogen and helium, and
stand beside the published validity, never in its place.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from miad_jax.data.properties import density_g_per_cm3

MIN_SHARE_OF_RADII = 0.5
"""Of the sum of two atoms' covalent radii: the smallest distance between them."""

DENSITIES_G_PER_CM3 = (0.5, 25.0)
"""Lithium has 0.53, osmium 22.6."""

MIN_HEIGHT_ANGSTROM = 1.5
"""Between opposite faces of the Niggli cell."""

MAX_NIGGLI_EDGE_ANGSTROM = 40.0

TOO_CLOSE = "atoms too close"
TOO_LIGHT = "density too low"
TOO_DENSE = "density too high"
TOO_THIN = "cell too thin"
TOO_LONG = "cell too long"


def why_implausible(
    lattice: Float[np.ndarray, "3 3"],
    distances_angstrom: Float[np.ndarray, "n n"],
    atom_types: Int[np.ndarray, " n"],
) -> str:
    """The tests that a crystal fails, joined by ", "; empty for a plausible one.

    Plausible is a crystal in which every two atoms, an atom and its own image among them, are at
    least half the sum of their covalent radii apart, whose density is from 0.5 to 25 g/cm³, and
    whose Niggli cell has heights of at least 1.5 Å and edges of at most 40 Å. Radii are those of
    `ase.data.covalent_radii` (Cordero et al. 2008; 2 Å for the heaviest elements, which have none).

    Args:
        lattice: The Niggli cell, rows in Å.
        distances_angstrom: What `structure.distances` returns.
        atom_types: Atomic numbers.
    """
    from ase.data import covalent_radii

    radii = covalent_radii[atom_types]
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    density, (lightest, densest) = density_g_per_cm3(lattice, atom_types), DENSITIES_G_PER_CM3
    fails = {
        TOO_CLOSE: (distances_angstrom < MIN_SHARE_OF_RADII * np.add.outer(radii, radii)).any(),
        TOO_LIGHT: density < lightest,
        TOO_DENSE: density > densest,
        TOO_THIN: heights.min() < MIN_HEIGHT_ANGSTROM,
        TOO_LONG: np.linalg.norm(lattice, axis=-1).max() > MAX_NIGGLI_EDGE_ANGSTROM,
    }
    return ", ".join(name for name, failed in fails.items() if failed)
