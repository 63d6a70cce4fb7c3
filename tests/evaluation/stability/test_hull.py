import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.analysis import phase_diagram
from pymatgen.core import Composition
from scipy.optimize import linprog

from miad_jax.evaluation.stability import hull as hull_module
from miad_jax.evaluation.stability.hull import Hull, hull_from_dataset
from tests.evaluation.stability.entries import SYMBOLS, random_entries


def distance_by_linear_programme(compositions, energies, composition, energy, symbols=SYMBOLS):
    """Energy less the lowest energy of any mixture of the entries with the same composition."""
    shares = np.array([[c.get_atomic_fraction(s) for s in symbols] for c in compositions])
    target = [composition.get_atomic_fraction(s) for s in symbols]
    return energy - linprog(energies, A_eq=shares.T, b_eq=target, bounds=(0, None)).fun


@given(seed=st.integers(0, 2**31))
def test_distance_is_to_the_best_mixture(seed):
    compositions, energies = random_entries(seed)
    hull = Hull(zip(compositions, energies, strict=True), "total", "random")
    for text in ("LiFeO2", "FeO", "Xe", "LiFe2O3Xe"):
        composition = Composition(text)
        expected = distance_by_linear_programme(compositions, energies, composition, -1.5)
        found = hull.e_above_hull_ev_per_atom(composition, -1.5)
        assert found == pytest.approx(expected, abs=1e-8)


def test_an_entry_lies_on_or_above_the_hull_and_a_better_one_below():
    compositions, energies = random_entries(1)
    hull = Hull(zip(compositions, energies, strict=True), "total", "random")
    pairs = list(zip(compositions, energies, strict=True))
    distances = [hull.e_above_hull_ev_per_atom(*pair) for pair in pairs]
    assert min(distances) == pytest.approx(0, abs=1e-9)
    assert max(distances) > 0.1
    for (composition, energy), distance in zip(pairs, distances, strict=True):
        below = hull.e_above_hull_ev_per_atom(composition, energy - distance - 0.25)
        assert below == pytest.approx(-0.25, abs=1e-9)


def test_order_and_size_of_cells_do_not_matter():
    compositions, energies = random_entries(2)
    hulls = [
        Hull(zip(compositions, energies, strict=True), "total", ""),
        Hull(zip([2 * c for c in compositions[::-1]], energies[::-1], strict=True), "total", ""),
    ]
    a, b = (hull.e_above_hull_ev_per_atom(Composition("Li2FeO3"), 0.0) for hull in hulls)
    assert a == pytest.approx(b, abs=1e-12)


def test_many_elements_are_as_exact_as_few(monkeypatch):
    symbols = ("Li", "Na", "Mg", "Al", "Fe", "O", "F")
    compositions, energies = random_entries(5, symbols, num=30)
    composition = Composition("Li2NaMgAlFeO4F")
    assert len(composition) > hull_module.MAX_DIAGRAM_ELEMENTS
    hull = Hull(zip(compositions, energies, strict=True), "total", "random")
    found = hull.e_above_hull_ev_per_atom(composition, -3.0)
    monkeypatch.setattr(hull_module, "MAX_DIAGRAM_ELEMENTS", 7)
    assert found == pytest.approx(hull.e_above_hull_ev_per_atom(composition, -3.0), abs=1e-9)


def test_rounding_makes_no_crystal_stable():
    hull = hull_from_dataset([Composition("Na3Cl"), Composition("NaCl")], [-1.0, -2.0])
    assert hull.e_above_hull_ev_per_atom(Composition("Na6Cl2"), -1.0 - 1e-12) == 0.0
    assert hull.e_above_hull_ev_per_atom(Composition("Na6Cl2"), -1.0 - 1e-6) < 0


def test_reasons_where_there_is_no_distance():
    hull = hull_from_dataset([Composition("NaCl")], [-2.0])
    assert hull.elements == {"Na", "Cl"}
    assert hull.e_above_hull_ev_per_atom(Composition("KHe"), 0.0) == (
        "the hull has no entry of He, K"
    )
    assert hull.e_above_hull_ev_per_atom(Composition("NaCl"), np.nan) == "the energy is nan"


def test_competing_phases_are_the_compounds_within_a_chemical_system():
    formulas = ["Li", "O", "Li2O", "Li4O2", "Li2O2", "LiO", "FeO", "Li5FeO4", "NeO"]
    hull = Hull([(Composition(x), -1.0) for x in formulas], "total", "")
    counted = {x: hull.num_competing_phases(Composition(x)) for x in ("Li", "LiO3", "LiFeO2", "Ne")}
    # To pymatgen LiO is Li2O2.
    assert counted == {"Li": 0, "LiO3": 2, "LiFeO2": 4, "Ne": 0}


def test_a_chemical_system_is_built_once(monkeypatch):
    built = []

    class Counted(phase_diagram.PhaseDiagram):
        def __init__(self, *args):
            built.append(args)
            super().__init__(*args)

    monkeypatch.setattr(phase_diagram, "PhaseDiagram", Counted)
    hull = hull_from_dataset([Composition("NaCl"), Composition("KCl")], [-2.0, -2.1])
    for formula in ("NaCl", "Na2Cl", "NaKCl2", "KCl", "NaCl3"):
        assert isinstance(hull.e_above_hull_ev_per_atom(Composition(formula), 0.0), float)
    assert len(built) == 3


def test_dataset_hull_holds_the_elements_at_zero():
    compositions = [Composition("NaCl"), Composition("Na2Cl2"), Composition("Na3Cl")]
    hull = hull_from_dataset(compositions, [-2.0, -1.0, np.nan])
    assert hull.scale == "formation"
    assert "2 crystals" in hull.definition
    assert "more crystals seem stable" in hull.definition
    assert hull.e_above_hull_ev_per_atom(Composition("Na"), 0.03) == pytest.approx(0.03)
    # NaCl is the hull; Na3Cl lies half way to the element.
    assert hull.e_above_hull_ev_per_atom(Composition("NaCl"), -2.5) == pytest.approx(-0.5)
    assert hull.e_above_hull_ev_per_atom(Composition("Na3Cl"), 0.0) == pytest.approx(1.0)


def test_dataset_hull_refuses_what_is_no_dataset():
    with pytest.raises(ValueError, match="formation_energy_per_atom"):
        hull_from_dataset([Composition("NaCl")], [np.nan])
    with pytest.raises(ValueError, match="1 compositions, 2 energies"):
        hull_from_dataset([Composition("NaCl")], [1.0, 2.0])
