"""Average minimum distances against brute force, and whom they find."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from miad_jax.data import Records, from_structures
from miad_jax.evaluation.novelty import nearest
from miad_jax.evaluation.novelty.nearest import amd, nearest_columns
from miad_jax.evaluation.reference import Reference

CSCL = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
IRON = Structure(Lattice.cubic(2.87), ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]])
LOW = Structure(
    Lattice.from_parameters(3.1, 5.3, 9.2, 81, 67, 104),
    ["Ca", "Mo", "S"],
    [[0.1, 0.2, 0.3], [0.5, 0.6, 0.1], [0.8, 0.1, 0.7]],
)
NEEDLE = Structure(Lattice.orthorhombic(0.5, 3, 60), ["Na"] * 2, [[0, 0, 0], [0, 0, 0.4]])


def amd_of(structure, k=100):
    return amd(structure.lattice.matrix, structure.frac_coords, k)


def test_a_simple_cubic_lattice_has_its_shells():
    expected = np.repeat([2, 2 * np.sqrt(2), 2 * np.sqrt(3)], [6, 12, 8])
    np.testing.assert_allclose(amd(2 * np.eye(3), np.zeros((1, 3)), 26), expected)


@pytest.mark.parametrize("structure", [CSCL, LOW, NEEDLE])
def test_amds_equal_those_of_pymatgens_neighbours(structure):
    lists = structure.get_all_neighbors(1.5 * amd_of(structure).max())
    nearest_of_each = [sorted(x.nn_distance for x in those)[:100] for those in lists]
    np.testing.assert_allclose(amd_of(structure), np.mean(nearest_of_each, 0), rtol=1e-9)


def test_amds_do_not_depend_on_the_cell():
    other = LOW.copy() * (1, 2, 1)
    other.translate_sites(range(len(other)), [0.3, 0.1, 0.7])
    np.testing.assert_allclose(amd_of(other), amd_of(LOW), rtol=1e-9)


@pytest.fixture
def reference(tmp_path, monkeypatch):
    monkeypatch.setenv("MIAD_JAX_CACHE", str(tmp_path))
    train = from_structures([CSCL, IRON])
    records = Records(["cscl", "iron"], {}, (), "a")
    return Reference("made", train, records, None, [train], None, "a")


def test_the_nearest_crystal_and_that_of_the_same_formula(reference):
    swapped = Structure(CSCL.lattice, ["K", "Br"], CSCL.frac_coords)
    stretched = CSCL.apply_strain(0.1, inplace=False)
    thin = Structure(Lattice.orthorhombic(0.01, 3, 500), ["Na"], [[0, 0, 0]])
    found = nearest_columns([CSCL * (2, 1, 1), swapped, stretched, None, thin], reference)
    assert [x["nearest_by_amd"] for x in found] == ["cscl", "cscl", "cscl", None, None]
    same = [x["amd_same_formula_angstrom"] for x in found]
    assert [x is None for x in same] == [False, True, False, True, True]
    assert found[0]["amd_angstrom"] == pytest.approx(0, abs=1e-5)
    assert found[1]["amd_angstrom"] == pytest.approx(0, abs=1e-5)
    assert found[2]["amd_angstrom"] == pytest.approx(0.1 * amd_of(CSCL)[-1], rel=1e-4)


def test_amds_of_the_reference_are_computed_once(reference, monkeypatch):
    first = nearest_columns([LOW], reference)
    monkeypatch.setattr(nearest, "crystal_amds", None)
    assert nearest_columns([LOW], reference) == first
