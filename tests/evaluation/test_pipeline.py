"""From samples of any kind to rates: what is counted, whom a sample matches, what is said."""

import gzip
import json
import zipfile
from dataclasses import replace

import ase.io
import numpy as np
import pytest
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.core.entries import ComputedEntry

from miad_jax.data import Records, available_splits, from_structures, to_atoms
from miad_jax.evaluation.metrics import is_sun
from miad_jax.evaluation.novelty.matching import match
from miad_jax.evaluation.pipeline import Energies, cutoffs, judge
from miad_jax.evaluation.reference import Reference, compositions, load_reference
from miad_jax.evaluation.report.files import tables_text
from miad_jax.evaluation.samples import load_samples
from miad_jax.evaluation.stability.corrections import ElementalEnergies
from miad_jax.evaluation.stability.dft import DftEnergy
from miad_jax.evaluation.stability.energies import dft_columns
from miad_jax.evaluation.stability.hull import hull_from_dataset, hull_from_entries
from miad_jax.evaluation.stability.relax import Relaxation


def rocksalt(cation, anion, length):
    lattice = Lattice.cubic(length)
    return Structure.from_spacegroup("Fm-3m", lattice, [cation, anion], [[0, 0, 0], [0.5, 0, 0]])


NACL = rocksalt("Na", "Cl", 5.64)
KCL = rocksalt("K", "Cl", 6.29)
MGO = rocksalt("Mg", "O", 4.21)
CSCL = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CSCL_AS_NACL = rocksalt("Cs", "Cl", 7.0)
IRON = Structure(Lattice.cubic(2.87), ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]])
OVERLAPPING = Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.05, 0, 0]])


def moved(structure):
    """The same crystal, told otherwise: a supercell, shifted and a little strained."""
    other = structure.copy() * (2, 1, 1)
    other.translate_sites(range(len(other)), [0.13, 0.2, 0.31])
    return other.apply_strain(0.01, inplace=False)


@pytest.fixture(scope="module")
def reference():
    train = from_structures([s.get_primitive_structure() for s in (KCL, MGO, IRON)])
    records = Records(["kcl", "mgo", "iron"], {}, (), "abc")
    energies = np.array([-2.2, -3.0, 0.0])
    return Reference("made", train, records, None, [train], energies, "abc")


SAMPLES = [NACL, moved(NACL), moved(KCL), None, CSCL, CSCL_AS_NACL, IRON, OVERLAPPING]


@pytest.fixture(scope="module")
def judged(reference):
    return judge(load_samples(SAMPLES), reference)


def column(judgement, name):
    return [row[name] for row in judgement.rows]


def rate(judgement, table, name):
    found = next(x for x in judgement.tables[table] if x.name == name)
    return found.count, found.total


def test_every_sample_has_a_row_and_counts_in_every_denominator(judged):
    assert column(judged, "id") == list("01234567")
    assert column(judged, "reason")[3] == "no crystal was given"
    assert rate(judged, "Validity", "read") == (7, 8)
    assert rate(judged, "Validity", "valid structure") == (6, 8)
    assert column(judged, "valid_structure")[7] is False


def test_sizes_elements_and_symmetry(judged):
    table = {x.name: x for x in judged.tables["Sizes, elements, symmetry"]}
    sizes = [8, 16, 16, 2, 8, 2, 2]
    assert table["atoms per cell"].value == pytest.approx(np.mean(sizes))
    assert table["elements a crystal"].value == pytest.approx(13 / 7)
    # The reference has one, two and two atoms: of ours three of seven have two.
    assert table["distance of atoms per cell"].value == pytest.approx(4 / 7)
    assert table["symmetry above P1 at 0.1 Å"].total == 7
    assert table["symmetry above P1 at 0.1 Å"].count >= 6


def test_duplicates_name_the_first_they_match_and_known_crystals_their_id(judged):
    assert column(judged, "duplicate_of") == [None, "0", None, None, None, None, None, None]
    assert column(judged, "known_as") == [None, None, "kcl", None, None, None, "iron", None]
    assert column(judged, "unique")[3:6] == [False, True, True]  # no crystal is not unique
    assert column(judged, "novel") == [True, True, False, False, True, True, False, True]
    assert rate(judged, "Uniqueness and novelty", "unique and novel") == (4, 8)


