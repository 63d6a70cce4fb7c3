"""Definitions of peers: each counts what the others do not."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from miad_jax.evaluation.peers import DEFINITIONS, on_the_hull, peer_rates, symmetry_columns

CSCL = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
GOOD = {
    "reason": "", "chemical_system": "Cl-Cs", "e_above_hull_ev_per_atom": -0.01,
    "unique": True, "novel": True, "unique_relaxed": True, "novel_relaxed": True,
    "unique_disordered": True, "novel_disordered": True, "unique_among_stable": True,
    "spacegroup_number_relaxed": 221, "spacegroup_number_pymatgen_0.1": 221,
}  # fmt: skip
MATTERGEN, FLOWMM, WYFORMER, SYMMETRIC, SUN, META = (x.name for x in DEFINITIONS)


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({}, set()),
        ({"e_above_hull_ev_per_atom": None}, {MATTERGEN, FLOWMM, WYFORMER, SYMMETRIC, SUN, META}),
        ({"e_above_hull_ev_per_atom": 0.0}, set()),
        ({"e_above_hull_ev_per_atom": 0.05}, {FLOWMM, SUN}),
        ({"e_above_hull_ev_per_atom": 0.08}, {FLOWMM, SUN, WYFORMER, SYMMETRIC}),
        ({"e_above_hull_ev_per_atom": 0.1}, {MATTERGEN, FLOWMM, WYFORMER, SYMMETRIC, SUN}),
        ({"chemical_system": "Cs"}, {FLOWMM, WYFORMER, SYMMETRIC}),
        ({"spacegroup_number_relaxed": 1}, {SYMMETRIC}),
        ({"spacegroup_number_relaxed": None}, {SYMMETRIC}),
        ({"unique": False}, {SUN, META}),
        ({"unique_relaxed": False}, {WYFORMER, SYMMETRIC}),
        ({"unique_disordered": False}, {MATTERGEN}),
        ({"unique_among_stable": False}, {FLOWMM}),
        ({"novel_relaxed": False}, {FLOWMM, WYFORMER, SYMMETRIC}),
        ({"novel_disordered": None}, {MATTERGEN}),
    ],
)
def test_what_a_definition_refuses(change, refused):
    assert {x.name for x in DEFINITIONS if not x.counts(GOOD | change)} == refused


def test_the_table_names_whose_definition_it_is_and_its_denominator():
    failed = dict.fromkeys(GOOD) | {"reason": "no atom"}
    flat = GOOD | {"spacegroup_number_pymatgen_0.1": 1}
    table = {x.name: x for x in peer_rates([GOOD, flat, failed])}
    unknown = GOOD | {"spacegroup_number_pymatgen_0.1": None}
    assert {x.name: x for x in peer_rates([unknown])}["WyFormer's P1"].count == 0
    assert (table[MATTERGEN].count, table[MATTERGEN].total) == (2, 3)
    assert (table["WyFormer's P1"].count, table["WyFormer's P1"].total) == (1, 2)
    for name, rate in table.items():
        assert "arXiv:" in rate.definition, name
    assert "of the 3 samples" in table[FLOWMM].definition
    assert "other than P1" in table[SYMMETRIC].definition


def test_flowmm_compares_the_stable_ones_only():
    rows = [GOOD, GOOD | {"e_above_hull_ev_per_atom": 0.01}, GOOD | {"chemical_system": "Cs"}, GOOD]
    assert on_the_hull(rows, [CSCL, CSCL, CSCL, None]) == [CSCL, None, None, None]


def test_the_space_group_is_that_after_relaxation():
    coords = np.random.default_rng(0).random((5, 3))
    broken = Structure(
        Lattice.from_parameters(4, 5, 6, 80, 95, 107), ["Cs", "Cl"] * 2 + ["F"], coords
    )
    found = [x["spacegroup_number_relaxed"] for x in symmetry_columns([CSCL, broken, None])]
    assert found == [221, 1, None]
