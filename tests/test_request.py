"""Wishes as people write them: what is understood, what is refused, what samplers get of it."""

import jax
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from miad_jax.diffusion.keys import sample_keys
from miad_jax.request import Request

SALT = Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
DISORDERED = Structure(Lattice.cubic(4), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]])
HISTOGRAM = np.array([0, 1, 5, 1, 8, 1, 5, 0, 2, 0, 4, 0, 3.0])


def asked(request, num=6, size=12, **of_model):
    index = np.arange(num)
    keys = sample_keys(jax.random.key(0), index)
    model = {"infused": True, "takes_times": True, "histogram": HISTOGRAM} | of_model
    return request.condition(keys, index, size, **model)


def test_nothing_asked_is_no_condition():
    assert Request.of().asks_nothing
    num_atoms, condition = asked(Request.of())
    assert num_atoms.tolist() == [12] * 6
    assert condition is None


def test_elements_as_people_write_them():
    assert Request.of(elements="Li, Fe,O").elements == {3, 26, 8}
    assert Request.of(elements=["Li", "O"]).elements == {3, 8}
    system = Request.of(chemical_system="Li-O")
    assert system.elements == system.contain == {3, 8}
    left = Request.of(without="radioactive,noble,Li").elements
    assert not left & {3, 2, 10, 18, 43, 61, 92}
    assert {1, 8, 26, 79} <= left
    assert Request.of(elements="Li,Tc,O", without="radioactive").elements == {3, 8}


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"elements": "Li,fe"}, r"elements holds 'fe' \(did you mean 'Fe'\?\); allowed: symbols"),
        ({"without": "radiactive"}, "did you mean 'radioactive'"),
        ({"elements": "Li", "contain": "O"}, "O must occur and may not"),
        ({"contain": "He", "without": "noble"}, "He must occur and may not"),
        ({"elements": "He", "without": "noble"}, "no element is left"),
        ({"chemical_system": "Li-O", "elements": "Li"}, "both say what may occur"),
        ({"chemical_system": "In-Nd-Pd", "neutral": True}, "Pd, In, Nd are all positive"),
        ({"elements": "He,F", "neutral": True, "without": "noble"}, "of F are all negative"),
        ({"num_atoms": "8..4"}, r"num_atoms is 8\.\.4; allowed: a whole number from 1 on, or a"),
        ({"num_atoms": "many"}, "num_atoms is many"),
        ({"num_atoms": 0}, "num_atoms is 0"),
        ({"contain": "Li,Fe,O", "num_atoms": 2}, "3 elements must occur among at most 2 atoms"),
        ({"formula": "LiFeXx"}, "formula 'LiFeXx'"),
        ({"formula": "Li0.5O"}, "'Li0.5O' has no atoms, a part of one"),
        ({"formula": ""}, "formula ''"),
        ({"formula": "LiO", "contain": "Li"}, "a formula says which atoms there are"),
        ({"formula_units": 2}, "formula_units are given without a formula"),
        ({"keep_cell": True}, "add and keep_cell belong to a crystal"),
        ({"add": 2}, "add and keep_cell belong to a crystal"),
        ({"complete": SALT, "num_atoms": 4}, "how many atoms there are by add"),
        ({"complete": SALT, "elements": "Na"}, "the crystal to complete holds Cl, which may not"),
        ({"like": DISORDERED}, "the crystal of like is disordered"),
        ({"properties": {"density": 0}}, "density is 0; allowed: a number from 0.001 on"),
        ({"properties": {"density": np.nan}}, "density is nan; allowed: a finite number"),
        ({"properties": {"num_elements": 2.5}}, "num_elements is 2.5; allowed: a whole number"),
        ({"properties": {"spacegroup_number": 231}}, "is 231; allowed: a whole number from 1 to"),
        (
            {"contain": "Li,O", "properties": {"num_elements": 1}},
            "2 elements must occur, but num_elements is 1",
        ),
        (
            {"elements": "Li,O", "properties": {"num_elements": 3}},
            "2 elements may occur, but num_elements is 3",
        ),
    ],
)
def test_what_cannot_be_met_is_refused_before_anything_runs(wish, said):
    with pytest.raises(ValueError, match=said):
        Request.of(**wish)


