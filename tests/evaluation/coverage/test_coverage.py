import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from miad_jax.data import Records, from_structures
from miad_jax.evaluation.coverage import rates as module
from miad_jax.evaluation.coverage.properties import property_distances
from miad_jax.evaluation.coverage.rates import coverage, cutoffs, min_distances
from miad_jax.evaluation.pipeline import evaluate
from miad_jax.evaluation.reference import Reference


def test_structures_that_are_the_reference_cover_it(tmp_path, monkeypatch):
    """From structures to the report's table, with real fingerprints."""
    pytest.importorskip("matminer")
    pytest.importorskip("smact")
    monkeypatch.setenv("MIAD_JAX_CACHE", str(tmp_path))
    salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0, 0]]
    ).get_primitive_structure()
    cscl = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    # Too close to be valid, but with a fingerprint: it counts as the definition says.
    close = Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.1, 0, 0]])
    test = from_structures([salt, cscl])
    records = Records(["salt", "cscl"], {}, (), "abc")
    reference = Reference("made", test, records, test, [test, test], None, "abc")
    found = evaluate([salt, cscl, close, None], reference, calculator="none", num_workers=1)
    table = {x.name: x for x in found.tables["Coverage of the test split"]}
    assert (table["COV-R"].count, table["COV-R"].total) == (2, 2)
    assert table["COV-P"].total == 4
    assert table["COV-P"].count in (2, 3)
    assert table["AMSD-R"].value == pytest.approx(0, abs=1e-9)
    distances = {x.name: x.value for x in found.tables["Distances to the test split"]}
    assert max(distances.values()) == pytest.approx(0, abs=1e-9)


def line(*values):
    """Fingerprints of one feature."""
    return np.array(values, float)[:, None]


def naive(sample_s, sample_c, reference_s, reference_c, cutoffs):
    """Coverage of the first set by the second, crystal by crystal."""
    covered, structure, composition = 0, [], []
    for s, c in zip(sample_s, sample_c, strict=True):
        if np.isnan(s).any() or np.isnan(c).any():
            continue
        others = [
            (x, y)
            for x, y in zip(reference_s, reference_c, strict=True)
            if not (np.isnan(x).any() or np.isnan(y).any())
        ]
        structure.append(min(np.sqrt(((s - x) ** 2).sum()) for x, _ in others))
        composition.append(min(np.sqrt(((c - y) ** 2).sum()) for _, y in others))
        covered += structure[-1] <= cutoffs[0] and composition[-1] <= cutoffs[1]
    return covered, len(sample_s), np.mean(structure), np.mean(composition)


@given(seed=st.integers(0, 2**32 - 1), chunk=st.integers(1, 12))
def test_coverage_equals_a_double_loop(seed, chunk):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(n, d)) for n, d in ((9, 3), (9, 4), (11, 3), (11, 4))]
    arrays[0][2, 1] = arrays[1][5, 0] = arrays[2][3] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        found = coverage(*arrays, structure_cutoff=1.0, composition_cutoff=1.5)
    sample_s, sample_c, reference_s, reference_c = arrays
    precision = naive(sample_s, sample_c, reference_s, reference_c, (1.0, 1.5))
    recall = naive(reference_s, reference_c, sample_s, sample_c, (1.0, 1.5))
    assert (found.precision.count, found.precision.total) == precision[:2]
    assert (found.recall.count, found.recall.total) == recall[:2]
    assert found.amsd_precision.value == pytest.approx(precision[2])
    assert found.amcd_precision.value == pytest.approx(precision[3])
    assert found.amsd_recall.value == pytest.approx(recall[2])
    assert found.amcd_recall.value == pytest.approx(recall[3])


def test_the_two_neighbours_may_be_different_crystals():
    found = coverage(line(0), line(0), line(0.1, 5), line(50, 1))
    assert found.precision.count == 1
    assert found.recall.count == 0


def test_cutoffs_are_inclusive():
    for limits, count in (((0.5, 8), 1), ((0.499, 8), 0), ((0.5, 7.99), 0)):
        found = coverage(
            *(line(0), line(0), line(0.5), line(8)),
            structure_cutoff=limits[0],
            composition_cutoff=limits[1],
        )
        assert found.precision.count == found.recall.count == count


def test_a_set_covers_itself():
    rng = np.random.default_rng(0)
    structure, composition = rng.normal(size=(600, 5)), rng.normal(size=(600, 7))
    found = coverage(structure, composition, structure, composition)
    assert found.recall.value == found.precision.value == 1
    assert found.amsd_recall.value == found.amcd_precision.value == 0
    assert found.recall.total == 600


def test_what_has_no_fingerprint_is_not_covered_and_covers_none():
    nan = np.nan
    found = coverage(line(0, nan, 3), line(0, 0, nan), line(0, 3, nan), line(0, 0, 0))
    assert (found.precision.count, found.precision.total) == (1, 3)
    assert (found.recall.count, found.recall.total) == (1, 3)  # 3 is near a sample in vain
    assert found.amsd_recall.value == pytest.approx(1.5)
    assert found.amsd_precision.value == 0


