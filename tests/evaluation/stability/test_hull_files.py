import csv
import gzip
import json
import pickle
import sys

import pytest
from monty.serialization import dumpfn
from pymatgen.analysis import phase_diagram
from pymatgen.core import Composition
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

from miad_jax.evaluation.stability.hull_files import (
    FORMATION_COLUMNS,
    hull_from_entries,
    hull_from_table,
    read_elemental_energies,
    read_hull,
)
from tests.evaluation.stability.entries import random_entries, rock_salt


def computed_entries():
    compositions, energies = random_entries(3)
    totals = [e * c.num_atoms for c, e in zip(compositions, energies, strict=True)]
    entries = [
        ComputedEntry(c, total, correction=-0.03 * i, entry_id=f"mp-{i}")
        for i, (c, total) in enumerate(zip(compositions, totals, strict=True))
    ]
    return [*entries, ComputedStructureEntry(rock_salt("Fe", "O"), -6.0)]


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


SODIUM_AND_CHLORINE = [ComputedEntry("Na", -1.3), ComputedEntry("Cl", -1.8)]


@pytest.mark.parametrize("adjustment", [
    {"@class": "ManualEnergyAdjustment", "value": -0.4},
    {"@class": "CompositionEnergyAdjustment", "adj_per_atom": -0.1, "n_atoms": 4},
    {"@class": "TemperatureEnergyAdjustment", "adj_per_deg": -0.001, "temp": 100, "n_atoms": 4},
])  # fmt: skip
@pytest.mark.parametrize("correction", [0.0, -0.4, None])
def test_adjustments_are_the_correction(tmp_path, adjustment, correction):
    salt = {"composition": {"Na": 1, "Cl": 1}, "energy": -6.4, "energy_adjustments": [adjustment]}
    salt |= {} if correction is None else {"correction": correction}
    dumpfn([*SODIUM_AND_CHLORINE, salt], tmp_path / "entries.json")
    hull = hull_from_entries(tmp_path / "entries.json")
    assert hull.e_above_hull_ev_per_atom(Composition("NaCl"), -3.3) == pytest.approx(0.1)
    assert "1 of them with an energy correction" in hull.definition


@pytest.mark.parametrize("kind", ["GibbsComputedStructureEntry", "ExpEntry", "SlabEntry"])
def test_energies_of_another_kind_are_refused(tmp_path, kind):
    other = {"@class": kind, "composition": {"Na": 1, "Cl": 1}, "energy": -6.4}
    dumpfn([*SODIUM_AND_CHLORINE, other], tmp_path / "entries.json")
    with pytest.raises(ValueError, match=f"a {kind} is of another kind of energy"):
        hull_from_entries(tmp_path / "entries.json")


def test_no_element_is_at_zero_but_a_noble_gas(tmp_path):
    entries = [*SODIUM_AND_CHLORINE, ComputedEntry("NaCl", -6.8), ComputedEntry("He", 0.002)]
    dumpfn(entries, tmp_path / "entries.json")
    assert "He" in hull_from_entries(tmp_path / "entries.json").elements
    dumpfn([*entries, ComputedEntry("K", 0)], tmp_path / "entries.json")
    for read in (hull_from_entries, read_elemental_energies):
        with pytest.raises(ValueError, match="0 eV/atom"):
            read(tmp_path / "entries.json")


