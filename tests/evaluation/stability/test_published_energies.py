"""DFT energies of others give the energies above the hull that they published.

The crystals and energies are WyFormer's (Kazeev et al. 2025), measured by them against the
Materials Project's entries of 2023; the hull here is a reconstruction of it.
"""

import csv
import gzip
import re

import numpy as np
import pytest
from pymatgen.core import Structure

from miad_jax.evaluation.stability.dft import DftEnergy
from miad_jax.evaluation.stability.energies import dft_columns
from miad_jax.evaluation.stability.hull_files import read_hull

NUM = 20


@pytest.fixture(scope="module")
def rows(real_data):
    with gzip.open(real_data / "wyformer" / "relaxed_by_dft.csv.gz", "rt") as file:
        return list(csv.DictReader(file))[:NUM]


def within(folder, systems, file):
    """The lines of the table that are of these chemical systems, which is quicker to read."""
    with gzip.open(folder / "mp_hull_reconstructed.csv.gz", "rt") as table:
        head, *lines = table
    symbols = [set(re.findall("[A-Z][a-z]?", line.partition(",")[0])) for line in lines]
    kept = [
        line
        for line, those in zip(lines, symbols, strict=True)
        if any(those <= system for system in systems)
    ]
    file.write_text(head + "".join(kept))
    return file


@pytest.fixture(scope="module")
def found(real_data, rows, tmp_path_factory):
    """Ours for each row, from its uncorrected and from its corrected energy."""
    folder = real_data / "hull"
    structures = [Structure.from_str(row["cif"], "cif") for row in rows]
    systems = {frozenset(x.symbol for x in structure.elements) for structure in structures}
    hull = read_hull(
        within(folder, systems, tmp_path_factory.mktemp("hull") / "hull.csv"),
        folder / "mp_elemental_reference_entries_2023-02-07.json.gz",
    )
    ids = [str(i) for i in range(len(rows))]
    kinds = {"dft_e_uncorrected": False, "dft_e_corrected": True}
    return [
        dft_columns(
            structures,
            ids,
            {
                name: DftEnergy(float(row[column]), is_corrected=is_corrected)
                for name, row in zip(ids, rows, strict=True)
            },
            hull,
        )
        for column, is_corrected in kinds.items()
    ]


def numbers(columns, name):
    return np.array([row[name] for row in columns], float)


def test_corrections_are_the_published_ones(rows, found):
    raw, corrected = (numbers(columns, "dft_energy_ev_per_atom") for columns in found)
    np.testing.assert_allclose(raw, corrected, atol=2e-6)
    guesses = [row["dft_reason"] for row in found[0] if row["dft_reason"]]
    assert len(guesses) <= 2
    assert all("no oxidation states are found" in guess for guess in guesses)


def test_energies_above_the_hull_are_the_published_ones(rows, found):
    published = numbers(rows, "dft_e_above_hull_corrected")
    for columns in found:
        ours = numbers(columns, "dft_e_above_hull_ev_per_atom")
        known = np.isfinite(ours)
        assert np.abs(ours - published)[known].mean() < 0.005
        assert (ours <= 0.1)[known].tolist() == (published <= 0.1)[known].tolist()
