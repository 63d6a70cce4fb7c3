"""The embedded dataset: its promised numbers, its geometry, and that the script rebuilds it."""

import gzip
import hashlib
import importlib.util
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from ase.data import covalent_radii
from pymatgen.core import Composition, Element, Lattice

from miad_jax.data.packed import load_packed

ROOT = Path(__file__).parents[2]
FILE = ROOT / "miad_jax" / "data" / "prototypes.npz"
REBUILT = [
    "A_cI2_229_a",  # one element
    "AB_cF8_225_a_b",  # ions
    "A2B_hP9_152_c_a",  # shares its formulas with the other quartz
    "AB2C_cF16_225_a_c_b",  # metals
    "A3B4_tI28_141_ad_h",  # mixed valence
    "A2B3C7D_oP13_47_t_aq_eqrs_h",  # four elements
]


@pytest.fixture(scope="module")
def shipped():
    return load_packed(FILE)


@pytest.fixture(scope="module")
def script():
    """The build script, found whatever folder pytest was started in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        # Of the library's seconds nine tenths go into the grammar of its literature references.
        patch.setattr("pymatgen.util.provenance.is_valid_bibtex", lambda reference: True)
        yield importlib.import_module("experiments.prototypes.build")


def unpadded(crystals):
    for lattice, coords, types, mask in zip(
        crystals.lattice, crystals.frac_coords, crystals.atom_types, crystals.mask, strict=True
    ):
        yield lattice.astype(np.float64), coords[mask].astype(np.float64), types[mask]


def test_it_has_the_promised_size(shipped):
    crystals, records = shipped
    elements = np.unique(crystals.atom_types[crystals.mask])

    assert len(crystals) >= 3000
    assert len(elements) >= 60
    assert FILE.stat().st_size < 1_000_000
    assert elements.max() <= 94
    assert not any(Element.from_Z(int(z)).is_noble_gas for z in elements)
    assert not records.rejected


def test_it_has_every_size_that_the_prototypes_have(shipped):
    crystals, _ = shipped
    # Read as JSON: pymatgen takes seconds to make structures of it.
    library = importlib.util.find_spec("pymatgen.analysis.prototypes").origin
    content = gzip.decompress(Path(library).with_name("aflow_prototypes.json.gz").read_bytes())
    pearson = [entry["tags"]["pearson"] for entry in json.loads(content)]
    atoms_per_cell = [int(re.search(r"\d+", symbol)[0]) for symbol in pearson]
    lattice_points = [{"F": 4, "I": 2, "C": 2, "S": 2}.get(symbol[1], 1) for symbol in pearson]
    primitive = [n // m for n, m in zip(atoms_per_cell, lattice_points, strict=True)]
    sizes = {size for size in primitive if size <= 20}

    assert set(crystals.num_atoms.tolist()) == sizes


def test_no_two_atoms_are_too_close(shipped):
    crystals, records = shipped
    # The cells are Niggli-reduced, so the nearest image is among the neighbouring cells.
    images = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    for name, (lattice, coords, types) in zip(records.ids, unpadded(crystals), strict=True):
        difference = coords[:, None] - coords[None]
        difference -= np.round(difference)
        distance = np.linalg.norm((difference[:, :, None] + images) @ lattice, axis=-1)
        distance[distance < 1e-6] = np.inf  # an atom and itself; no pair is that close, see below
        radii = covalent_radii[types]
        allowed = 0.7 * (radii[:, None] + radii)
        assert (distance.min(-1) >= allowed).all(), name
        assert np.isinf(distance).sum() == len(types), name


def test_cells_are_reduced_and_in_the_standard_orientation(shipped):
    crystals, _ = shipped
    for lattice in crystals.lattice[::97].astype(np.float64):
        cell = Lattice(lattice)
        rebuilt = Lattice.from_parameters(*cell.parameters)
        np.testing.assert_allclose(rebuilt.matrix, lattice, atol=1e-3)
        reduced = cell.get_niggli_reduced_lattice(tol=1e-3)
        np.testing.assert_allclose(sorted(reduced.abc), sorted(cell.abc), rtol=1e-3)


def test_splits_are_shares_by_the_hash_of_the_id(shipped):
    _, records = shipped
    split = records.columns["split"]
    percent = [
        int.from_bytes(hashlib.sha256(x.encode()).digest()[:8], "big") % 100 for x in records.ids
    ]

    np.testing.assert_array_equal(split, np.digitize(percent, [90, 95]))
    np.testing.assert_allclose(
        np.bincount(split.astype(int)) / len(split), [0.9, 0.05, 0.05], atol=0.01
    )


def test_ids_are_unique_and_name_prototype_and_formula(shipped):
    crystals, records = shipped
    assert len(set(records.ids)) == len(records.ids)
    for name, label, (_, _, types) in zip(
        records.ids, records.columns["prototype"], unpadded(crystals), strict=True
    ):
        prototype, formula = name.split(":")
        assert prototype == label or prototype.startswith(f"{label}-")
        atoms = Composition.from_dict({str(z): n for z, n in _count(types).items()})
        assert atoms.reduced_formula == formula


def _count(types):
    symbols = [Element.from_Z(int(z)).symbol for z in types]
    return {symbol: symbols.count(symbol) for symbol in symbols}


@pytest.mark.parametrize(
    ("name", "volume_per_atom"),
    [
        ("AB_cF8_225_a_b:NaCl", 22.4),
        ("AB_cF8_225_a_b:KBr", 35.9),
        ("AB_cF8_225_a_b:MgO", 9.4),
        ("A2B_tP6_136_f_a:SnO2", 11.9),
        ("A2B_tP6_136_f_a:RuO2", 10.4),
        ("AB3C_cP5_221_a_c_b:SrTiO3", 11.9),
        ("A_cI2_229_a:Mo", 15.6),
        ("AB_cF8_216_c_a:ZnSe", 22.8),
    ],
)
def test_volumes_of_known_crystals_are_within_15_percent(shipped, name, volume_per_atom):
    crystals, records = shipped
    index = records.ids.index(name)
    volume = np.linalg.det(crystals.lattice[index].astype(np.float64))

    assert volume / crystals.num_atoms[index] == pytest.approx(volume_per_atom, rel=0.15)


@pytest.mark.slow
def test_the_script_rebuilds_the_shipped_rows(shipped, script):
    crystals, records = shipped
    rows = np.array([name.split(":")[0] in REBUILT for name in records.ids])
    part, part_records = script.build(REBUILT)

    assert list(part_records.ids) == [x for x, row in zip(records.ids, rows, strict=True) if row]
    for name, column in part_records.columns.items():
        np.testing.assert_array_equal(column, records.columns[name][rows])
    for ours, theirs in zip(unpadded(part), unpadded(crystals[rows]), strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_the_script_refuses_an_unknown_prototype(script):
    with pytest.raises(ValueError, match="no prototype of at most 20 atoms is called"):
        script.build(["AB_cF8_225_b_a"])
