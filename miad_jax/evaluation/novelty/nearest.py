"""The reference crystal that is nearest to a sample by average minimum distance.

AMD_i is the mean over the atoms of a crystal of the distance to their i-th nearest atom, i = 1 … k
(Widdowson et al., MATCH Commun. Math. Comput. Chem. 87, 529, 2022). It depends on the crystal
alone, not on its cell or the order of its atoms, moves little when atoms move little, and knows no
elements. The distance of two crystals is the largest difference of their AMDs, in Å. There is no
tolerance and no match. A small distance to a crystal of the same formula says that a verdict of
StructureMatcher is a close call; one to another crystal says that elements were exchanged.

The package `average-minimum-distance` computes the same numbers; its licence forbids commercial
use, so it is not among the dependencies.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from miad_jax.crystal import Crystal
from miad_jax.evaluation.reference import Reference, compositions
from miad_jax.parallel.progress import Progress, as_progress
from miad_jax.storage.cache import default_cache_dir, kept_array

if TYPE_CHECKING:
    from pymatgen.core import Structure

NUM_NEIGHBOURS = 100
"""k: AMDs are compared up to this neighbour."""

MIN_HEIGHT_ANGSTROM = 0.1
"""Thinner cells have no AMD: their neighbours would be looked for in millions of cells."""

SAMPLES_AT_ONCE = 100


def nearest_columns(
    structures: Sequence[Structure | None],
    reference: Reference,
    progress: Progress | bool = False,
) -> list[dict[str, Any]]:
    """The nearest crystal of the training split to every sample.

    Args:
        structures: The samples, None where there is no crystal.
        reference: Its training split is searched; its AMDs are kept in the cache folder.
        progress: Where to show how far it has come.

    Returns:
        For each sample `nearest_by_amd`, the id of the nearest crystal; `amd_angstrom`, its
        distance; and `amd_same_formula_angstrom`, that of the nearest of the sample's reduced
        formula. None where there is none.
    """
    known = reference_amds(reference, progress)
    of_formula: dict[str, list[int]] = {}
    for i, composition in enumerate(compositions(reference.train)):
        of_formula.setdefault(composition.reduced_formula, []).append(i)
    names = ("nearest_by_amd", "amd_angstrom", "amd_same_formula_angstrom")
    columns: list[dict[str, Any]] = [dict.fromkeys(names) for _ in structures]
    present = {i: x for i, x in enumerate(structures) if x is not None and _height(x) > 0}
    indices = list(present)
    for start in range(0, len(indices), SAMPLES_AT_ONCE):
        those = indices[start : start + SAMPLES_AT_ONCE]
        amds = [amd(present[i].lattice.matrix, present[i].frac_coords) for i in those]
        for i, apart in zip(those, distances(np.stack(amds), known), strict=True):
            nearest = int(apart.argmin())
            same = of_formula.get(present[i].composition.reduced_formula)
            columns[i] = {
                "nearest_by_amd": reference.train_records.ids[nearest],
                "amd_angstrom": float(apart[nearest]),
                "amd_same_formula_angstrom": float(apart[same].min()) if same else None,
            }
    return columns


def reference_amds(
    reference: Reference, progress: Progress | bool = False
) -> Float[np.ndarray, "crystals k"]:
    """AMDs of the training split, computed once and kept in the cache folder."""
    identity = hashlib.sha256(f"{NUM_NEIGHBOURS} {reference.fingerprint}".encode()).hexdigest()[:16]
    return kept_array(
        default_cache_dir() / "amd" / f"{identity}.npz",
        lambda: crystal_amds(reference.train, progress),
        lambda kept: kept.shape == (len(reference.train), NUM_NEIGHBOURS) and kept.dtype == "f4",
    )


def crystal_amds(
    crystals: Crystal, progress: Progress | bool = False
) -> Float[np.ndarray, "crystals k"]:
    """AMDs of packed crystals, in single precision."""
    masks = np.asarray(crystals.mask)
    lattices = np.asarray(crystals.lattice, np.float64)
    frac_coords = np.asarray(crystals.frac_coords, np.float64)
    found = np.empty((len(masks), NUM_NEIGHBOURS), np.float32)
    with as_progress(progress).bar("average minimum distances", len(masks), unit="crystal") as bar:
        for i, mask in enumerate(masks):
            found[i] = amd(lattices[i], frac_coords[i][mask])
            bar.advance()
    return found


def amd(
    lattice: Float[np.ndarray, "3 3"],
    frac_coords: Float[np.ndarray, "n 3"],
    num_neighbours: int = NUM_NEIGHBOURS,
) -> Float[np.ndarray, " k"]:
    """Average minimum distances of one crystal, in Å.

    All atoms within a radius are looked at, and the radius grows until every atom has enough
    neighbours within it.

    Args:
        lattice: The cell, rows in Å.
        frac_coords: Fractional coordinates of its atoms.
        num_neighbours: k.
    """
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    volume_per_atom = abs(np.linalg.det(lattice)) / len(frac_coords)
    between = frac_coords[None] - frac_coords[:, None]
    between -= np.round(between)
    radius = 1.1 * math.cbrt(3 * (num_neighbours + 1) * volume_per_atom / (4 * math.pi))
    while True:
        axes = [np.arange(-n, n + 1) for n in np.ceil(radius / heights + 0.5).astype(int)]
        shifts = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        vectors = (between @ lattice)[:, :, None] + shifts @ lattice
        squared = np.einsum("ijsc,ijsc->ijs", vectors, vectors).reshape(len(frac_coords), -1)
        nearest = np.sort(np.partition(squared, num_neighbours, axis=1)[:, : num_neighbours + 1], 1)
        if nearest[:, -1].max() <= radius**2:
            return np.sqrt(nearest[:, 1:]).mean(0)  # the first is the atom itself
        radius *= 1.2


def distances(
    amds: Float[np.ndarray, "samples k"], others: Float[np.ndarray, "crystals k"]
) -> Float[np.ndarray, "samples crystals"]:
    """Largest difference of the AMDs of two crystals, in Å."""
    from scipy.spatial.distance import cdist

    return cdist(amds, others, "chebyshev")


def _height(structure: Structure) -> float:
    """Smallest height of a cell in Å; 0 where it is too thin to be compared."""
    heights = 1 / np.linalg.norm(np.linalg.inv(structure.lattice.matrix), axis=0)
    return float(heights.min()) if heights.min() >= MIN_HEIGHT_ANGSTROM else 0.0
