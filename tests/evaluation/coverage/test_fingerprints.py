import importlib.metadata
import os
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
from pymatgen.core import Composition, Lattice, Structure

from miad_jax.evaluation.coverage import fingerprints, site_fingerprint
from miad_jax.evaluation.coverage.fingerprints import (
    NUM_COMPOSITION_FEATURES,
    composition_fingerprints,
    structure_fingerprints,
)
from miad_jax.evaluation.coverage.site_fingerprint import NUM_STRUCTURE_FEATURES
from miad_jax.parallel.executor import Serial, WorkerFailure
from miad_jax.parallel.progress import Progress

SALT = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
)
PEROVSKITE = Structure(
    Lattice.cubic(3.905),
    ["Sr", "Ti", "O", "O", "O"],
    [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
)
DIAMOND = Structure.from_spacegroup("Fd-3m", Lattice.cubic(3.567), ["C"], [[0, 0, 0]])
HELIUM = Structure(
    Lattice.hexagonal(3.57, 5.83), ["He", "He"], [[1 / 3, 2 / 3, 1 / 4], [2 / 3, 1 / 3, 3 / 4]]
)
DISORDERED = Structure(Lattice.cubic(3), [Composition("Fe0.5Ni0.5")], [[0, 0, 0]])
NAN_LATTICE = Structure(np.full((3, 3), np.nan), ["Si"], [[0, 0, 0]])
NAN_COORDS = Structure(Lattice.cubic(3), ["Si"], [[0, np.nan, 0]])
FLAT = Structure([[3, 0, 0], [3, 0, 0], [0, 0, 3]], ["H"], [[0, 0, 0]])
DENSE = Structure(Lattice.cubic(0.5), ["H"], [[0, 0, 0]])
EMPTY = Structure(Lattice.cubic(3), [], [])
SAME_PLACE = Structure(Lattice.cubic(4), ["Si", "Si"], [[0, 0, 0], [0, 0, 0]])


class Fake:
    """An executor whose fingerprint is the atomic number of the first site, without matminer.

    It runs out of time on H, dies on He, fails on Li and has no matminer on Be.
    """

    num_workers = 1

    def __init__(self):
        self._asked = []

    def map(self, function, requests, *, seconds=None):
        assert function is site_fingerprint.site_mean
        for i, arrays in enumerate(requests):
            number = int(arrays[2][0])
            self._asked.append(number)
            special = {
                1: WorkerFailure(f"took longer than {seconds:g} s", timed_out=True),
                2: WorkerFailure("its worker process ended early (exit code 1)"),
                3: np.full(61, np.nan),
                4: "ImportError: no such thing",
            }
            yield i, special.get(number, np.full(61, float(number)))

    def __call__(self):
        """The atomic numbers that were asked for since the last call."""
        asked, self._asked = sorted(self._asked), []
        return asked


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """What computes fingerprints in place of local workers."""
    executor = Fake()
    monkeypatch.setattr(fingerprints, "Pool", lambda: executor)
    monkeypatch.setattr(fingerprints, "_matminer_version", lambda: "0")
    monkeypatch.setenv("MIAD_JAX_CACHE", str(tmp_path / "cache"))
    return executor


def atom(number, edge=4.0):
    return Structure(Lattice.cubic(edge), [number], [[0, 0, 0]])


def test_rows_are_in_order_and_missing_ones_nan(fake):
    none = [None, NAN_LATTICE, NAN_COORDS, DISORDERED, FLAT, DENSE, EMPTY]
    found = structure_fingerprints([atom(9), atom(7), *none, atom(8)])
    assert found.shape == (10, NUM_STRUCTURE_FEATURES)
    np.testing.assert_array_equal(found[[0, 1, 9]].T, np.tile([9, 7, 8], (61, 1)))
    assert np.isnan(found[2:9]).all()
    assert fake() == [7, 8, 9]


def test_nothing_to_do_starts_no_worker(fake):
    assert structure_fingerprints([]).shape == (0, NUM_STRUCTURE_FEATURES)
    assert np.isnan(structure_fingerprints([None])).all()
    assert fake() == []


def test_equal_structures_are_computed_once_and_kept(fake, tmp_path):
    moved = atom(6)
    moved.translate_sites([0], [1e-9, 1 - 1e-9, 0], to_unit_cell=False)
    first = structure_fingerprints([atom(6), moved, atom(6, 4.001)])
    assert fake() == [6, 6]
    np.testing.assert_array_equal(structure_fingerprints([atom(6, 4.001), moved]), first[:2])
    assert fake() == []
    structure_fingerprints([atom(6)], cache_dir=tmp_path / "elsewhere")
    assert fake() == [6]


def test_failures_of_the_definition_are_kept_and_accidents_are_not(fake):
    with pytest.warns(UserWarning, match="2 of 5 structures .* the first: took longer than 60 s"):
        found = structure_fingerprints([atom(z) for z in (1, 2, 3, 5, 6)])
    np.testing.assert_array_equal(found[:, 0], [np.nan, np.nan, np.nan, 5, 6])
    assert fake() == [1, 2, 3, 5, 6]
    with pytest.warns(UserWarning, match="1 of 1 structures .* ended early"):
        again = structure_fingerprints([atom(z) for z in (2, 3, 5, 6)])
    np.testing.assert_array_equal(again, found[1:])
    assert fake() == [2]


def test_how_long_it_takes_is_said_before_it_starts(fake):
    said = []

    class Saying(Progress):
        def say(self, line):
            said.append((line, fake()))

    found = [atom(z).make_supercell(5, in_place=False) for z in (5, 6)]
    structure_fingerprints(found, progress=Saying())
    assert said == [
        ("fingerprints of 2 crystals, once: some 4 seconds for 250 sites at 17 ms a site on 1 "
         "cores", [])
    ]  # fmt: skip
    structure_fingerprints(found, progress=Saying())
    assert len(said) == 1
    assert "some 13 minutes for 92113 sites" in fingerprints._forecast(9046, 92113, 2)


def test_another_version_is_computed_again(fake, monkeypatch):
    structure_fingerprints([atom(6)])
    monkeypatch.setattr(fingerprints, "_matminer_version", lambda: "1")
    structure_fingerprints([atom(6)])
    monkeypatch.setattr(fingerprints, "_STRUCTURES", "another")
    structure_fingerprints([atom(6)])
    assert fake() == [6, 6, 6]


def test_an_ended_run_keeps_what_it_had(fake, monkeypatch):
    monkeypatch.setattr(fingerprints, "_BATCH", 2)
    with pytest.raises(ValueError, match="matminer is installed but does not work: ImportError"):
        structure_fingerprints([atom(z) for z in (5, 6, 7, 4, 8)])
    fake()
    structure_fingerprints([atom(z) for z in (5, 6, 7)])
    assert fake() == []


def test_batches_are_written_as_they_come(fake, monkeypatch, tmp_path):
    monkeypatch.setattr(fingerprints, "_BATCH", 2)
    structure_fingerprints([atom(z) for z in (5, 6, 7, 8, 9)])
    files = list((tmp_path / "cache" / "fingerprints").glob("*/*.npz"))
    sizes = []
    for file in files:
        with np.load(file) as batch:
            sizes.append(len(batch["keys"]))
    assert sorted(sizes) == [1, 2, 2]


def test_a_damaged_file_is_passed_over(fake, tmp_path):
    structure_fingerprints([atom(6)])
    (file,) = (tmp_path / "cache" / "fingerprints").glob("*/*.npz")
    file.write_bytes(file.read_bytes()[:50])
    with pytest.warns(UserWarning, match="does not hold fingerprints .* delete it"):
        found = structure_fingerprints([atom(6)])
    assert (found == 6).all()
    assert fake() == [6, 6]


@pytest.mark.skipif(os.name == "nt", reason="takes a file where a folder must be")
def test_a_folder_that_cannot_be_written_is_said(fake, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="fingerprints could not be kept .* MIAD_JAX_CACHE"):
        found = structure_fingerprints([atom(6)], cache_dir=tmp_path / "file")
    assert (found == 6).all()


def test_without_matminer(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    for function in (structure_fingerprints, composition_fingerprints):
        with pytest.raises(ValueError, match=r'pip install "miad_jax\[eval\]"'):
            function([])


def test_workers_start_without_jax_and_with_a_bound_of_memory():
    pytest.importorskip("matminer")
    program = f"""
        import runpy, sys
        made = runpy.run_path({site_fingerprint.__file__!r})["_crystal_nn"]()
        assert type(made).__name__ == "CrystalNNFingerprint"
        import resource
        assert resource.getrlimit(resource.RLIMIT_AS)[0] == {site_fingerprint._MEMORY_LIMIT_BYTES}
        print([x for x in ("jax", "torch", "miad_jax") if x in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Fingerprints of real crystals, and of some that are none."""
    pytest.importorskip("matminer")
    structures = [SALT, PEROVSKITE, DIAMOND, HELIUM, SAME_PLACE, None, SALT * (1, 1, 2)]
    cache = tmp_path_factory.mktemp("cache")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return structure_fingerprints(structures, executor=Serial(), cache_dir=cache)


def labels():
    from matminer.featurizers.site import CrystalNNFingerprint

    return CrystalNNFingerprint.from_preset("ops").feature_labels()


def test_known_coordinations(real):
    names = labels()
    assert len(names) == NUM_STRUCTURE_FEATURES
    salt, perovskite, diamond = (dict(zip(names, row, strict=True)) for row in real[:3])
    assert salt["wt CN_6"] > 0.9
    assert salt["octahedral CN_6"] > 0.9
    assert diamond["tetrahedral CN_4"] > 0.9
    assert perovskite["cuboctahedral CN_12"] == pytest.approx(1 / 5)  # Sr alone
    assert 1 / 5 < perovskite["octahedral CN_6"] < 4 / 5  # Ti, and O in part
    assert np.isfinite(real[3]).all()  # helium
    assert np.isnan(real[5]).all()


def test_equals_matminer_site_by_site(real):
    from matminer.featurizers.site import CrystalNNFingerprint

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        featurizer = CrystalNNFingerprint.from_preset("ops")
        sites = [featurizer.featurize(PEROVSKITE, i) for i in range(5)]
    np.testing.assert_allclose(real[1], np.mean(sites, axis=0), atol=1e-9)


def test_only_sites_that_no_symmetry_makes_equal_are_computed():
    def distinct(structure):
        first, counts = site_fingerprint._distinct_sites(fingerprints._arrays(structure))
        return first.tolist(), counts.tolist()

    assert distinct(PEROVSKITE) == ([0, 1, 2], [1, 1, 3])
    moved = PEROVSKITE.copy()
    moved.translate_sites([4], [0.003, 0.002, 0.001])
    assert distinct(moved) == ([0, 1, 2, 3, 4], [1] * 5)
    assert distinct(SAME_PLACE) == ([0, 1], [1, 1])


def test_a_supercell_is_the_same_structure(real):
    np.testing.assert_allclose(real[6], real[0], atol=1e-3)


def test_magpie_is_scaled_and_not_imputed(recwarn):
    pytest.importorskip("matminer")
    from matminer.featurizers.composition import ElementProperty

    compositions = [Composition(x) for x in ("NaCl", "SrTiO3", "HeO", "NaCl", "Cu3Au", "Es2O3")]
    found = composition_fingerprints(compositions)
    assert not recwarn.list
    assert found.shape == (6, NUM_COMPOSITION_FEATURES)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[0], found[3])

    path = fingerprints.Path(fingerprints.__file__).with_name("magpie_scaler.npz")
    with np.load(path) as scaler:
        mean, std = scaler["mean"], scaler["std"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        magpie = ElementProperty.from_preset("magpie", impute_nan=False)
        raw = np.array([magpie.featurize(x) for x in compositions])
    assert np.isnan(raw).any()
    expected = (raw - mean) / std
    np.testing.assert_allclose(found, np.where(np.isnan(expected), 0, expected))
    names = magpie.feature_labels()
    salt = found[0] * std + mean
    assert salt[names.index("MagpieData mean Number")] == pytest.approx((11 + 17) / 2)
    assert salt[names.index("MagpieData range Electronegativity")] == pytest.approx(3.16 - 0.93)


def test_compositions_are_kept(tmp_path, monkeypatch):
    pytest.importorskip("matminer")
    from matminer.featurizers.composition import ElementProperty

    compositions = [Composition("NaCl"), None, Composition("SrTiO3")]
    first = composition_fingerprints(compositions, cache_dir=tmp_path)
    monkeypatch.setattr(ElementProperty, "from_preset", None)
    again = composition_fingerprints(compositions[::-1], cache_dir=tmp_path)
    np.testing.assert_array_equal(again[::-1], first)


def test_no_composition_has_no_fingerprint():
    pytest.importorskip("matminer")
    found = composition_fingerprints([None, Composition("NaCl"), Composition({})])
    np.testing.assert_array_equal(np.isnan(found).all(1), [True, False, True])
    assert composition_fingerprints([]).shape == (0, NUM_COMPOSITION_FEATURES)
