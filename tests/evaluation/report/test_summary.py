import json

import numpy as np
import pytest
from matplotlib import image

from miad_jax.crystal import Crystal
from miad_jax.evaluation import describe_all, summarise, write_summary
from miad_jax.evaluation.statistics import wilson
from miad_jax.evaluation.validity.structure import NO_ATOM, NOT_FINITE


def cell(edge, atom_types, frac_coords=None):
    num = len(atom_types)
    frac_coords = (
        np.arange(num)[:, None] / max(num, 1) * np.ones(3)
        if frac_coords is None
        else (np.asarray(frac_coords))
    )
    return Crystal(
        edge * np.eye(3, dtype=np.float32),
        frac_coords.astype(np.float32).reshape(num, 3),
        np.asarray(atom_types, np.int32),
        np.ones(num, bool),
    )


CRYSTALS = [
    cell(4.2, [55, 17]),
    cell(4.1, [55, 35]),
    cell(4.3, [55, 17]),
    cell(3.0, [26, 26], [[0, 0, 0], [0, 0, 0.05]]),
    cell(5.0, [8, 8, 22, 0]),
    cell(np.nan, [6]),
    cell(4.0, [0, 0]),
    cell(4.0, []),
]


@pytest.fixture(scope="module")
def rows():
    return describe_all(CRYSTALS)


def test_counts(rows):
    numbers = summarise(rows)
    assert numbers["num_samples"] == 8
    assert numbers["num_crystals"] == 5
    assert numbers["num_failed"] == 3
    assert numbers["failed_by_reason"] == {NO_ATOM: 2, NOT_FINITE: 1}
    assert numbers["num_valid_structures"] == 4
    assert numbers["share_valid_structures"] == 0.5
    assert numbers["num_plausible"] == 4
    assert numbers["num_asked_if_plausible"] == 8
    assert numbers["share_plausible"] == 0.5
    assert numbers["interval_95_plausible"] == pytest.approx(wilson(4, 8))
    assert numbers["implausible_because"] == {"atoms too close": 1}
    assert numbers["num_refined"] == 0
    assert numbers["num_asked_by_pymatgen"] == 5
    assert numbers["num_above_p1_by_pymatgen"] == numbers["num_above_p1"]
    assert numbers["num_unique_formulas"] == 4
    assert numbers["num_chemical_systems"] == 4
    assert numbers["num_elements"] == 6
    assert numbers["mean_atoms_per_cell"] == pytest.approx((2 + 2 + 2 + 2 + 3) / 5)
    assert numbers["atoms_per_cell"] == {"2": 4, "3": 1}
    assert list(numbers["elements"].items())[:3] == [("Cs", 3), ("Cl", 2), ("Br", 1)]
    assert numbers["median_volume_angstrom3"] == pytest.approx(4.2**3)
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers


@pytest.mark.parametrize("which", [slice(0, 0), slice(5, 8)])
def test_nothing_to_count(rows, which):
    numbers = summarise(rows[which])
    assert numbers["num_crystals"] == 0
    assert numbers["mean_atoms_per_cell"] is None
    assert numbers["median_density_g_per_cm3"] is None
    assert numbers["elements"] == {}


def test_files(rows, tmp_path):
    write_summary(tmp_path, rows[:1], CRYSTALS[:1])
    numbers = write_summary(
        tmp_path,
        rows,
        CRYSTALS,
        title="Eight samples",
        run={"seed": 7},
        reference_histogram=np.array([0, 1, 5, 3]),
    )
    assert sorted(x.name for x in tmp_path.iterdir()) == [
        "summary.json",
        "summary.md",
        "summary.png",
    ]
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8")) == numbers
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert text.startswith("# Eight samples\n")
    assert "| crystals | 5 (62.5 %) |" in text
    assert "| valid structures | 4 (50.0 %) |" in text
    low, high = (100 * x for x in wilson(4, 8))
    assert f"| plausible structures | 4 (50.0 %) [{low:.1f}, {high:.1f}] |" in text
    assert "- 1: atoms too close" in text
    assert "were moved onto" not in text
    assert f"- 2: {NO_ATOM}" in text
    assert '"seed": 7' in text
    pixels = image.imread(tmp_path / "summary.png")
    assert pixels.shape[0] > 800
    assert pixels[..., :3].std() > 0.05


def test_an_unknown_space_group_is_not_p1(rows, tmp_path):
    before = summarise(rows)
    unknown = dict(rows[0]) | {"spacegroup_number_0.1": None, "spacegroup_0.1": None}
    numbers = write_summary(tmp_path, [*rows, unknown], [*CRYSTALS, CRYSTALS[0]])
    assert numbers["num_without_spacegroup"] == before["num_without_spacegroup"] + 1
    assert numbers["num_above_p1"] == before["num_above_p1"]
    assert numbers["num_crystals"] == before["num_crystals"] + 1
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert f"The space group of {numbers['num_without_spacegroup']} crystals is not known" in text


def test_rows_without_the_columns_are_left_out_and_refined_ones_counted(rows, tmp_path):
    new = ("plausible", "implausible_because", "refined", "spacegroup_number_pymatgen_0.1")
    old = [{name: x for name, x in row.items() if name not in new} for row in rows]
    mixed = [*old[:6], *rows[6:], {**rows[0], "refined": True}]
    numbers = write_summary(tmp_path, mixed, [*CRYSTALS, CRYSTALS[0]], refine_angstrom=0.1)
    assert (numbers["num_plausible"], numbers["num_asked_if_plausible"]) == (1, 3)
    assert numbers["num_asked_by_pymatgen"] == 1
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "of the 3 samples that were asked |" in text
    assert "1 of 6 crystals were moved onto the symmetry found at 0.1 Å." in text
    numbers = write_summary(tmp_path, old, CRYSTALS)
    assert numbers["share_plausible"] is None
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "| plausible structures | not known |" in text


def test_files_are_the_same_every_time(rows, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_summary(tmp_path / name, rows, CRYSTALS)
    for name in ("summary.json", "summary.md", "summary.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_files_without_a_crystal(rows, tmp_path):
    write_summary(tmp_path, rows[5:], CRYSTALS[5:])
    assert "| crystals | 0 (0.0 %) |" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert (tmp_path / "summary.png").stat().st_size > 0
