import csv
import gzip
import itertools
import math
import re
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Element

from miad_jax.evaluation.validity import composition
from miad_jax.evaluation.validity.composition import balances, valid_composition


def atoms(formula):
    """Atomic numbers of the atoms of a formula."""
    amounts = Composition(formula).get_el_amt_dict().items()
    return np.concatenate([[Element(x).Z] * int(n) for x, n in amounts]).astype(int)


def by_definition(atom_types):
    """The metric's loop over all combinations, with SMACT's own tests of each."""
    smact = pytest.importorskip("smact")
    from smact.screening import pauling_test

    numbers, counts = np.unique(atom_types, return_counts=True)
    counts = (counts // np.gcd.reduce(counts)).tolist()
    symbols = [Element.from_Z(int(z)).symbol for z in numbers]
    elements = [smact.Element(symbol) for symbol in symbols]
    if len(elements) == 1 or all(symbol in smact.metals for symbol in symbols):
        return True
    states = [x.oxidation_states_smact14 or [] for x in elements]
    chi = [x.pauling_eneg for x in elements]
    if math.prod(map(len, states)) > 1e7:
        return False
    ratios = [(n,) for n in counts]
    return any(
        smact.neutral_ratios(choice, stoichs=ratios, threshold=max(counts))
        and pauling_test(choice, chi)
        for choice in itertools.product(*states)
    )


def naive(oxidation_states, electronegativities, counts):
    """The rule in one sentence."""
    for choice in itertools.product(*oxidation_states):
        cations = [x for x, s in zip(electronegativities, choice, strict=True) if s > 0]
        anions = [x for x, s in zip(electronegativities, choice, strict=True) if s < 0]
        neutral = sum(s * n for s, n in zip(choice, counts, strict=True)) == 0
        if neutral and all(x < y for x in cations for y in anions):
            return True
    return False


ELEMENTS = st.lists(
    st.tuples(
        st.lists(st.integers(-4, 5), max_size=4, unique=True),
        st.sampled_from([0.8, 1.5, 1.5001, 2.2, 3.4]),
        st.integers(1, 4),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=400)
@given(ELEMENTS)
def test_balances_equals_the_loop_over_combinations(elements):
    states, chi, counts = zip(*elements, strict=True)
    assert balances(states, chi, counts) == naive(states, chi, counts)


@pytest.mark.parametrize(
    ("states", "chi", "counts", "expected"),
    [
        ([[1], [-1]], [0.9, 3.2], [1, 1], True),
        ([[1], [-1]], [3.2, 0.9], [1, 1], False),  # the cation is the more electronegative
        ([[1], [-1]], [2.0, 2.0], [1, 1], False),  # neither is
        ([[1], [-1]], [0.9, 3.2], [1, 2], False),
        ([[1, 2], [-1]], [0.9, 3.2], [1, 2], True),
        ([[0], [0]], [0.9, 3.2], [1, 2], True),  # no ion at all
        ([[], [-1, 1]], [0.9, 3.2], [1, 1], False),
        ([[1], [2], [-1, 1]], [0.9, 1.5, 3.2], [1, 1, 3], True),
    ],
)
def test_balances(states, chi, counts, expected):
    assert balances(states, chi, counts) is expected
    assert naive(states, chi, counts) is expected


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("NaCl", True),
        ("Na4Cl4", True),
        ("SrTiO3", True),
        ("Fe3O4", False),  # Fe2+ and Fe3+: one state an element cannot balance it
        ("NaCl2", False),
        ("Na2Cl", False),
        ("Si", True),
        ("C60", True),
        ("He", True),
        ("Cu3Au", True),  # an alloy
        ("Nb3Sn", True),
        ("NaHe2", False),
        ("HeNe", False),
        ("ArO2", False),
        ("NeF", False),
    ],
)
def test_known_compositions(formula, expected):
    pytest.importorskip("smact")
    assert valid_composition(atoms(formula)) is expected


@pytest.mark.parametrize("number", range(1, 119))
def test_every_element_is_judged(number):
    pytest.importorskip("smact")
    known = number <= 103
    assert valid_composition(np.full(3, number)) is known
    if number not in (8, 9):
        pairs = [np.array([number, other] + [other] * n) for other in (8, 9) for n in range(4)]
        for pair in pairs:
            expected = by_definition(pair) if known else False
            assert valid_composition(pair) is expected


def test_random_compositions_equal_the_definition():
    pytest.importorskip("smact")
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        elements = rng.choice(np.arange(1, 95), rng.integers(2, 5), replace=False)
        atom_types = np.repeat(elements, rng.integers(1, 5, len(elements)))
        found.append(valid_composition(rng.permutation(atom_types)))
        assert found[-1] == by_definition(atom_types)
    assert 0.1 < np.mean(found) < 0.9  # both answers were put to the test


def test_too_many_combinations_are_invalid(monkeypatch):
    pytest.importorskip("smact")
    many = np.array([7, 8, 15, 16, 17, 23, 24, 25, 42, 44, 53, 74, 75, 76])
    assert valid_composition(many) is False
    composition._valid.cache_clear()
    monkeypatch.setattr(composition, "MAX_COMBINATIONS", math.inf)
    assert valid_composition(many) is True
    composition._valid.cache_clear()


def test_no_atom_is_no_composition():
    assert valid_composition(np.array([], int)) is False


@pytest.mark.parametrize("number", [0, -3])
def test_mirage_atoms_are_refused(number):
    with pytest.raises(ValueError, match=rf"holds {number}; allowed are atomic numbers from 1"):
        valid_composition(np.array([11, number]))


def test_without_smact(monkeypatch):
    composition._element.cache_clear()
    composition._valid.cache_clear()
    monkeypatch.setitem(sys.modules, "smact", None)
    with pytest.raises(ValueError, match=r'pip install "miad_jax\[eval\]"'):
        valid_composition(np.array([11, 17]))


def test_share_on_real_crystals(real_data):
    pytest.importorskip("smact")
    with gzip.open(real_data / "mp_20_slice" / "val.csv.gz", "rt") as file:
        cifs = [row["cif"] for row in csv.DictReader(file)]
    formulas = [re.search(r"_chemical_formula_sum\s+'?([^'\n]+)", cif) for cif in cifs]
    valid = [valid_composition(atoms(found[1])) for found in formulas if found]
    assert len(valid) == 1000
    assert np.mean(valid) == pytest.approx(0.896, abs=0.02)
