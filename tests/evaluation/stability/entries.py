"""Crystals and entries of which hulls, corrections and DFT inputs are made in tests."""

import numpy as np
from pymatgen.core import Composition, Lattice, Structure

SYMBOLS = ("Li", "Fe", "O", "Xe")


def rock_salt(a, b, length=4.2):
    coords = [[0, 0, 0], [0.5, 0.5, 0.5]]
    return Structure(Lattice.rhombohedral(length / 2**0.5, 60), [a, b], coords)


def random_entries(seed, symbols=SYMBOLS, num=25):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, (num, len(symbols)))
    counts = np.concatenate([np.eye(len(symbols), dtype=int), counts[counts.sum(1) > 0]])
    compositions = [
        Composition({s: int(n) for s, n in zip(symbols, row, strict=True) if n}) for row in counts
    ]
    return compositions, rng.normal(size=len(counts)) - (counts > 0).sum(1)
