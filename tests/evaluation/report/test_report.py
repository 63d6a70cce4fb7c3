import base64
import csv
import hashlib
import json
import re
import warnings
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from ase.io import read
from matplotlib.figure import Figure
from pymatgen.core import Lattice, Structure

from miad_jax.data.structures import from_structures
from miad_jax.evaluation.describe import COLUMNS, describe
from miad_jax.evaluation.report.crystals import (
    NUM_RANKED,
    cif_files,
    forms_shown,
    ranked,
    scenes,
    unjudged,
)
from miad_jax.evaluation.report.files import FORMAT, write_report
from miad_jax.evaluation.report.page import NUM_BEST, html_page
from miad_jax.evaluation.report.pictures import plot_energies, plot_spacegroups
from miad_jax.evaluation.results import SAMPLE_COLUMNS, EvaluationResult
from miad_jax.evaluation.statistics import Quantity, Rate
from miad_jax.evaluation.tables import tables_text
from miad_jax.evaluation.validity.structure import NOT_FINITE

HOSTILE = '<script>alert("&")</script>\n\\o/ \udcff'
NAMES = ("report.json", "crystals.csv", "relaxed.extxyz", "report.html")
VIEWER = ("3Dmol-min.js", "3Dmol-min.js.LICENSE.txt")