def test_matching_compares_with_every_earlier_sample():
    """Matching is not transitive: the last matches the middle one, not the first."""
    first, middle, last = (CSCL.apply_strain([0, 0, x], inplace=False) for x in (0, 0.25, 0.5))
    pairs = match([first, middle]).duplicate_of, match([middle, last]).duplicate_of
    assert pairs == ([None, 0], [None, 0])
    assert match([first, last]).duplicate_of == [None, None]
    assert match([first, middle, last]).duplicate_of == [None, 0, 1]


def test_workers_match_as_this_process_does(reference):
    samples = [rocksalt("Na", x, 5 + 0.01 * i) for i, x in enumerate(["Cl", "Br", "F", "I"] * 2)]
    samples += [rocksalt(x, "O", 4.5) for x in ("Ca Sr Ba Ni Co Fe Mn Cd Ti V Zr Nb Ta Hf").split()]
    samples += [rocksalt(x, "S", 5.5) for x in ("Ca Sr Ba Ni Co Fe Mn Cd Ti V Zr Nb Ta Hf").split()]
    samples *= 2
    alone = match(samples, reference.train, num_workers=1)
    assert match(samples, reference.train, num_workers=2) == alone
    assert sum(x is not None for x in alone.duplicate_of) == len(samples) - 32


def relaxed(structure, energy):
    return Relaxation("converged", 3, energy, True, structure)


@pytest.fixture(scope="module")
def with_energies(reference):
    hull = hull_from_dataset(reference.compositions(), reference.formation_energies_ev_per_atom)
    zero = dict.fromkeys(["K", "Cl", "Mg", "O", "Fe", "Na", "Cs"], 0.0)
    elemental = ElementalEnergies(zero, 3, 0.0, 0.0)
    relaxations = [
        relaxed(NACL, -1.0),
        relaxed(NACL, -1.0),
        relaxed(KCL, -2.3),
        Relaxation("failed", reason="no crystal was given"),
        relaxed(CSCL, -0.05),
        relaxed(CSCL, 0.05),
        relaxed(IRON, -0.1),
    ]
    # Na and Cs are not in the hull.
    entries = [*reference.compositions(), NACL.composition, CSCL.composition]
    full = hull_from_dataset(entries, [-2.2, -3.0, 0.0, 0.0, 0.0])
    candidates = load_samples(SAMPLES)
    return (
        judge(candidates, reference, energies=Energies(relaxations, full, elemental)),
        judge(candidates, reference, energies=Energies(relaxations, hull, elemental)),
    )


def test_stability_is_of_the_samples_that_were_to_be_relaxed(with_energies):
    judgement, _ = with_energies
    assert column(judgement, "e_above_hull_ev_per_atom") == pytest.approx(
        [-1.0, -1.0, -0.1, None, -0.05, 0.05, -0.1, None]
    )
    assert rate(judgement, "Stability", "energy known") == (6, 7)
    assert rate(judgement, "Stability", "stable") == (5, 7)
    assert rate(judgement, "Stability", "metastable") == (6, 7)
    assert rate(judgement, "Stability", "unique and novel among the stable") == (2, 5)
    assert rate(judgement, "Stability", "S.U.N.") == (2, 7)
    assert rate(judgement, "Stability", "M.S.U.N.") == (3, 7)
    assert column(judgement, "sun") == [True, False, False, None, True, False, False, None]
    assert column(judgement, "unique_relaxed")[4:6] == [True, False]


def test_variants_differ_where_their_definitions_do(with_energies):
    judgement, _ = with_energies
    row = {**judgement.rows[5], "e_above_hull_ev_per_atom": 0.0}
    assert not is_sun(row, "< 0")
    assert is_sun(row, "≤ 0")
    assert not is_sun(row, "≤ 0", "relaxed")  # relaxes to the one before it
    element = {**judgement.rows[0], "chemical_system": "Fe"}
    assert not is_sun(element, "< 0")
    assert is_sun(element, "< 0", single=True)


