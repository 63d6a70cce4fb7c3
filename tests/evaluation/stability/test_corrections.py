import numpy as np
import pytest
from pymatgen.core import Composition, Lattice, Structure

from miad_jax.evaluation.stability.corrections import (
    ElementalEnergies,
    choose_for_fit,
    corrected_energy_per_atom,
    fit_elemental_energies,
    guessed_anions,
)
from tests.evaluation.stability.entries import random_entries, rock_salt


def test_fit_finds_the_energies_of_elements(tmp_path):
    compositions, formation = random_entries(4)
    truth = {"Li": -1.9, "Fe": -8.3, "O": -4.9, "Xe": -0.03}
    elemental = [
        sum(truth[str(e)] * x for e, x in c.fractional_composition.items()) for c in compositions
    ]
    fit = fit_elemental_energies(compositions, formation + elemental, formation)
    assert fit.energies_ev == pytest.approx(truth)
    assert fit.num_crystals == len(compositions)
    assert fit.rmse_ev_per_atom < 1e-10
    total = formation[5] + elemental[5]
    found = fit.formation_energy_ev_per_atom(compositions[5], total)
    assert found == pytest.approx(formation[5])
    reason = fit.formation_energy_ev_per_atom(Composition("NaFe"), 0.0)
    assert reason == "the elemental energies lack Na"
    fit.save(tmp_path / "fit.json")
    assert ElementalEnergies.load(tmp_path / "fit.json") == fit


def test_error_of_the_fit():
    compositions = [Composition("Na")] * 3
    fit = fit_elemental_energies(compositions, [-1.0, -1.0, -1.6], [0.0, 0.0, 0.0])
    assert fit.energies_ev["Na"] == pytest.approx(-1.2)
    assert fit.mae_ev_per_atom == pytest.approx(0.8 / 3)
    assert fit.rmse_ev_per_atom == pytest.approx(0.08**0.5)


def test_fit_leaves_out_what_the_crystals_leave_open():
    compositions = [Composition("NaCl"), Composition("Na2Cl2"), Composition("K"), Composition("KO")]
    fit = fit_elemental_energies(compositions, [-3.0, -3.2, -1.0, -3.0], np.zeros(4))
    assert fit.energies_ev == pytest.approx({"K": -1.0, "O": -5.0})


@pytest.mark.parametrize(
    ("total", "formation"), [([], []), ([np.nan], [0.0]), ([0.0], [np.inf]), ([0.0], [])]
)
def test_fit_refuses_what_it_cannot_fit(total, formation):
    with pytest.raises(ValueError, match=r"elemental energies need finite|there are"):
        fit_elemental_energies([Composition("Na")] * len(total), total, formation)


def test_damaged_fit_is_refused(tmp_path):
    (tmp_path / "fit.json").write_text('{"energies": 1}')
    with pytest.raises(ValueError, match=r"fit\.json holds no elemental energies"):
        ElementalEnergies.load(tmp_path / "fit.json")


def test_few_crystals_show_every_element():
    rng = np.random.default_rng(0)
    symbols = np.array(["Li", "Na", "K", "Rb", "Cl", "Br", "I", "O"])
    compositions = [
        Composition(dict.fromkeys(rng.choice(symbols, 2, replace=False), 1)) for _ in range(500)
    ]
    chosen = choose_for_fit(compositions, num_per_element=5)
    counts = {s: sum(s in compositions[i] for i in chosen) for s in symbols}
    assert chosen == sorted(chosen)
    assert min(counts.values()) >= 5
    assert len(chosen) <= 5 * len(symbols)
    assert choose_for_fit([Composition("NaCl")] * 3) == [0, 1, 2]


# Corrections in eV/atom of the element, from Wang et al. (2021), as pymatgen ships them.
@pytest.mark.parametrize(
    ("structure", "correction"),
    [
        (rock_salt("Na", "Cl"), -0.614 / 2),
        (rock_salt("Mg", "O"), -0.687 / 2),
        (rock_salt("Fe", "O"), (-0.687 - 2.256) / 2),
        (rock_salt("Cu", "Au"), 0.0),
        (Structure(Lattice.cubic(3), ["O"], [[0, 0, 0]]), 0.0),
    ],
)
def test_corrections(structure, correction):
    assert corrected_energy_per_atom(structure, -5.0) == pytest.approx(-5.0 + correction, abs=1e-9)


def test_a_hubbard_u_or_pseudopotential_of_others_is_a_reason():
    structure = rock_salt("Fe", "O")
    good = corrected_energy_per_atom(
        structure, -5.0, hubbards={"Fe": 5.3, "O": 0.0}, potcar_symbols=["Fe_pv", "O"]
    )
    assert good == corrected_energy_per_atom(structure, -5.0)
    without_u = corrected_energy_per_atom(structure, -5.0, hubbards={})
    assert "Invalid U value of 0.0 on Fe, expected 5.3" in without_u
    assert len(without_u) < 200
    other = corrected_energy_per_atom(structure, -5.0, potcar_symbols=["Fe", "O"])
    assert "Incompatible POTCAR" in other


def stretched_peroxide(distance):
    """Li2O2 in a cell in which its two oxygen atoms are this far apart, in Å."""
    far = distance / 8
    coords = [[0, 0, 0], [0, 0, far], [0.5, 0.5, 0], [0.5, 0, 0.5]]
    return Structure(Lattice.cubic(8), ["O", "O", "Li", "Li"], coords)


@pytest.mark.parametrize(
    ("distance", "correction"),
    [
        (1.30, -0.161),  # superoxide
        (1.50, -0.465),  # peroxide
        (1.60, -0.465),  # stretched: beyond 1.05 and within 1.1 times 1.49 Å
        (1.70, -0.687),  # oxide
    ],
)
def test_a_stretched_peroxide_is_one_as_in_the_materials_projects_entries(distance, correction):
    found = corrected_energy_per_atom(stretched_peroxide(distance), -4.0)
    assert found == pytest.approx(-4.0 + correction / 2, abs=1e-9)


def ordered(formula):
    """Atoms of a formula on a line, far apart."""
    symbols = [str(e) for e, n in Composition(formula).items() for _ in range(int(n))]
    lattice = Lattice.orthorhombic(3.0 * len(symbols), 3, 3)
    return Structure(lattice, symbols, [[i / len(symbols), 0, 0] for i in range(len(symbols))])


def test_an_anion_that_pymatgen_only_guesses_is_said():
    # Silver is a little more electronegative than silicon.
    assert corrected_energy_per_atom(ordered("AgSi"), -4.0) == -4.0
    assert guessed_anions(Composition("AgSi")).endswith("and Si got no correction as an anion")
    for certain in ("NaCl", "NbClBrO", "Cu5Sb", "Si", "Li2O2"):
        assert guessed_anions(Composition(certain)) == ""


def test_an_element_without_electronegativity_is_a_reason():
    found = corrected_energy_per_atom(ordered("HeNa2O"), -4.0)
    assert found.startswith("the energy cannot be corrected as the Materials Project's: He has no")


def test_a_lone_anion_needs_no_oxidation_states():
    assert Composition("Cu5Sb").oxi_state_guesses(max_sites=-20) == ()
    found = corrected_energy_per_atom(ordered("Cu5Sb"), -4.0)
    assert found == pytest.approx(-4.0 - 0.192 / 6, abs=1e-9)