@pytest.mark.parametrize("sample", [line(), line(np.nan, np.nan)])
def test_nothing_to_compare(sample):
    found = coverage(sample, sample, line(0, 1), line(0, 1))
    assert (found.recall.count, found.recall.total) == (0, 2)
    assert (found.precision.count, found.precision.total) == (0, len(sample))
    for distance in (found.amsd_recall, found.amsd_precision, found.amcd_recall):
        assert distance.value is None
        assert distance.interval is None


def test_intervals_and_definitions():
    rng = np.random.default_rng(1)
    arrays = [rng.normal(size=(50, 3)) for _ in range(4)]
    found = coverage(*arrays)
    low, high = found.amsd_recall.interval
    assert low < found.amsd_recall.value < high
    assert "within 0.4 in" in found.recall.definition
    assert "within 10 in" in found.precision.definition
    assert "of all samples" in found.precision.definition


def test_rows_must_fit_together():
    with pytest.raises(ValueError, match=r"sample_structure has the shape \(2, 1\).*\(1, 1\)"):
        coverage(line(0, 1), line(0), line(0), line(0))
    with pytest.raises(ValueError, match=r"reference_structure has the shape \(1,\)"):
        coverage(line(0), line(0), np.zeros(1), line(0))
    with pytest.raises(ValueError, match=r"1 features in sample_structure.*2 in reference"):
        coverage(line(0), line(0), np.zeros((1, 2)), line(0))
    with pytest.raises(ValueError, match="structure_cutoff is nan"):
        coverage(line(0), line(0), line(0), line(0), structure_cutoff=np.nan)


def test_distances_need_little_memory():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(3000, 2)), rng.normal(size=(4000, 2))
    tracemalloc.start()
    to_second, to_first = min_distances(first, second)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.25 * 8 * len(first) * len(second)
    assert to_second[17] == pytest.approx(np.linalg.norm(second - first[17], axis=1).min())
    assert to_first[2999] == pytest.approx(np.linalg.norm(first - second[2999], axis=1).min())


def test_property_distances_of_shifted_sets():
    density = np.linspace(2, 8, 30)
    elements = np.repeat([2, 3, 4], 10)
    by_density, by_elements = property_distances(
        density + 0.7, elements + 1, density, elements, max_num=100
    )
    assert by_density.value == pytest.approx(0.7)
    assert by_density.unit == "g/cm³"
    assert by_elements.value == pytest.approx(1)
    low, high = by_elements.interval
    assert 0.5 < low < 1 < high < 1.5
    assert "30 of 30 valid samples to 30 reference" in by_density.definition


def test_property_distance_equals_the_area_between_the_distributions():
    rng = np.random.default_rng(3)
    sample, reference = rng.normal(5, 1, 40), rng.normal(6, 2, 70)
    found, _ = property_distances(sample, np.ones(40), reference, np.ones(70), max_num=40)
    grid = np.linspace(-5, 20, 200_001)
    below = [np.searchsorted(np.sort(x), grid, side="right") / len(x) for x in (sample, reference)]
    area = np.abs(below[0] - below[1]).mean() * (grid[-1] - grid[0])
    assert found.value == pytest.approx(area, rel=1e-3)


def test_as_many_samples_as_asked_for_are_drawn_once_and_together():
    density, elements = np.arange(50.0), np.arange(50)
    reference = np.zeros(1), np.zeros(1, int)

    def distances(seed, max_num=7):
        found = property_distances(density, elements, *reference, max_num=max_num, seed=seed)
        return [x.value for x in found]

    by_density, by_elements = distances(0)
    assert by_density == by_elements  # the same crystals for both
    assert distances(0) == [by_density, by_elements]
    assert distances(1) != [by_density, by_elements]
    chosen = np.random.default_rng(0).choice(50, 7, replace=False)
    assert by_density == pytest.approx(chosen.mean())
    assert distances(0, 50)[0] == pytest.approx(density.mean())


def test_property_distances_of_no_sample():
    none = np.zeros(0)
    for found in property_distances(none, none, np.ones(3), np.ones(3), max_num=5):
        assert found.value is None
        assert found.interval is None


@pytest.mark.parametrize(
    ("density", "elements", "max_num", "message"),
    [
        ([1.0, np.nan], [1, 2], 2, "a sample property is not finite"),
        ([1.0], [1, 2], 2, r"sample_density has the shape \(1,\)"),
        ([1.0], [1], 0, "max_num is 0"),
    ],
)
def test_bad_properties(density, elements, max_num, message):
    with pytest.raises(ValueError, match=message):
        property_distances(
            np.array(density), np.array(elements), np.ones(2), np.ones(2), max_num=max_num
        )


@pytest.mark.parametrize(
    ("name", "expected"), [("data/mp_20", 0.4), ("perov_5_slice/", 0.2), ("mine", 0.4)]
)
def test_cutoffs_follow_the_data_set(name, expected):
    assert cutoffs(name)[0] == expected
