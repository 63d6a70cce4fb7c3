"""The experiment's naive comparison is the definition, and its jitter is what it says."""

import numpy as np
from pymatgen.core import Lattice, Structure

from experiments.evaluation.naive import all_pairs
from experiments.evaluation.relaxation import JITTER_ANGSTROM, jittered
from miad_jax.data import from_structures
from miad_jax.evaluation.matching import match


def test_matching_equals_the_comparison_of_all_pairs():
    cscl = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    iron = Structure(Lattice.cubic(2.87), ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    samples = [cscl, iron, cscl * (2, 1, 1), iron.apply_strain([0, 0, 0.7], inplace=False)]
    known = [iron * (1, 2, 1), cscl]
    naive = all_pairs(samples, known)
    assert naive.duplicate_of == [None, None, 0, None]
    assert match(samples, from_structures(known)) == naive


def test_the_jitter_has_its_size():
    cell = Structure(Lattice.cubic(30), ["Fe"] * 3000, np.random.default_rng(0).random((3000, 3)))
    moved = jittered(cell, np.random.default_rng(1))
    squared = ((moved.cart_coords - cell.cart_coords) ** 2).sum(1)
    np.testing.assert_allclose(np.sqrt(squared.mean()), JITTER_ANGSTROM, rtol=0.05)