def prototypes():
    """NaCl, CsCl, Si, perovskites, rutile and a triclinic cell."""
    yield from (
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [x, y], [[0, 0, 0], [0.5] * 3])
        for x, y, a in (("Na", "Cl", 5.64), ("Mg", "O", 4.21), ("Li", "F", 4.03))
    )
    for x, y, a in (("Cs", "Cl", 4.12), ("Ni", "Al", 2.88), ("Fe", "Rh", 2.99)):
        yield Structure(Lattice.cubic(a), [x, y], [[0, 0, 0], [0.5] * 3])
    yield Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.43), ["Si"], [[0, 0, 0]])
    for x, y, a in (("Sr", "Ti", 3.9), ("Ba", "Zr", 4.19), ("La", "Co", 3.83), ("K", "Ta", 3.99)):
        sites = [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
        yield Structure(Lattice.cubic(a), [x, y, "O", "O", "O"], sites)
    for x, a, c in (("Ti", 4.59, 2.96), ("Sn", 4.74, 3.19)):
        sites = [[0, 0, 0], [0.305, 0.305, 0]]
        yield Structure.from_spacegroup("P4_2/mnm", Lattice.tetragonal(a, c), [x, "O"], sites)
    low = Lattice.from_parameters(4.1, 5.3, 6.2, 81, 97, 104)
    yield Structure(low, ["Ca", "Mo", "S"], [[0.1, 0.2, 0.3], [0.5, 0.6, 0.1], [0.8, 0.1, 0.7]])


def samples():
    """Thirty samples: every prototype twice, one overlap, one that is no crystal."""
    rng = np.random.default_rng(1)
    good = list(prototypes())
    jittered = [x.copy() for x in good]
    for structure in jittered:
        structure.perturb(0.02)
    overlap = Structure(Lattice.cubic(4), ["Fe", "Fe", "O"], [[0, 0, 0], [0.05, 0, 0], [0.5] * 3])
    structures = [*good, *jittered, overlap, None]
    rows = []
    for i, structure in enumerate(structures):
        if structure is None:
            row = dict.fromkeys(COLUMNS) | {"reason": NOT_FINITE, "valid_structure": False}
        else:
            row = describe(from_structures(structure)[0])
        valid = i < 28
        energy = float(np.round(rng.normal(0.03, 0.08), 3)) if valid else None
        mixed = valid and len(set(structure.composition)) > 1
        fine = i < 14 and i % 5 > 0 and mixed
        row |= dict.fromkeys(SAMPLE_COLUMNS) | {
            "id": HOSTILE if i == 3 else f"gen/{i:03d}",
            "valid_composition": valid and i % 7 > 0,
            "unique": i < 14,
            "novel": i % 5 > 0,
            "duplicate_of": None if i < 14 or not valid else f"gen/{i - 14:03d}",
            "relaxation": "converged" if valid else None,
            "energy_ev_per_atom": -4.25 - i if valid else None,
            "e_above_hull_ev_per_atom": energy,
            "hull_reason": None if valid else "no relaxed crystal",
            "sun": fine and energy < 0 if valid else None,
            "msun": fine and energy < 0.1 if valid else None,
        }
        rows.append(row)
    return rows, structures


@pytest.fixture(scope="module")
def result():
    np.random.seed(0)  # pymatgen's perturb draws from the global generator
    rows, structures = samples()
    stable = [row for row in rows if row["sun"]]
    tables = {
        "Validity": [
            Rate("valid structures", 28, 30, "Smallest distance at least 0.5 Å; of all samples."),
            Rate("valid & charge-neutral", 24, 30, "SMACT <14>; of all samples."),
            Rate("of many", 1234, 5000, "Of a larger set."),
        ],
        "Distances": [
            Quantity(
                "density",
                0.12345,
                (0.10125, 0.19984),
                "g/cm³",
                "Wasserstein distance of densities.",
            ),
            Quantity("samples", 12345.0, None, "", "How many came in."),
            Quantity("few", 2.5, (np.nan, np.inf), "", "Of too few to draw from."),
            Quantity("AMSD", None, None, "", "Needs fingerprints, which are not there."),
        ],
        "S.U.N.": [
            Rate("S.U.N.", len(stable), 30, "Stable, unique, novel; of all samples."),
            Rate("U&N among the stable", 0, 0, "Of the stable samples."),
        ],
    }
    return EvaluationResult(
        rows=rows,
        tables=tables,
        structures=structures,
        relaxed=[x if i < 28 else None for i, x in enumerate(structures)],
        reference_histogram=np.array([0, 2, 30, 10, 20, 25, 12, 4, 18, 3, 6, 0, 8]),
        settings={"reference": "mp_20 <train>", "potential": {"name": "CHGNet", "fmax": 0.1}},
    )


EMPTY = EvaluationResult([], {}, [], [], np.zeros(0, int))


@pytest.fixture(scope="module")
def directory(result, tmp_path_factory):
    path = tmp_path_factory.mktemp("report")
    write_report(path, result)
    return path


class Page(HTMLParser):
    """Elements with their attributes, and all that is read; complains where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> in line {self.getpos()[0]}"

    def handle_data(self, data):
        if not {"script", "style"} & {*self.open}:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def test_files(directory):
    assert sorted(x.name for x in directory.iterdir()) == sorted((*NAMES, "cif", "viewer"))
    assert sorted(x.name for x in (directory / "viewer").iterdir()) == sorted(VIEWER)


def test_json_holds_every_number(directory, result):
    content = json.loads((directory / "report.json").read_text(encoding="utf-8"))
    assert content["format"] == FORMAT
    assert content["num_samples"] == 30
    assert content["settings"] == result.settings
    assert [table["title"] for table in content["tables"]] == list(result.tables)
    for written, table in zip(content["tables"], result.tables.values(), strict=True):
        for line, entry in zip(written["entries"], table, strict=True):
            assert line["name"] == entry.name
            assert line["definition"] == entry.definition
            assert line["value"] == entry.value
            expected = entry.interval and [x if np.isfinite(x) else None for x in entry.interval]
            assert line["interval_95"] == expected
            assert line["count"] == getattr(entry, "count", None)
            assert line["total"] == getattr(entry, "total", None)
            assert line["unit"] == getattr(entry, "unit", "share")


def test_a_partial_report_says_what_is_still_to_come(result, tmp_path):
    part = replace(result, done=("structures",), to_come=("coverage", "relaxation"))
    write_report(tmp_path, part)
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert content["stages"] == {"done": ["structures"], "to_come": ["coverage", "relaxation"]}
    said = "This report is not complete. Done: structures. Still to come: coverage, relaxation."
    assert said in Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "still to come: coverage, relaxation" in repr(part)


@pytest.mark.slow
def test_a_page_made_again_draws_only_what_has_changed(result):
    cards = {}
    page = html_page(result, cards)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", None)
        assert html_page(result, cards) == page
    rows = [{**row, "sun": False, "msun": False} for row in result.rows]
    before = len(cards)
    assert "the figures show all" in Page(html_page(replace(result, rows=rows), cards)).text
    assert len(cards) > before


def test_tables_as_data_frames(result):
    table, rates = result.table, result.rates()
    assert list(table) == list(dict.fromkeys(["id", *COLUMNS, *SAMPLE_COLUMNS]))
    assert table["sun"].sum() == sum(bool(row["sun"]) for row in result.rows)
    assert table["e_above_hull_ev_per_atom"].isna().sum() == 2
    first = rates.iloc[0]
    assert (first["table"], first["count"], first["total"]) == ("Validity", 28, 30)
    assert first["low"] < first["value"] < first["high"]
    assert len(rates) == sum(map(len, result.tables.values()))
    assert "93.3 %" in repr(result)


def test_settings_of_any_kind_are_written(tmp_path):
    settings = {"path": tmp_path, "nan": np.nan, "array": np.arange(2), "yes": True, "set": (1, {})}
    write_report(tmp_path, EvaluationResult([], {}, [], [], np.zeros(3), settings))
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["settings"]
    expected = {"path": str(tmp_path), "nan": None, "array": [0, 1], "yes": True, "set": [1, {}]}
    assert written == expected


def test_csv_has_every_outcome(directory, result):
    with (directory / "crystals.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(dict.fromkeys(["id", *COLUMNS, *SAMPLE_COLUMNS]))
    assert len(rows) == 30
    for written, row in zip(rows, result.rows, strict=True):
        for name in ("unique", "novel", "sun", "reason", "formula"):
            assert written[name] == ("" if row[name] is None else str(row[name]))
        if row["e_above_hull_ev_per_atom"] is not None:
            energy = float(written["e_above_hull_ev_per_atom"])
            assert energy == pytest.approx(row["e_above_hull_ev_per_atom"])
    assert rows[3]["id"] == HOSTILE.replace("\udcff", r"\udcff")


def test_relaxed_crystals_read_back(directory, result):
    frames = read(directory / "relaxed.extxyz", ":")
    relaxed = [x for x in result.relaxed if x is not None]
    assert len(frames) == len(relaxed) == 28
    for atoms, structure, row in zip(frames, relaxed, result.rows, strict=False):
        assert atoms.get_atomic_numbers().tolist() == [x.Z for x in structure.species]
        np.testing.assert_allclose(atoms.positions, structure.cart_coords, atol=1e-7)
        np.testing.assert_allclose(atoms.cell, structure.lattice.matrix, atol=1e-7)
        assert atoms.pbc.all()
        energy = row["energy_ev_per_atom"] * len(structure)
        assert atoms.get_potential_energy() == pytest.approx(energy)
        assert atoms.info["e_above_hull"] == row["e_above_hull_ev_per_atom"]
        assert atoms.info["relaxation"] == "converged"
    assert frames[4].info["id"] == "gen/004"
    assert frames[3].info["id"] == HOSTILE.replace("\n", " ").replace("\udcff", "udcff")


def test_terminal_tables(result):
    lines = tables_text(result.tables).splitlines()
    assert lines[0] == "Validity"
    shares = lines[1:4]
    assert "93.3 %" in shares[0]
    assert "[78.7, 98.2]" in shares[0]
    assert "28 of 30" in shares[0]
    assert "24.68 %" in shares[2]
    assert len({line.index("%") for line in shares}) == 1
    assert len({len(line) for line in shares}) == 1
    text = "\n".join(lines)
    for part in (
        "2.500\n",
        "0.1235  ",
        "[0.1013, 0.1998]",
        "g/cm³",
        "12345",
        "not known",
        "0 of 0",
    ):
        assert part in text
    notes = text[text.index("Definitions") :]
    for table in result.tables.values():
        for entry in table:
            assert entry.definition in notes
    assert max(map(len, lines)) <= 100


def test_definitions_that_are_shared_come_once():
    pair = [Rate("one", 1, 2, "The same."), Rate("two", 2, 2, "The same.")]
    text = tables_text({"T": pair})
    assert text.count("The same.") == 1
    assert text.count("[1]") == 3


def test_page(directory, result):
    page = Page((directory / "report.html").read_text(encoding="utf-8"))
    for table in result.tables.values():
        for entry in table:
            assert entry.name in page.text
            assert entry.definition in page.text
    for words in ("93.3 %", "[78.7, 98.2]", "28 of 30", "not known", "mp_20 <train>", "CHGNet"):
        assert words in page.text
    num_sun = sum(bool(row["sun"]) for row in result.rows)
    assert num_sun > 1
    assert f"The figures show the {num_sun} S.U.N. crystals" in page.text
    images = page.of("img")
    assert len(images) == 4 + min(len(ranked(result.rows)), NUM_BEST) + 1
    assert all(image["src"].startswith("data:image/png;base64,iVBOR") for image in images)
    assert all(image["alt"].strip() for image in images)
    assert NOT_FINITE in page.text
    assert "29 crystals 28 valid structures 28 plausible structures" in page.text
    assert "not plausible atoms too close 1" in page.text
    assert "With pymatgen's 5°, which papers print, P1 are" in page.text


def test_the_page_runs_its_own_script_and_leads_to_its_own_files(directory):
    text = (directory / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "alert" in page.text
    assert [x.get("type") for x in page.of("script")] == ["application/json", None]
    assert "<script>alert" not in text
    assert not page.of("link")
    assert not [x for _, attributes in page.elements for x in attributes if x.startswith("on")]
    (policy,) = (x["content"] for x in page.of("meta") if "Content-Security" in str(x))
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; ")
    script = text[text.rindex("<script>") + 8 : text.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.endswith(f"script-src 'sha256-{digest}' 'self' file:")
    for address in (x["href"] for x in page.of("a")):
        assert address.startswith("#crystal-") or (directory / address).is_file()


def data_of(page):
    start = '<script type="application/json" id="crystals">'
    return json.loads(page.split(start)[1].split("</script>")[0])


def test_every_crystal_that_is_shown_turns_and_has_its_files(directory, result):
    text = (directory / "report.html").read_text(encoding="utf-8")
    crystals = data_of(text)
    assert crystals["3"]["id"] == HOSTILE
    assert crystals["4"]["title"] == "AlNi · Pm-3m · 2 atoms"
    assert {x["href"] for x in Page(text).of("a") if x["href"][0] == "#"} == {
        f"#crystal-{i}" for i in crystals
    }
    files = cif_files(forms_shown(result))
    assert {x.name for x in (directory / "cif").iterdir()} == {x[4:] for x in files}
    for index in crystals:
        original = result.structures[int(index)]
        for form in forms_shown(result)[int(index)]:
            read_back = Structure.from_file(directory / form.path)
            assert read_back.composition == original.composition
            assert read_back.volume == pytest.approx(original.volume, rel=1e-5)


def test_what_turns_is_the_closed_cell(result):
    crystal = scenes(result.rows, forms_shown(result))[4]
    assert [name for name, _ in crystal["forms"]] == ["relaxed", "as generated"]
    scene = dict(crystal["forms"])["as generated"]
    assert np.linalg.norm(scene["cell"], axis=1) == pytest.approx([2.88] * 3, abs=1e-3)
    assert sorted(x for x, *_ in scene["balls"]) == ["Al"] * 1 + ["Ni"] * 8
    assert set(scene["elements"]) == {"Al", "Ni"}
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for _, colour in scene["elements"].values())


@pytest.fixture
def blank_pictures(monkeypatch):
    """Pictures that cost nothing."""
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **settings: None)


def test_files_of_an_earlier_page_go_and_equal_ones_stay(result, tmp_path, blank_pictures):
    def times():
        return {x: x.stat().st_mtime_ns for x in tmp_path.glob("[cv]i*/*")}

    write_report(tmp_path, result)
    before = times()
    rows = [row | {"novel": row["novel"] and i != 4} for i, row in enumerate(result.rows)]
    write_report(tmp_path, replace(result, rows=rows))
    after = times()
    assert {x.name for x in before.keys() - after.keys()} == {
        "000004_AlNi.cif",
        "000004_AlNi_relaxed.cif",
    }
    assert after.items() <= before.items()


def test_the_stable_unique_and_novel_come_first_and_the_unjudged_apart():
    base = {"valid_structure": True, "valid_composition": True, "unique": True, "novel": True}
    base |= {"reason": "", "e_above_hull_ev_per_atom": 0.02, "msun": True}
    rows = [
        base,
        base | {"e_above_hull_ev_per_atom": -0.1, "msun": False},  # of a single element
        base | {"e_above_hull_ev_per_atom": 0.01},
        base | {"e_above_hull_ev_per_atom": None, "msun": None},
        base | {"novel": False, "e_above_hull_ev_per_atom": -0.2, "msun": False},
        base | {"valid_structure": False},
    ]
    assert ranked(rows) == [2, 0, 1]
    assert unjudged(rows) == [3]


def test_a_large_report_shows_the_first_and_says_so(result, blank_pictures):
    rows, structures = ([x[4]] * (NUM_RANKED + 5) for x in (result.rows, result.structures))
    text = html_page(replace(result, rows=rows, structures=structures, relaxed=structures))
    assert f"The first {NUM_RANKED} of {NUM_RANKED + 5} in a table" in Page(text).text
    assert len(data_of(text)) == NUM_RANKED


def test_the_best_come_first(result):
    text = Page(html_page(result)).text
    best = text[text.index("The best crystals") : text.index("The worst crystals")]
    sun = sorted(
        (row for row in result.rows if row["sun"]), key=lambda x: x["e_above_hull_ev_per_atom"]
    )
    places = [best.index(" ".join(row["id"].split()).replace("\udcff", "")) for row in sun]
    assert places == sorted(places)
    worst = text[text.index("The worst crystals") :]
    assert "gen/028" in worst
    assert "atoms 0.20 Å apart" in worst


def test_without_relaxation(result, tmp_path):
    unknown = dict.fromkeys(("e_above_hull_ev_per_atom", "energy_ev_per_atom", "sun", "msun"))
    rows = [{**row, **unknown} for row in result.rows[:9]]
    part = EvaluationResult(
        rows, result.tables, result.structures[:9], [None] * 9, result.reference_histogram
    )
    write_report(tmp_path, part)
    assert not (tmp_path / "relaxed.extxyz").exists()
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    valid = sum(bool(row["valid_composition"]) for row in rows)
    assert f"the figures show all {valid} valid crystals" in text
    assert "No energy above the hull is known" in text


@pytest.mark.parametrize("which", ["none", "no crystal", "overlap", "none stable"])
def test_little_to_show_is_a_report(result, tmp_path, which):
    chosen = {"none": [], "no crystal": [29], "overlap": [28], "none stable": [0, 1]}[which]
    rows = [{**result.rows[i], "sun": False} for i in chosen]
    structures = [result.structures[i] for i in chosen]
    part = EvaluationResult(rows, {}, structures, [None] * len(rows), np.zeros(0, int))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_report(tmp_path, part)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert f"Report on {len(rows)} generated samples" in page.text
    with (tmp_path / "crystals.csv").open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        assert len(list(table)) == len(rows)
        assert set(table.fieldnames) == {"id", *COLUMNS, *SAMPLE_COLUMNS}
    assert tables_text(part.tables) == ""


def test_a_crystal_that_cannot_be_drawn_is_said(result):
    heavy = Structure(Lattice.cubic(5), ["Lr"], [[0, 0, 0]])
    part = EvaluationResult(result.rows[1:2], {}, [heavy], [None], np.zeros(0))
    assert "not drawn: has atomic numbers [103]" in Page(html_page(part)).text


def test_the_report_is_the_same_every_time(directory, result, tmp_path):
    write_report(tmp_path, result)
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (directory / name).read_bytes()


def test_energies_are_counted_strictly():
    axes = Figure().add_subplot()
    plot_energies(axes, [-0.001, 0.0, 0.0999, 0.1, 7.0])
    parts = [[bar.get_height() for bar in container] for container in axes.containers]
    assert [sum(part) for part in parts] == [1, 2, 1]
    assert [text.get_text() for text in axes.texts] == ["1 beyond the axis"]


def test_spacegroups_at_both_tolerances():
    names = ("spacegroup_number_0.1", "spacegroup_0.1", "spacegroup_number_0.01", "spacegroup_0.01")
    found = [(221, "Pm-3m", 221, "Pm-3m"), (221, "Pm-3m", 1, "P1"), (None, None, None, None)]
    axes = Figure().add_subplot()
    plot_spacegroups(axes, [dict(zip(names, values, strict=True)) for values in found])
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [r"Pm$\bar{3}$m  221", "none found"]
    coarse, fine = ([bar.get_width() for bar in x] for x in axes.containers)
    assert coarse == pytest.approx([200 / 3, 100 / 3])
    assert fine == pytest.approx([100 / 3, 100 / 3])