def test_an_element_that_the_hull_lacks_is_said(with_energies):
    _, judgement = with_energies
    assert judgement.rows[0]["hull_reason"] == "the hull has no entry of Na"
    assert judgement.rows[0]["e_above_hull_ev_per_atom"] is None
    assert rate(judgement, "Stability", "energy known") == (2, 7)


@pytest.mark.parametrize("kind", ["cif folder", "zip", "extxyz", "csv", "csv.gz"])
def test_every_kind_of_input_gives_the_same_samples(tmp_path, kind):
    structures = [NACL, CSCL]
    cifs = [s.to(fmt="cif") for s in structures]
    path = tmp_path / f"samples.{kind.removeprefix('cif ')}"
    if kind == "cif folder":
        path.mkdir()
        for i, text in enumerate([*cifs, "this is no CIF"]):
            (path / f"{i}.cif").write_text(text)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for i, text in enumerate([*cifs, "this is no CIF"]):
                archive.writestr(f"{i}.cif", text)
    elif kind == "extxyz":
        ase.io.write(path, to_atoms(from_structures(structures)), format="extxyz")
    else:
        quoted = "\n".join(f'"{text}"' for text in [*cifs, "this is no CIF"])
        opener = gzip.open if kind == "csv.gz" else open
        with opener(path, "wt") as file:
            file.write(f"cif\n{quoted}\n")
    found = load_samples(path)
    assert [row["reduced_formula"] for row in found.rows[:2]] == ["NaCl", "CsCl"]
    assert [len(s) for s in found.structures[:2]] == [8, 2]
    if kind != "extxyz":
        assert found.structures[2] is None
        assert found.rows[2]["reason"]


def test_nothing_to_judge_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no sample to judge"):
        load_samples([])
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match="is empty"):
        load_samples(tmp_path / "empty.csv")


