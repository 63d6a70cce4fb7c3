"""Properties of crystals that follow from the structure, so that no column of them is needed.

They are, by name:

    num_elements        number of different elements
    density             g/cm³
    spacegroup_number   1 … 230, by spglib within 0.1 Å; NaN where it finds none
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from miad_jax.crystal import Crystal, real_atom_mask
from miad_jax.data.symmetry import find_symmetry
from miad_jax.parallel.progress import Progress, as_progress
from miad_jax.storage.cache import default_cache_dir, kept_array

AMU_PER_ANGSTROM3_IN_G_PER_CM3 = 1.66053906892
SYMPREC_ANGSTROM = 0.1


def computed_property(
    name: str,
    crystals: Crystal,
    *,
    fingerprint: str = "",
    progress: Progress | bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Float[np.ndarray, " n"]:
    """A property of every crystal, from its structure.

    Args:
        name: One of `COMPUTED`.
        crystals: A batch [n] of crystals in reduced cells.
        fingerprint: Of the data set that they are; space groups, of which a thousand take some
            five seconds, are kept under it in the cache. Empty keeps nothing.
        progress: Where to show how far it is; True for a bar on standard error.
        cache_dir: The cache folder; that of `load_dataset` when None.

    Raises:
        KeyError: If `name` is none of `COMPUTED`.

    Example:
        >>> crystals, _ = miad_jax.load_dataset("prototypes", "val")
        >>> computed_property("num_elements", crystals[:3]).tolist()
        [1.0, 1.0, 1.0]
    """
    compute = COMPUTED[name]
    if name != "spacegroup_number" or not fingerprint:
        return compute(crystals, as_progress(progress))
    root = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    name = f"{fingerprint}-spglib-{importlib.metadata.version('spglib')}.npz"
    return kept_array(
        root / "spacegroups" / name,
        lambda: compute(crystals, as_progress(progress)),
        lambda kept: kept.shape == crystals.batch_shape and kept.dtype.kind == "f",
    )


def density_g_per_cm3(
    lattice: Float[np.ndarray, "3 3"], atom_types: Int[np.ndarray, " n"]
) -> float:
    """Mass over volume of a cell with its rows in Å."""
    from ase.data import atomic_masses

    volume = abs(np.linalg.det(lattice))
    return float(atomic_masses[atom_types].sum() * AMU_PER_ANGSTROM3_IN_G_PER_CM3 / volume)


def _atoms(crystals: Crystal) -> list[np.ndarray]:
    """Atomic numbers of the real atoms of each crystal."""
    real = np.asarray(real_atom_mask(crystals))
    return [z[is_real] for z, is_real in zip(np.asarray(crystals.atom_types), real, strict=True)]


def _num_elements(crystals: Crystal, progress: Progress) -> np.ndarray:
    del progress
    return np.array([len(np.unique(z)) for z in _atoms(crystals)], float)


def _densities(crystals: Crystal, progress: Progress) -> np.ndarray:
    del progress
    cells = np.asarray(crystals.lattice, np.float64)
    return np.array([density_g_per_cm3(*x) for x in zip(cells, _atoms(crystals), strict=True)])


def _spacegroup_numbers(crystals: Crystal, progress: Progress) -> np.ndarray:
    real = np.asarray(real_atom_mask(crystals))
    lattices, coords = (np.asarray(x, np.float64) for x in (crystals.lattice, crystals.frac_coords))
    numbers = np.full(len(lattices), np.nan)
    with progress.bar("space groups", len(lattices), "crystals") as bar:
        for i, types in enumerate(_atoms(crystals)):
            found = find_symmetry(lattices[i], coords[i][real[i]], types, SYMPREC_ANGSTROM)
            if found is not None:
                numbers[i] = found.number
            bar.advance()
    return numbers


COMPUTED: dict[str, Callable[[Crystal, Progress], np.ndarray]] = {
    "num_elements": _num_elements,
    "density": _densities,
    "spacegroup_number": _spacegroup_numbers,
}
"""What can be computed of a structure, by name."""
