import gzip
import json
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monty.serialization import dumpfn
from pymatgen.analysis import phase_diagram
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.core.entries import ComputedEntry, ComputedStructureEntry
from scipy.optimize import linprog

from miad_jax.evaluation.stability import hull as hull_module
from miad_jax.evaluation.stability.corrections import (
    ElementalEnergies,
    choose_for_fit,
    corrected_energy_per_atom,
    fit_elemental_energies,
)
from miad_jax.evaluation.stability.hull import Hull, hull_from_dataset, hull_from_entries

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


def computed_entries():
    compositions, energies = random_entries(3)
    totals = [e * c.num_atoms for c, e in zip(compositions, energies, strict=True)]
    entries = [
        ComputedEntry(c, total, correction=-0.3 * i, entry_id=f"mp-{i}")
        for i, (c, total) in enumerate(zip(compositions, totals, strict=True))
    ]
    return [*entries, ComputedStructureEntry(rock_salt("Fe", "O"), -30.0)]


@pytest.mark.parametrize("name", ["entries.json", "entries.json.gz", "gzipped_all_the_same.json"])
def test_entries_are_read_as_pymatgen_reads_them(tmp_path, name):
    entries = computed_entries()
    path = tmp_path / name
    dumpfn(entries, path)
    if name.startswith("gzipped"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    hull = hull_from_entries(path)
    assert hull.scale == "total"
    assert f"{len(entries)} entries of {name}, {len(entries) - 2} of them" in hull.definition
    diagram = phase_diagram.PhaseDiagram(entries)
    for entry in entries:
        found = hull.e_above_hull_ev_per_atom(entry.composition, entry.energy_per_atom)
        assert found == pytest.approx(diagram.get_e_above_hull(entry), abs=1e-9)


def test_entries_are_found_in_a_table_and_without_correction(tmp_path):
    entries = [phase_diagram.PDEntry("Na", -1.0), phase_diagram.PDEntry("Na2", -3.0)]
    column = {str(i): entry.as_dict() for i, entry in enumerate(entries)}
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"material_id": {"0": "a", "1": "b"}, "entry": column}))
    hull = hull_from_entries(path)
    assert hull.e_above_hull_ev_per_atom(Composition("Na"), -1.0) == pytest.approx(0.5)


def test_nothing_in_a_json_file_is_executed(tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text("class Evil:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    evil = {"@module": "evil_module", "@class": "Evil"}
    entry = ComputedEntry("Na", -1.0).as_dict() | {"data": {"x": evil}, "parameters": evil}
    (tmp_path / "entries.json").write_text(json.dumps([entry, evil]))
    hull_from_entries(tmp_path / "entries.json")
    assert "evil_module" not in sys.modules


class Bomb:
    def __reduce__(self):
        return exec, ("import sys; sys.bomb_went_off = True",)


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("hull.pkl", 0),
        ("hull.pkl.gz", 0),
        ("hull.PICKLE", 0),
        ("hull.json", 4),
        ("hull.json.gz", 5),
    ],
)
def test_a_pickle_is_refused_unread(tmp_path, name, protocol):
    content = pickle.dumps(Bomb(), protocol)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(ValueError, match=r"is a pickle.*dumpfn\(diagram.all_entries"):
        hull_from_entries(tmp_path / name)
    assert not hasattr(sys, "bomb_went_off")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"\x1f\x8bno gzip", "cannot be read"),
        (b"material_id,energy\n", "cannot be read"),
        (b"[]", "holds 0 computed entries"),
        (b'[{"composition": {"Na": 1}, "energy": NaN}]', "or some of no finite energy"),
    ],
)
def test_what_is_no_list_of_entries_is_refused(tmp_path, content, message):
    (tmp_path / "hull.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        hull_from_entries(tmp_path / "hull.json")


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
    assert reason == "the fitted elemental energies lack Na"
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