def test_crystals_are_structures():
    with pytest.raises(TypeError, match=r"complete is 'salt\.cif'; allowed: a pymatgen Structure"):
        Request.of(complete="salt.cif")


def test_elements_and_numbers_reach_the_condition():
    request = Request.of(chemical_system="Li-O", num_atoms="4..8", properties={"density": 3.0})
    num_atoms, condition = asked(request)
    assert num_atoms.tolist() == [12] * 6
    assert np.flatnonzero(condition.allowed_types[5]).tolist() == [3, 8]
    np.testing.assert_array_equal(condition.required_types, condition.allowed_types)
    assert condition.num_atoms.tolist() == [[4, 8]] * 6
    assert condition.properties["density"].tolist() == [3.0] * 6
    with pytest.raises(ValueError, match="13 atoms are asked, and the model has 12 slots"):
        asked(Request.of(num_atoms=13))


def test_the_baseline_draws_a_number_that_is_asked():
    num_atoms, condition = asked(Request.of(num_atoms="3..5"), num=200, infused=False)
    assert condition.num_atoms is None
    assert set(num_atoms.tolist()) == {3, 4, 5}
    assert 0.7 < (num_atoms == 4).mean() < 0.9  # eight of ten in the data


def test_a_formula_fills_the_slots_in_turn_and_in_units_that_fit():
    request = Request.of(formula=["NaCl", "TiO2"])
    num_atoms, condition = asked(request, num=300)
    types = np.asarray(condition.known.crystal.atom_types)
    assert not (set(num_atoms[::2].tolist()) - {2, 4, 6, 8, 10, 12})
    assert not (set(num_atoms[1::2].tolist()) - {3, 6, 9, 12})
    assert (num_atoms[::2] == 4).mean() > (num_atoms[::2] == 8).mean() > 0
    for i in range(300):
        assert not request.missed_by(types[i][types[i] > 0], i)
        assert (types[i] > 0).sum() == num_atoms[i]
    assert condition.known.types.all()
    assert not condition.known.coords.any()
    # A network that takes one time is shown what is left of its slots as mirage.
    assert asked(request, takes_times=False)[0].tolist() == [12] * 6
    fixed, _ = asked(Request.of(formula="NaCl", formula_units=3))
    assert fixed.tolist() == [6] * 6
    with pytest.raises(ValueError, match="7 formula units of Na1Cl1 are 14 atoms, and the model"):
        asked(Request.of(formula="NaCl", formula_units="1..7"))


def test_a_crystal_to_complete_fills_the_first_slots():
    request = Request.of(complete=SALT, add="1..4", keep_cell=True)
    num_atoms, condition = asked(request)
    known = condition.known
    assert num_atoms.tolist() == [12] * 6
    assert condition.num_atoms.tolist() == [[3, 6]] * 6
    assert known.crystal.atom_types[3, :3].tolist() == [11, 17, 0]
    assert known.coords[3].tolist() == known.types[3].tolist() == [True, True] + [False] * 10
    assert known.lattice.all()
    np.testing.assert_allclose(known.crystal.lattice[0], 4 * np.eye(3), atol=1e-5)
    assert asked(Request.of(complete=SALT))[1].num_atoms.tolist() == [[2, 12]] * 6
    with pytest.raises(ValueError, match="at most 13 are asked, but the model has 12 slots"):
        asked(Request.of(complete=SALT, add=11))


@pytest.mark.parametrize(
    ("wish", "atoms", "missed"),
    [
        ({"elements": "Li,O"}, [3, 8, 8], []),
        ({"elements": "Li,O"}, [3, 26], ["holds Fe"]),
        ({"contain": "Li,Fe"}, [8, 8], ["lacks Li, Fe"]),
        ({"num_atoms": 2}, [8, 8, 8], ["has 3 atoms"]),
        ({"formula": "Li2O"}, [3, 8, 3, 3, 8, 3], []),
        ({"formula": "Li2O"}, [3, 8, 8], ["is not Li2O1"]),
        ({"complete": SALT, "add": 1}, [11, 17], ["has 2 atoms"]),
        ({"complete": SALT}, [11, 17], []),
    ],
)
def test_what_a_crystal_misses(wish, atoms, missed):
    assert Request.of(**wish).missed_by(atoms) == missed
