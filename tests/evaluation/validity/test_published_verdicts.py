"""Verdicts on another generator's crystals are those that its authors published."""

import csv
import gzip

import numpy as np
import pytest
from pymatgen.core import Structure

from miad_jax.evaluation.validity.structure import is_valid_structure, min_distance

pytest.importorskip("smact", reason="valid compositions need the extra eval")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["as_generated", "relaxed_by_chgnet"])
def test_each_of_the_first_hundred_is_judged_as_published(real_data, name):
    from miad_jax.evaluation.validity.composition import valid_composition

    with gzip.open(real_data / "wyformer" / f"{name}.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))[:100]
    for row in rows:
        crystal = Structure.from_str(row["cif"], fmt="cif")
        distance = min_distance(crystal.lattice.matrix, crystal.frac_coords)
        numbers = np.array([site.specie.Z for site in crystal])
        found = is_valid_structure(distance, crystal.volume), valid_composition(numbers)
        expected = row["structural_validity"] == "true", row["smact_validity"] == "true"
        assert found == expected, row["material_id"]
    assert {row["smact_validity"] for row in rows} == {"true", "false"}
