"""Properties of known crystals, and what is kept of them."""

from dataclasses import replace

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from miad_jax.data import from_structures
from miad_jax.data.properties import COMPUTED, computed_property, density_g_per_cm3

SALT = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
)
TUNGSTEN = Structure(Lattice.cubic(3.16), ["W", "W"], [[0, 0, 0], [0.5, 0.5, 0.5]])
SKEWED = Structure(
    Lattice.from_parameters(4, 5, 6, 70, 80, 95), ["Li", "O"], [[0.1, 0.2, 0.3], [0.5, 0.6, 0.9]]
)
ON_ONE_PLACE = Structure(Lattice.cubic(4), ["O", "O"], [[0, 0, 0], [0, 0, 0]])


@pytest.fixture
def crystals():
    return from_structures([SALT, TUNGSTEN, SKEWED])


def test_they_are_those_of_known_crystals(crystals):
    assert computed_property("num_elements", crystals).tolist() == [2, 1, 2]
    assert computed_property("spacegroup_number", crystals).tolist() == [225, 229, 1]
    expected = [structure.density for structure in (SALT, TUNGSTEN, SKEWED)]
    assert computed_property("density", crystals) == pytest.approx(expected, rel=2e-3)


def test_mirage_atoms_are_no_atoms(crystals):
    types = np.array(crystals.atom_types)
    types[types == 17] = 0
    without_chlorine = replace(crystals, atom_types=types)
    assert computed_property("num_elements", without_chlorine).tolist() == [1, 1, 2]
    lighter, whole = (computed_property("density", x)[0] for x in (without_chlorine, crystals))
    assert lighter < whole


def test_density_is_pymatgens():
    for structure in (SALT, TUNGSTEN, SKEWED):
        numbers = np.array([site.specie.Z for site in structure])
        found = density_g_per_cm3(structure.lattice.matrix, numbers)
        assert found == pytest.approx(structure.density, rel=2e-3)


def test_a_crystal_without_a_space_group_has_nan():
    crystals = from_structures([ON_ONE_PLACE])
    assert np.isnan(computed_property("spacegroup_number", crystals)).all()


def test_space_groups_are_kept_by_the_content_of_the_data_set(crystals, tmp_path, monkeypatch):
    def ask(content=crystals):
        return computed_property(
            "spacegroup_number", content, fingerprint="abc", cache_dir=tmp_path
        )

    first = ask()
    (kept,) = (tmp_path / "spacegroups").iterdir()
    assert kept.name.startswith("abc-spglib-")

    def again(*_):
        raise AssertionError("it is computed again")

    monkeypatch.setitem(COMPUTED, "spacegroup_number", again)
    np.testing.assert_array_equal(ask(), first)
