"""From samples of any kind to rates: what is counted, whom a sample matches, what is said."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.entries.computed_entries import ComputedEntry

from miad_jax.data import Records, from_structures
from miad_jax.evaluation import plan, stages
from miad_jax.evaluation.metrics import is_sun
from miad_jax.evaluation.pipeline import evaluate
from miad_jax.evaluation.reference import Reference
from miad_jax.evaluation.report.folder import ReportFolder
from miad_jax.evaluation.stability.corrections import ElementalEnergies
from miad_jax.evaluation.stability.dft import DftEnergy
from miad_jax.evaluation.stability.energies import dft_columns
from miad_jax.evaluation.stability.hull import hull_from_dataset
from miad_jax.evaluation.stability.hull_files import hull_from_entries
from miad_jax.evaluation.stability.relax import Relaxation
from miad_jax.evaluation.tables import tables_text
from miad_jax.parallel.progress import Progress


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
def result(reference):
    return evaluate(SAMPLES, reference, calculator="none")


def column(result, name):
    return [row[name] for row in result.rows]


def rate(result, table, name):
    found = next(x for x in result.tables[table] if x.name == name)
    return found.count, found.total


def test_every_sample_has_a_row_and_counts_in_every_denominator(result):
    assert column(result, "id") == list("01234567")
    assert column(result, "reason")[3] == "no crystal was given"
    assert rate(result, "Validity", "read") == (7, 8)
    assert rate(result, "Validity", "valid structure") == (6, 8)
    assert column(result, "valid_structure")[7] is False


def test_sizes_elements_and_symmetry(result):
    table = {x.name: x for x in result.tables["Sizes, elements, symmetry"]}
    sizes = [8, 16, 16, 2, 8, 2, 2]
    assert table["atoms per cell"].value == pytest.approx(np.mean(sizes))
    assert table["elements a crystal"].value == pytest.approx(13 / 7)
    # The reference has one, two and two atoms: of ours three of seven have two.
    assert table["distance of atoms per cell"].value == pytest.approx(4 / 7)
    assert table["symmetry above P1 at 0.1 Å"].total == 7
    assert table["symmetry above P1 at 0.1 Å"].count >= 6


def test_duplicates_name_the_first_they_match_and_known_crystals_their_id(result):
    assert column(result, "duplicate_of") == [None, "0", None, None, None, None, None, None]
    assert column(result, "known_as") == [None, None, "kcl", None, None, None, "iron", None]
    assert column(result, "unique")[3:6] == [False, True, True]  # no crystal is not unique
    assert column(result, "novel") == [True, True, False, False, True, True, False, True]
    assert rate(result, "Uniqueness and novelty", "unique and novel") == (4, 8)


def relaxed(structure, energy):
    return Relaxation("converged", 3, energy, True, structure)


def seem_installed(patch):
    """Let the packages of the extra `eval` seem installed; compositions need one of them."""
    patch.setattr(plan, "missing_packages", list)
    if importlib.util.find_spec("smact") is None:
        patch.setattr(stages, "valid_composition", lambda atom_types: True)


def evaluate_relaxed(samples, reference, relaxations, hull=None, elemental=None, **settings):
    """Evaluate with relaxations and elemental energies that are known already."""
    with pytest.MonkeyPatch.context() as patch:
        seem_installed(patch)
        patch.setattr(stages, "ask_potential", lambda *arguments: {})
        patch.setattr(stages, "relax", lambda *arguments, **settings: relaxations)
        patch.setattr(stages, "elemental_energies", lambda *arguments, **settings: elemental)
        settings = {"hull": hull, "num_relaxed": len(relaxations), "coverage": False} | settings
        return evaluate(samples, reference, **settings)


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
    return (
        evaluate_relaxed(SAMPLES, reference, relaxations, full, elemental),
        evaluate_relaxed(SAMPLES, reference, relaxations, hull, elemental),
    )


def test_stability_is_of_the_samples_that_were_to_be_relaxed(with_energies):
    result, _ = with_energies
    assert column(result, "e_above_hull_ev_per_atom") == pytest.approx(
        [-1.0, -1.0, -0.1, None, -0.05, 0.05, -0.1, None]
    )
    assert rate(result, "Stability", "energy known") == (6, 7)
    assert rate(result, "Stability", "stable") == (5, 7)
    assert rate(result, "Stability", "metastable") == (6, 7)
    assert rate(result, "Stability", "unique and novel among the stable") == (2, 5)
    assert rate(result, "Stability", "S.U.N.") == (2, 7)
    assert rate(result, "Stability", "M.S.U.N.") == (3, 7)
    assert column(result, "sun") == [True, False, False, None, True, False, False, None]
    assert column(result, "unique_relaxed")[4:6] == [True, False]


def test_variants_differ_where_their_definitions_do(with_energies):
    result, _ = with_energies
    row = {**result.rows[5], "e_above_hull_ev_per_atom": 0.0}
    assert not is_sun(row, "< 0")
    assert is_sun(row, "≤ 0")
    assert not is_sun(row, "≤ 0", "relaxed")  # relaxes to the one before it
    element = {**result.rows[0], "chemical_system": "Fe"}
    assert not is_sun(element, "< 0")
    assert is_sun(element, "< 0", single=True)


def test_an_element_that_the_hull_lacks_is_said(with_energies):
    _, result = with_energies
    assert result.rows[0]["hull_reason"] == "the hull has no entry of Na"
    assert result.rows[0]["e_above_hull_ev_per_atom"] is None
    assert rate(result, "Stability", "energy known") == (2, 7)


def test_odd_elements_and_numbers_never_crash(reference):
    helium = Structure(Lattice.cubic(4), ["He", "Ne"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    broken = Structure(Lattice(np.full((3, 3), np.nan)), ["Na"], [[0, 0, 0]])
    californium = Structure(Lattice.cubic(4), ["Cf"], [[0, 0, 0]])
    result = evaluate([helium, broken, californium], reference, calculator="none")
    assert "not finite" in result.rows[1]["reason"]
    assert [bool(x) for x in column(result, "novel")] == [True, False, True]


def test_what_needs_a_missing_package_is_not_known(reference, monkeypatch):
    monkeypatch.setattr(plan, "missing_packages", lambda: ["smact"])
    with pytest.warns(UserWarning, match=r"smact not installed.*pip install"):
        found = evaluate(SAMPLES, reference, calculator="none")
    assert "compositions" not in found.done
    table = {x.name: x for x in found.tables["Validity"]}
    assert table["valid structure"].value == 6 / 8
    assert table["valid composition"].value is table["valid"].value is None
    assert "not known" in tables_text(found.tables)


def test_a_needle_is_not_compared_and_the_rest_is(reference):
    needle = Structure([[5, 0, 0], [0, 0.01, 0], [0, 0, 500]], ["Na"] * 2, [[0, 0, 0], [0, 0, 0.5]])
    iron = Structure(Lattice.cubic(2.9), ["Na", "Na"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    found = evaluate([needle, iron, moved(iron)], reference, calculator="none")
    assert column(found, "unique") == [None, True, False]
    assert column(found, "matching_reason")[0].startswith("the cell is 0.01 Å thin")
    assert rate(found, "Uniqueness and novelty", "unique") == (1, 3)


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


def test_energies_that_carry_corrections_are_not_corrected_again(tmp_path):
    formulas = {"Na": -1.0, "Cl": -2.0, "NaCl": -3.0}
    entries = [ComputedEntry(x, e * sum(Composition(x).values())) for x, e in formulas.items()]
    (tmp_path / "hull.json").write_text(json.dumps([x.as_dict() for x in entries]))
    hull = hull_from_entries(tmp_path / "hull.json")
    total = -3.2 * len(NACL)
    energies = {"a": DftEnergy(total), "b": DftEnergy(total, is_corrected=True)}
    raw, corrected = dft_columns([NACL, NACL], ["a", "b"], energies, hull)
    assert corrected["dft_e_above_hull_ev_per_atom"] == pytest.approx(-0.2)
    # The correction of chlorine, on half the atoms.
    assert raw["dft_e_above_hull_ev_per_atom"] == pytest.approx(-0.2 - 0.614 / 2)


@pytest.fixture
def table_of_formation_energies(tmp_path):
    (tmp_path / "hull.csv").write_text("formula,formation_energy_per_atom\nNaCl,-2.0\nKCl,-2.2\n")
    energies = {"Na": -1.0, "Cl": -2.0, "K": -1.0, "Cs": -0.9}
    entries = [ComputedEntry(symbol, energy).as_dict() for symbol, energy in energies.items()]
    (tmp_path / "elements.json").write_text(json.dumps(entries))
    return {"hull": tmp_path / "hull.csv", "elements": tmp_path / "elements.json"}


def test_a_table_of_formation_energies_judges_total_energies(
    reference, table_of_formation_energies
):
    relaxations = [
        relaxed(NACL, -3.4),  # corrected: 1.9 eV/atom below the elements
        replace(relaxed(NACL, -3.4), energy_is_corrected=False),
        relaxed(CSCL, -3.0),
        relaxed(MGO, -6.0),
    ]
    found = evaluate_relaxed(
        [NACL, NACL, CSCL, MGO], reference, relaxations,
        dft_energies={"0": DftEnergy(-3.6 * 8, is_corrected=True)}, **table_of_formation_energies,
    )  # fmt: skip
    assert column(found, "e_above_hull_ev_per_atom") == pytest.approx(
        [0.1, 0.1 - 0.614 / 2, -1.55, None]
    )
    assert column(found, "hull_reason")[3] == "the elemental energies lack Mg, O"
    assert column(found, "num_competing_phases") == [1, 1, 0, 0]
    assert column(found, "dft_e_above_hull_ev_per_atom")[0] == pytest.approx(-0.1)
    assert rate(found, "Hull", "no competing compound") == (1, 3)
    assert "elemental energies" not in found.done
    assert found.settings["hull"].startswith("formation energies (formation_energy_per_atom) of")
    assert found.settings["elements file"].endswith("elements.json")


def test_a_correction_that_cannot_be_decided_is_a_reason(reference, table_of_formation_energies):
    helium = Structure(Lattice.cubic(4), ["He", "Na"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    raw = replace(relaxed(helium, -1.0), energy_is_corrected=False)
    found = evaluate_relaxed([helium], reference, [raw], **table_of_formation_energies)
    assert found.rows[0]["energy_ev_per_atom"] is None
    assert "He has no electronegativity" in found.rows[0]["hull_reason"]


def test_dft_energies_make_a_table_of_their_own(reference, tmp_path):
    formulas = {"Na": -1.0, "Cl": -2.0, "K": -1.0, "NaCl": -3.0, "KCl": -3.0}
    entries = [ComputedEntry(x, e * sum(Composition(x).values())) for x, e in formulas.items()]
    (tmp_path / "hull.json").write_text(json.dumps([x.as_dict() for x in entries]))
    hull = hull_from_entries(tmp_path / "hull.json")
    relaxations = [relaxed(NACL, -3.0), relaxed(KCL, -3.0)]
    dft = {"0": DftEnergy(-40.0)}
    found = evaluate_relaxed([NACL, KCL], reference, relaxations, hull, dft_energies=dft)
    assert rate(found, "Stability by DFT", "energy known") == (1, 2)
    assert rate(found, "Stability by DFT", "S.U.N.") == (1, 2)
    assert rate(found, "Stability", "stable") == (0, 2)


def test_nothing_stable_is_a_report_and_no_division_by_zero(reference):
    hull = hull_from_dataset(reference.compositions(), reference.formation_energies_ev_per_atom)
    elemental = ElementalEnergies(dict.fromkeys(["K", "Cl"], 0.0), 3, 0.0, 0.0)
    found = evaluate_relaxed([KCL], reference, [relaxed(KCL, 5.0)], hull, elemental)
    assert rate(found, "Stability", "stable") == (0, 1)
    assert rate(found, "Stability", "unique and novel among the stable") == (0, 0)
    assert "not known" in tables_text(found.tables)


class Interrupted(Exception):
    """In place of Ctrl-C."""


def interrupt(*arguments, **settings):
    raise Interrupted


@pytest.fixture
def stability(reference, tmp_path, monkeypatch):
    """Evaluate two samples into a folder, with relaxations and pictures that cost nothing."""
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **settings: None)
    full = [*reference.compositions(), NACL.composition]
    hull = hull_from_dataset(full, [-2.2, -3.0, 0.0, 0.0])
    elemental = ElementalEnergies(dict.fromkeys(["K", "Cl", "Na"], 0.0), 3, 0.0, 0.0)

    def run(num_relaxed=2, out=tmp_path / "out", more=0, **settings):
        relaxations = [relaxed(NACL, -1.0), relaxed(KCL, -2.3)][:num_relaxed]
        settings |= {"num_relaxed": num_relaxed + more}
        return evaluate_relaxed([NACL, KCL], reference, relaxations, hull, elemental,
                                out=out, **settings)  # fmt: skip

    return run


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


NAMES = [
    "structures",
    "compositions",
    "potential and hull",
    "uniqueness and novelty",
    "elemental energies",
    "relaxation",
    "uniqueness and novelty of the relaxed",
    "stability",
]


def test_cheap_stages_come_first_and_the_report_is_written_after_each(
    stability, tmp_path, monkeypatch
):
    reports = []
    real = ReportFolder.write

    def write(self, result):
        real(self, result)
        reports.append(report_of(tmp_path / "out"))

    monkeypatch.setattr(ReportFolder, "write", write)
    found = stability()
    assert [x["stages"]["done"] for x in reports] == [NAMES[: i + 1] for i in range(len(NAMES))]
    assert [x["stages"]["to_come"] for x in reports] == [NAMES[i + 1 :] for i in range(len(NAMES))]
    assert [x["title"] for x in reports[0]["tables"]] == ["Validity", "Sizes, elements, symmetry"]
    assert [x["title"] for x in reports[-1]["tables"]] == list(found.tables)
    assert found.done == tuple(NAMES)
    assert found.to_come == ()


def test_an_interrupted_run_leaves_a_report_that_the_same_call_completes(
    stability, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(stages, "energy_columns", interrupt)
        with pytest.raises(Interrupted):
            stability()
    there = report_of(tmp_path / "out")
    assert there["stages"] == {"done": NAMES[:5], "to_come": NAMES[5:]}
    assert "Uniqueness and novelty" in [x["title"] for x in there["tables"]]
    assert "Still to come: relaxation" in (tmp_path / "out" / "report.html").read_text()
    stability()
    assert report_of(tmp_path / "out")["stages"] == {"done": NAMES, "to_come": []}
    assert "not complete" not in (tmp_path / "out" / "report.html").read_text()


def test_a_partial_report_may_get_less_than_it_was_to_have(
    stability, reference, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(stages, "energy_columns", interrupt)
        with pytest.raises(Interrupted):
            stability()
    there = report_of(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(plan, "missing_packages", lambda: ["smact"])
        with (
            pytest.warns(UserWarning, match="smact"),
            pytest.raises(ValueError, match="compositions: done there, not asked for here"),
        ):
            evaluate([NACL, KCL], reference, out=tmp_path / "out", calculator="none")
    assert report_of(tmp_path / "out") == there
    stability(num_relaxed=1)
    assert report_of(tmp_path / "out")["settings"]["first samples relaxed"] == 1


def test_a_report_without_relaxations_takes_the_place_of_one_that_had_none_yet(
    stability, reference, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(stages, "energy_columns", interrupt)
        with pytest.raises(Interrupted):
            stability()
    seem_installed(monkeypatch)
    settings = {"calculator": "none", "coverage": False}
    found = evaluate([NACL, KCL], reference, out=tmp_path / "out", **settings)
    assert report_of(tmp_path / "out")["stages"] == {"done": list(found.done), "to_come": []}


def test_a_complete_report_stays_until_the_next_one_says_as_much(stability, tmp_path, monkeypatch):
    def files():
        names = ("report.json", "report.html", "crystals.csv", "relaxed.extxyz")
        return [(tmp_path / "out" / name).read_bytes() for name in names]

    stability(num_relaxed=1)
    before = files()
    with monkeypatch.context() as patch:
        patch.setattr(stages.metrics, "variants", interrupt)
        with pytest.raises(Interrupted):
            stability()
    assert files() == before
    stability()
    assert report_of(tmp_path / "out")["settings"]["first samples relaxed"] == 2
    with pytest.raises(ValueError, match=r"first samples relaxed: 2 there, 1 here.*smaller report"):
        stability(num_relaxed=1)


def test_a_report_of_version_0_1_is_continued_and_guarded(stability, reference, tmp_path):
    stability()
    report = report_of(tmp_path / "out")
    report.pop("stages")
    (tmp_path / "out" / "report.json").write_text(json.dumps(report))
    with pytest.raises(ValueError, match="potential: chgnet there, none here"):
        evaluate([NACL, KCL], reference, out=tmp_path / "out", calculator="none")
    stability()
    assert report_of(tmp_path / "out")["stages"]["done"] == NAMES


def test_without_out_nothing_is_left_behind(stability, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    found = stability(out=None)
    assert rate(found, "Stability", "stable") == (2, 2)
    assert list((tmp_path / "temporary").iterdir()) == []
    assert [x.name for x in tmp_path.iterdir()] == ["temporary"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_relaxed": -1}, "num_relaxed is -1; allowed: 1 or more"),
        ({"num_relaxed": 0}, "num_relaxed is 0; allowed: 1 or more"),
        ({"num_relaxed": 3, "calculator": "none"}, "num_relaxed is 3, but calculator=none relaxes"),
        ({"max_steps": -1}, "max_steps is -1"),
        ({"seconds_per_crystal": 0}, "seconds_per_crystal is 0"),
        ({"num_workers": 0}, "num_workers is 0"),
        ({"calculator": "emt"}, "the calculator is 'emt'; allowed"),
        ({"calculator": "none", "dft_inputs": "x"}, "dft_inputs needs relaxed crystals"),
        ({"dft_energies": {}}, "dft_energies needs a hull"),
        ({"elements": "x.json"}, "elements need a hull"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_read(monkeypatch, settings, message):
    monkeypatch.setattr(plan, "missing_packages", list)
    with pytest.raises(ValueError, match=message):
        evaluate("nowhere", "nowhere", **settings)


def test_relaxations_without_chgnet_are_refused_and_not_left_out(monkeypatch):
    monkeypatch.setattr(plan, "missing_packages", lambda: ["chgnet"])
    with pytest.raises(ValueError, match=r"num_relaxed is 3, but chgnet is not installed"):
        evaluate("nowhere", "nowhere", num_relaxed=3)


def test_more_relaxations_than_samples_are_all(stability, tmp_path):
    lines = []

    class Heard(Progress):
        def say(self, line):
            lines.append(line)

    stability(progress=Heard(), more=3)
    assert "num_relaxed is 5: all 2 samples are relaxed" in lines
    assert report_of(tmp_path / "out")["settings"]["first samples relaxed"] == "all"


def test_peers_are_a_table_of_their_own(with_energies):
    result, _ = with_energies
    assert rate(result, "Definitions of peers", "WyFormer's S.U.N.") == (2, 7)
    assert rate(result, "Definitions of peers", "FlowMM's S.U.N.") == (2, 7)
    assert column(result, "spacegroup_number_relaxed")[0] == 225


def test_the_nearest_reference_crystal_is_a_column_where_it_is_asked_for(reference):
    asked = {"calculator": "none", "coverage": False}
    found = evaluate([KCL, CSCL], reference, nearest=True, **asked)
    assert column(found, "nearest_by_amd")[0] == "kcl"
    assert "nearest reference crystals" in found.done
    assert column(evaluate([KCL], reference, **asked), "nearest_by_amd") == [None]


def test_tables_for_lemat_genbench(reference, tmp_path):
    evaluate([KCL, None], reference, calculator="none", coverage=False, lemat=tmp_path / "lemat")
    assert [x.name for x in (tmp_path / "lemat").iterdir()] == ["generated.csv"]
