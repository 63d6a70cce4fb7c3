"""The experiments' own pieces: the naive comparison, the jitter, the table of reports."""

import importlib.util
from pathlib import Path

import numpy as np
from pymatgen.core import Lattice, Structure

from experiments.evaluation.naive import all_pairs
from experiments.evaluation.relaxation import JITTER_ANGSTROM, jittered
from experiments.mp20_slice.compare import table
from experiments.systems.systems import SYSTEMS
from miad_jax.config import validate
from miad_jax.data import from_structures
from miad_jax.evaluation.novelty.matching import match


def test_matching_equals_the_comparison_of_all_pairs():
    cscl = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    iron = Structure(Lattice.cubic(2.87), ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    samples = [cscl, iron, cscl * (2, 1, 1), iron.apply_strain([0, 0, 0.7], inplace=False)]
    known = [iron * (1, 2, 1), cscl]
    naive = all_pairs(samples, known)
    assert naive.duplicate_of == [None, None, 0, None]
    assert match(samples, from_structures(known)) == naive


def test_the_jitter_has_its_size():
    cell = Structure(Lattice.cubic(30), ["Fe"] * 3000, np.random.default_rng(0).random((3000, 3)))
    moved = jittered(cell, np.random.default_rng(1))
    squared = ((moved.cart_coords - cell.cart_coords) ** 2).sum(1)
    np.testing.assert_allclose(np.sqrt(squared.mean()), JITTER_ANGSTROM, rtol=0.05)


def test_reports_stand_side_by_side():
    def report(num, *entries):
        names = ("name", "value", "interval_95", "unit")
        entries = [dict(zip(names, entry, strict=True)) for entry in entries]
        return {"num_samples": num, "tables": [{"title": "Validity", "entries": entries}]}

    one = report(10, ("valid", 0.5, [0.25, 0.75], "share"), ("size", 3.25, None, "Å"))
    two = report(7, ("valid", None, None, "share"))
    assert table({"one": one, "two": two}).splitlines() == [
        "|  | one (10) | two (7) |",
        "| --- | --- | --- |",
        "| valid | 50.0 % (25.0–75.0) | not known |",
        "| size | 3.25 | not known |",
    ]


def test_every_system_of_the_comparison_is_a_configuration():
    root = Path(__file__).parents[2]
    assert len(SYSTEMS) == 8
    for name, variant in SYSTEMS.items():
        path, _, words = variant.config.partition(":")
        spec = importlib.util.spec_from_file_location("compared", root / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config(words)
        config.update_from_flattened_dict(variant.fields())
        validate(config)
        assert config.infusion.enabled == (not name.endswith("-without"))