@pytest.mark.parametrize("header", [
    "formula,formula,formation_energy_per_atom", "formula, e_form_hull,e_form_hull",
])  # fmt: skip
def test_two_columns_of_one_name_are_refused(tmp_path, header):
    dumpfn(SODIUM_AND_CHLORINE, tmp_path / "elements.json")
    (tmp_path / "hull.csv").write_text(f"{header}\nNaCl,-1.7,-1.0\n")
    with pytest.raises(ValueError, match="has two columns"):
        hull_from_table(tmp_path / "hull.csv", tmp_path / "elements.json")


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
        (b"[" * 100_000, "cannot be read"),
        (b'[{"composition": {"Na": 1}, "energy": ' + b"9" * 5000 + b"}]", "cannot be read"),
        (b'[{"composition": {"Na": 1}, "energy": ' + b"9" * 400 + b"}]", "cannot be used"),
        (b'[{"composition": {"Na": 1}, "energy": -1, "correction": "x"}]', "cannot be used"),
        (b'[{"composition": {"Na": 1}, "energy": -1, "correction": [1]}]', "cannot be used"),
        (b'[{"composition": {"Na": 1}, "energy": null, "correction": 0}]', "cannot be used"),
        (b'[{"composition": {"Na": 1}, "energy": "low", "@class": "PDEntry"}]', "cannot be used"),
        (
            b'[{"composition": {"Na": 1}, "energy": true, "correction": 0}]',
            "true or false",
        ),
        (b'[{"composition": {"Na": "x"}, "energy": -1}]', "cannot be used"),
        (b'[{"composition": {"Na": null}, "energy": -1}]', "cannot be used"),
        (b'[{"composition": {"Na": [1]}, "energy": -1}]', "cannot be used"),
        (b'[{"composition": {"Na": -1}, "energy": -1}]', "cannot be used"),
        (b'[{"composition": {"Na": 1e400}, "energy": -1}]', "cannot be used"),
        (b'[{"composition": {"Na": NaN}, "energy": -1}]', "cannot be used"),
        (b'[{"composition": {"Qq": 1}, "energy": -1}]', "cannot be used"),
        (b'[{"composition": {"X": 1}, "energy": -1}]', "cannot be used"),
        (b'[{"composition": {"": 1}, "energy": -1}]', "cannot be used"),
        (b'[{"composition": {}, "energy": -1}]', "cannot be used"),
        (b'[{"composition": "Na((", "energy": -1}]', "cannot be used"),
        (b'[{"composition": "", "energy": -1}]', "cannot be used"),
        (b'{"a": 3, "b": [null, true, "x"]}', "holds 0 computed entries"),
        (gzip.compress(bytes(70_000_000), mtime=0), "unpacks to more than 64000000 bytes"),
        (
            b'[{"composition": {"Na": 1}, "energy": NaN}]',
            "entry of .*Na.* cannot be used .*no finite energy",
        ),
    ],
)
def test_what_is_no_list_of_entries_is_refused(tmp_path, content, message):
    (tmp_path / "hull.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        hull_from_entries(tmp_path / "hull.json")


def test_charges_and_depth_say_nothing(tmp_path):
    """Tools that guess oxidation states write ions; what nests deeply is read all the same."""
    entries = [
        {"composition": {"Na+": 1, "Cl-": 1}, "energy": -7.0, "correction": None},
        {"composition": {"Na0+": 2.0}, "energy": -2.6},
        {"composition": "Cl2", "energy": -3.6, "correction": 0},
    ]
    content = json.dumps(entries)
    for _ in range(400):
        content = f"[{content}]"
    (tmp_path / "hull.json").write_text(content)
    hull = hull_from_entries(tmp_path / "hull.json")
    assert hull.elements == {"Na", "Cl"}
    assert hull.e_above_hull_ev_per_atom(Composition("NaCl"), -3.5) == pytest.approx(0)


ELEMENTS = {"Na": -1.3, "Cl": -1.8, "K": -1.1}


def entry(formula, energy_per_atom, **settings):
    composition = Composition(formula)
    return ComputedEntry(composition, energy_per_atom * composition.num_atoms, **settings)


def elements_file(folder, energies=ELEMENTS):
    path = folder / "elements.json.gz"
    dumpfn({symbol: entry(symbol, energy) for symbol, energy in energies.items()}, path)
    return path


def table_file(folder, rows, header=("formula", "e_form_hull", "kind"), name="hull.csv.gz"):
    path = folder / name
    opened = gzip.open(path, "wt") if name.endswith("gz") else path.open("w")
    with opened as file:
        csv.writer(file).writerows([header, *rows])
    return path


ROWS = [("NaCl", -2.1, "exact"), ("Na2Cl2", -2.0, ""), ("KCl", "-2.2", ""), ("Na3K", "", "")]


def test_a_table_and_the_elements_make_a_hull_of_formation_energies(tmp_path):
    hull = hull_from_table(table_file(tmp_path, ROWS), elements_file(tmp_path))
    assert hull.scale == "formation"
    assert hull.elemental.energies_ev == ELEMENTS
    assert hull.elements == set(ELEMENTS)
    assert hull.definition == (
        "formation energies (e_form_hull) of the 3 rows of hull.csv.gz, 1 rows without an energy "
        "left out; those of the samples are corrected total energies less the entries of 3 "
        "elements in elements.json.gz"
    )
    found = hull.e_above_hull_ev_per_atom(Composition("NaKCl2"), -2.0)
    assert found == pytest.approx(-2.0 + (2.1 + 2.2) / 2)
    assert hull.num_competing_phases(Composition("NaKCl2")) == 2
    assert hull.num_competing_phases(Composition("NaK")) == 0


@pytest.mark.parametrize("column", FORMATION_COLUMNS)
def test_the_names_of_the_column(tmp_path, column):
    path = table_file(tmp_path, [(-2.1, "NaCl")], header=(column, " formula"), name="hull.csv")
    hull = read_hull(path, elements_file(tmp_path))
    assert hull.e_above_hull_ev_per_atom(Composition("NaCl"), -2.1) == 0


def test_sodium_nitride_is_a_formula_and_not_a_missing_value(tmp_path):
    path = table_file(tmp_path, [("NaN", -0.1, "")])
    hull = hull_from_table(path, elements_file(tmp_path, {"Na": -1.3, "N": -8.3}))
    assert hull.e_above_hull_ev_per_atom(Composition("NaN"), 0.1) == pytest.approx(0.2)


def test_rows_with_elements_that_have_no_entry_are_counted(tmp_path):
    path = table_file(tmp_path, [*ROWS, ("PoO2", -1.0, "")])
    hull = hull_from_table(path, elements_file(tmp_path))
    assert "1 of them hold O, Po, of which is no entry" in hull.definition
    assert hull.e_above_hull_ev_per_atom(Composition("PoO2"), 0) == "the hull has no entry of O, Po"


@pytest.mark.parametrize(
    ("rows", "header", "said"),
    [
        (ROWS, ("formula", "energy", "kind"), "has the columns formula, energy, kind; needed are"),
        (ROWS, ("name", "e_form_hull", "kind"), "has the columns name, e_form_hull, kind"),
        (
            [("NaCl", -2, -2)],
            ("formula", "e_form_hull", "formation_energy_per_atom"),
            "exactly one of e_form_hull, formation_energy_per_atom",
        ),
        ([("NaCl", "low", "")], None, "line 2: could not convert string to float: 'low'"),
        ([("NaCl", -2, ""), ("nacl", -2, "")], None, "line 3: nacl is an invalid formula"),
        ([("NaCl", "inf", "")], None, "line 2: 'NaCl' is at inf eV/atom"),
        ([("NaCl", "", "")], None, "holds no row with an energy"),
        ([("NaCl", -2, ""), ("Na", -1.3, "")], None, "Na1 is at -1.3 eV/atom .* element is 0"),
        ([("NaCl", -2, ""), ("HfC", -10.6, "")], None, "lowest energy of e_form_hull .* -10.6"),
        ([("NaCl", 3.4, "")], None, "half the energies of e_form_hull .* above 3.4"),
    ],
)
def test_a_table_that_cannot_be_a_hull_says_why(tmp_path, rows, header, said):
    path = table_file(tmp_path, rows, header or ("formula", "e_form_hull", "kind"))
    with pytest.raises(ValueError, match=said):
        hull_from_table(path, elements_file(tmp_path))


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([entry("NaCl", -3.4)], "holds no entry of an element"),
        ([entry("Na", 0.0), entry("Cl", 0.0)], "holds elements at or near 0 eV/atom"),
        ([entry("Na", -0.02), entry("Cl", -0.05)], "holds elements at or near 0 eV/atom"),
    ],
)
def test_elements_without_total_energies_are_refused(tmp_path, entries, said):
    dumpfn(entries, tmp_path / "elements.json")
    with pytest.raises(ValueError, match=said):
        read_elemental_energies(tmp_path / "elements.json")


