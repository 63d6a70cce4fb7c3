"""Known crystals that are plausible, and one for each test that fails."""

import csv
import gzip

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from miad_jax.data.niggli import niggli_reduce
from miad_jax.evaluation.validity.plausible import (
    TOO_CLOSE,
    TOO_DENSE,
    TOO_LIGHT,
    TOO_LONG,
    TOO_THIN,
    why_implausible,
)
from miad_jax.evaluation.validity.structure import distances

ORIGIN = [[0, 0, 0]]


def why(structure):
    lattice, frac_coords = niggli_reduce(structure.lattice.matrix, structure.frac_coords)
    numbers = np.array([site.specie.Z for site in structure])
    return why_implausible(lattice, distances(lattice, frac_coords), numbers)


def pair(symbol, apart, edge):
    return Structure(Lattice.cubic(edge), [symbol] * 2, [[0, 0, 0], [apart / edge, 0, 0]])


PLAUSIBLE = {
    "NaCl": Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ),
    "Li": Structure(Lattice.cubic(3.51), ["Li", "Li"], [[0, 0, 0], [0.5] * 3]),
    "Os": Structure(
        Lattice.hexagonal(2.734, 4.32), ["Os"] * 2, [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]
    ),
    "H at 0.4 Å": Structure(
        Lattice.cubic(3.2), ["H", "H", "Fe"], [[0, 0, 0], [0.4 / 3.2, 0, 0], [0.5] * 3]
    ),
    "graphite": Structure(
        Lattice.hexagonal(2.46, 6.7),
        ["C"] * 4,
        [[0, 0, 0.25], [0, 0, 0.75], [1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]],
    ),
    "skewed": Structure([[4, 0, 0], [400, 4, 0], [0, 120, 4]], ["Fe"], ORIGIN),
}


@pytest.mark.parametrize("name", PLAUSIBLE)
def test_plausible(name):
    assert why(PLAUSIBLE[name]) == ""


@pytest.mark.parametrize(
    ("structure", "expected"),
    [
        (pair("H", 0.3, 1.6), [TOO_CLOSE]),
        (pair("Cs", 2.4, 6), [TOO_CLOSE]),
        (Structure(Lattice.orthorhombic(2.4, 9, 9), ["Cs"], ORIGIN), [TOO_CLOSE]),  # its own image
        (Structure(Lattice.cubic(8), ["Na"], ORIGIN), [TOO_LIGHT]),
        (Structure(Lattice.cubic(2.2), ["Os"], ORIGIN), [TOO_DENSE]),
        (Structure(Lattice.orthorhombic(1.4, 5, 5), ["O"], ORIGIN), [TOO_THIN]),
        (Structure(Lattice.orthorhombic(3, 3, 41), ["W"], ORIGIN), [TOO_LONG]),
        (
            Structure(Lattice.orthorhombic(197, 3, 0.07), ["Ge"], ORIGIN),
            [TOO_CLOSE, TOO_THIN, TOO_LONG],
        ),
    ],
)
def test_what_fails_is_named(structure, expected):
    assert why(structure) == ", ".join(expected)


def test_the_bounds_belong_to_the_plausible():
    for edge, expected in ((40, ""), (40.001, TOO_LONG)):
        assert why(Structure(Lattice.orthorhombic(3, 3, edge), ["W"], ORIGIN)) == expected
    for edge, expected in ((1.5, ""), (1.4999, TOO_THIN)):
        assert why(Structure(Lattice.orthorhombic(edge, 4, 4), ["O"], ORIGIN)) == expected


def test_real_crystals_are_plausible(real_data):
    with gzip.open(real_data / "mp_20_slice" / "val.csv.gz", "rt") as file:
        cifs = [row["cif"] for row in csv.DictReader(file)][:100]
    assert sum(not why(Structure.from_str(cif, fmt="cif")) for cif in cifs) >= 98
