"""The tables for LeMat-GenBench read back as that benchmark reads them."""

import csv
import json

import numpy as np
from pymatgen.core import Lattice, Structure

from miad_jax.evaluation.report.lemat import write_lemat_tables
from miad_jax.evaluation.results import EvaluationResult

CSCL = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
STRAINED = CSCL.apply_strain(0.02, inplace=False)


def read(path):
    with path.open(newline="") as file:
        return {
            row["material_id"]: Structure.from_dict(json.loads(row["structure"]))
            for row in csv.DictReader(file)
        }


def test_generated_and_relaxed_crystals_are_two_tables(tmp_path):
    rows = [{"id": 'a, "b"'}, {"id": "no crystal"}, {"id": "c"}]
    generated, relaxed = [STRAINED, None, CSCL], [CSCL, None, None]
    result = EvaluationResult(rows, {}, generated, relaxed, np.zeros(0, int))
    folder = tmp_path / "new" / "lemat"
    assert write_lemat_tables(result, folder) == {"generated.csv": 2, "relaxed.csv": 1}
    assert read(folder / "generated.csv") == {'a, "b"': STRAINED, "c": CSCL}
    assert read(folder / "relaxed.csv") == {'a, "b"': CSCL}
    unrelaxed = EvaluationResult(rows, {}, generated, [None] * 3, np.zeros(0, int))
    assert write_lemat_tables(unrelaxed, folder) == {"generated.csv": 2}
    assert not (folder / "relaxed.csv").exists()
