"""The fingerprint of one structure: the script that worker processes run.

It imports nothing of miad_jax, so that workers start without JAX.
"""

from __future__ import annotations

import functools
import sys
import warnings
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np

Arrays: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Lattice [3, 3] in Å, fractional coordinates [n, 3], atomic numbers [n]."""

NUM_STRUCTURE_FEATURES = 61

_MEMORY_LIMIT_BYTES = 8 * 2**30
_SYMPREC_ANGSTROM = 1e-4
"""Sites that a symmetry brings onto each other within this have equal fingerprints."""


def site_mean(arrays: Arrays) -> np.ndarray | str:
    """The row of one structure, NaN where CrystalNN fails; or what is wrong with matminer."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            featurizer = _crystal_nn()
    except Exception as error:  # whatever a broken installation raises
        return f"{type(error).__name__}: {error}"
    from pymatgen.core import Structure

    lattice, frac_coords, numbers = arrays
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            structure = Structure(lattice, numbers.tolist(), frac_coords)
            first, counts = _distinct_sites(arrays)
            sites = [featurizer.featurize(structure, int(i)) for i in first]
    except MemoryError:  # ends the worker: the structure may do better on another machine
        raise
    except Exception:  # no neighbour, a degenerate tessellation, …
        return np.full(NUM_STRUCTURE_FEATURES, np.nan)
    return np.average(sites, axis=0, weights=counts)


def _distinct_sites(arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """One site of each set of equivalent sites, and how many are in the set."""
    import spglib

    cell: Any = arrays
    orbits: np.ndarray = np.arange(len(arrays[2]))
    # spglib 2.8 returns None where later versions raise: then every site stands for itself.
    with suppress(getattr(spglib, "SpglibError", RuntimeError)):
        dataset = spglib.get_symmetry_dataset(cell, symprec=_SYMPREC_ANGSTROM)
        if dataset is not None:
            orbits = dataset.crystallographic_orbits
    _, first, counts = np.unique(orbits, return_index=True, return_counts=True)
    return first, counts


@functools.cache
def _crystal_nn() -> Any:
    """The featurizer, made once in a process.

    A local worker, in which nothing of miad_jax is loaded, gets a bound of its memory where the
    system can; a process that holds more than this work does not.
    """
    if "miad_jax" not in sys.modules:
        with suppress(ImportError, OSError, ValueError):
            import resource

            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
    from matminer.featurizers.site import CrystalNNFingerprint

    return CrystalNNFingerprint.from_preset("ops")