def test_the_lowest_entry_of_an_element_counts(tmp_path):
    dumpfn([entry("Na4", -1.3), entry("Na", -1.2), entry("NaCl", -3)], tmp_path / "all.json")
    assert read_elemental_energies(tmp_path / "all.json").energies_ev == {"Na": -1.3}


def test_a_table_and_the_elements_belong_together(tmp_path):
    table, elements = table_file(tmp_path, ROWS), elements_file(tmp_path)
    with pytest.raises(ValueError, match="is a table of formation energies, and no --elements"):
        read_hull(table)
    with pytest.raises(ValueError, match="--elements belong to a table"):
        read_hull(elements, elements)
    with pytest.raises(FileNotFoundError):
        read_hull(tmp_path / "none.csv", elements)
    (tmp_path / "bad.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match=r"bad\.csv\.gz cannot be read"):
        read_hull(tmp_path / "bad.csv.gz", elements)


@pytest.mark.parametrize(
    ("energies", "said"),
    [
        ({"NaCl": -3.9, "KCl": -3.9, "K3Na": -3.9}, "no entry of Cl, K, Na, so that no compound"),
        (
            {"Na": 0.0, "Cl": 0.0, "NaCl": -3.9},
            r"elements in .* at or near 0 eV/atom.*give a CSV table",
        ),
        ({"Na": -0.02, "Cl": -1.8, "NaCl": -3.9}, r"elements in .* near 0 eV/atom \(Na\)"),
        ({"Hf": -9.9, "F": -1.8, "HfF4": -4.2, "HfF": -9.0}, None),
        ({"Na": -1.3, "Cl": -1.8, "NaCl": -9.0}, "lowest energy of .* is -7.45 eV/atom"),
        ({"Hf": -9.9, "C": -9.2, "HfC": -1.1}, "half the energies of .* above 8.45 eV/atom"),
    ],
)
def test_formation_energies_are_not_taken_for_total_ones(tmp_path, energies, said):
    path = tmp_path / "hull.json"
    dumpfn([entry(formula, energy) for formula, energy in energies.items()], path)
    if said is None:
        assert hull_from_entries(path).elements == {"Hf", "F"}
        return
    with pytest.raises(ValueError, match=said):
        hull_from_entries(path)


def test_entries_without_corrections_and_elements_without_entry_are_said(tmp_path):
    energies = {**ELEMENTS, "NaCl": -3.4, "PoCl2": -3.0}
    dumpfn([entry(*x) for x in energies.items()], tmp_path / "hull.json")
    definition = hull_from_entries(tmp_path / "hull.json").definition
    assert definition.startswith("total energies of the 5 entries of hull.json, none of them with")
    assert "unless they are corrected already, too many crystals seem stable" in definition
    assert definition.endswith("; 1 of them hold Po, of which is no entry")


def test_the_database_of_the_entries_is_named(tmp_path):
    entries = [entry(*x).as_dict() for x in ELEMENTS.items()]
    content = {"database_version": "2026.10.1", "entries": entries}
    (tmp_path / "hull.json").write_text(json.dumps(content))
    definition = hull_from_entries(tmp_path / "hull.json").definition
    assert "3 entries of hull.json, Materials Project 2026.10.1, none" in definition