def test_odd_elements_and_numbers_never_crash(reference):
    helium = Structure(Lattice.cubic(4), ["He", "Ne"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    broken = Structure(Lattice(np.full((3, 3), np.nan)), ["Na"], [[0, 0, 0]])
    californium = Structure(Lattice.cubic(4), ["Cf"], [[0, 0, 0]])
    judgement = judge(load_samples([helium, broken, californium]), reference)
    assert "not finite" in judgement.rows[1]["reason"]
    assert [bool(x) for x in column(judgement, "novel")] == [True, False, True]


def test_compositions_leave_padding_out():
    found = compositions(from_structures([NACL, CSCL]))
    assert [x.formula for x in found] == ["Na4 Cl4", "Cs1 Cl1"]


def test_a_reference_without_test_split_or_energies(reference, tmp_path):
    (tmp_path / "train.csv").write_text(f'cif\n"{NACL.to(fmt="cif")}"\n')
    found = load_reference(str(tmp_path))
    assert found.test is None
    assert found.formation_energies_ev_per_atom is None
    assert found.histogram.tolist() == [0, 0, 1]
    twice = replace(reference, crystals=[reference.train, found.train])
    assert twice.structures([0, 3])[1].composition.reduced_formula == "NaCl"
    assert json.dumps(found.fingerprint)


def test_a_split_that_cannot_be_read_is_no_missing_split(tmp_path):
    (tmp_path / "train.csv").write_text(f'cif\n"{NACL.to(fmt="cif")}"\n')
    assert available_splits(tmp_path) == ["train"]
    (tmp_path / "test.csv").write_text("structure\nnothing\n")
    assert available_splits(tmp_path) == ["train", "test"]
    with pytest.raises(ValueError, match="has no column 'cif'"):
        load_reference(str(tmp_path))


def test_what_needs_a_missing_package_is_not_known(reference, monkeypatch):
    monkeypatch.setattr("miad_jax.evaluation.pipeline.missing_packages", lambda: ["smact"])
    found = judge(load_samples(SAMPLES), reference)
    table = {x.name: x for x in found.tables["Validity"]}
    assert table["valid structure"].value == 6 / 8
    assert table["valid composition"].value is table["valid"].value is None
    assert "not known" in tables_text(found)


def test_a_needle_is_not_compared_and_the_rest_is(reference):
    needle = Structure([[5, 0, 0], [0, 0.01, 0], [0, 0, 500]], ["Na"] * 2, [[0, 0, 0], [0, 0, 0.5]])
    iron = Structure(Lattice.cubic(2.9), ["Na", "Na"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    found = judge(load_samples([needle, iron, moved(iron)]), reference)
    assert column(found, "unique") == [None, True, False]
    assert column(found, "matching_reason")[0].startswith("the cell is 0.01 Å thin")
    assert rate(found, "Uniqueness and novelty", "unique") == (1, 3)


def test_large_groups_in_pieces_give_the_same(monkeypatch):
    samples = [NACL, moved(NACL), NACL * (1, 1, 2), CSCL_AS_NACL, KCL]
    whole = match(samples, from_structures([NACL, KCL]))
    monkeypatch.setattr("miad_jax.evaluation.novelty.matching.PAIRS_PER_TASK", 1)
    assert match(samples, from_structures([NACL, KCL])) == whole


def test_ids_that_come_twice_are_told_apart(tmp_path):
    text = NACL.to(fmt="cif")
    lines = [f'{name},"{text}"' for name in ("a", "a", "b", "a (2)")]
    (tmp_path / "samples.csv").write_text("material_id,cif\n" + "\n".join(lines) + "\n")
    ids = [row["id"] for row in load_samples(tmp_path / "samples.csv").rows]
    assert ids[0] == "a"
    assert ids[2:] == ["b", "a (2)"]
    assert len(set(ids)) == 4


def test_dft_energies_without_a_relaxed_crystal_have_a_reason(tmp_path):
    entries = [ComputedEntry(x, -3.0 * sum(Composition(x).values())) for x in ("Na", "Cl", "NaCl")]
    (tmp_path / "hull.json").write_text(json.dumps([x.as_dict() for x in entries]))
    hull = hull_from_entries(tmp_path / "hull.json")
    energies = {"a": DftEnergy(-5.0), "b": DftEnergy(-30.0)}
    found = dft_columns([None, NACL, KCL], ["a", "b", "c"], energies, hull)
    assert found[0]["dft_reason"] == "the sample has no relaxed structure"
    assert found[1]["dft_e_above_hull_ev_per_atom"] is not None
    assert found[2] == {
        "dft_energy_ev_per_atom": None,
        "dft_e_above_hull_ev_per_atom": None,
        "dft_reason": "",
    }


def test_dft_energies_make_a_table_of_their_own(reference, tmp_path):
    formulas = {"Na": -1.0, "Cl": -2.0, "K": -1.0, "NaCl": -3.0, "KCl": -3.0}
    entries = [ComputedEntry(x, e * sum(Composition(x).values())) for x, e in formulas.items()]
    (tmp_path / "hull.json").write_text(json.dumps([x.as_dict() for x in entries]))
    hull = hull_from_entries(tmp_path / "hull.json")
    relaxations = [relaxed(NACL, -3.0), relaxed(KCL, -3.0)]
    energies = Energies(relaxations, hull, None, {"0": DftEnergy(-40.0)})
    found = judge(load_samples([NACL, KCL]), reference, energies=energies)
    assert rate(found, "Stability by DFT", "energy known") == (1, 2)
    assert rate(found, "Stability by DFT", "S.U.N.") == (1, 2)
    assert rate(found, "Stability", "stable") == (0, 2)


def test_nothing_stable_is_a_report_and_no_division_by_zero(reference):
    hull = hull_from_dataset(reference.compositions(), reference.formation_energies_ev_per_atom)
    elemental = ElementalEnergies(dict.fromkeys(["K", "Cl"], 0.0), 3, 0.0, 0.0)
    energies = Energies([relaxed(KCL, 5.0)], hull, elemental)
    found = judge(load_samples([KCL]), reference, energies=energies)
    assert rate(found, "Stability", "stable") == (0, 1)
    assert rate(found, "Stability", "unique and novel among the stable") == (0, 0)
    assert "not known" in tables_text(found)


def test_the_embedded_set_has_all_splits():
    assert available_splits("prototypes") == ["train", "val", "test"]


@pytest.mark.parametrize(
    ("name", "expected"), [("data/mp_20", 0.4), ("perov_5_slice/", 0.2), ("mine", 0.4)]
)
def test_cutoffs_follow_the_data_set(name, expected):
    assert cutoffs(name)[0] == expected
