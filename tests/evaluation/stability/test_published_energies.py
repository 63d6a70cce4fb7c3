"""Energies of others, by DFT and by CHGNet, and the energies above the hull that they published.

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
from miad_jax.evaluation.stability.energies import (
    dft_columns,
    e_above_hull,
    total_energy_ev_per_atom,
)
from miad_jax.evaluation.stability.hull_files import read_hull
from miad_jax.evaluation.stability.relax import relax

NUM, NUM_BY_CHGNET = 20, 5


def published(real_data, name, num):
    with gzip.open(real_data / "wyformer" / f"{name}.csv.gz", "rt") as file:
        return list(csv.DictReader(file))[:num]


@pytest.fixture(scope="module")
def rows(real_data):
    return published(real_data, "relaxed_by_dft", NUM)


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


def hull_of(real_data, structures, file):
    """The hull of the chemical systems of these crystals."""
    folder = real_data / "hull"
    systems = {frozenset(x.symbol for x in structure.elements) for structure in structures}
    elements = folder / "mp_elemental_reference_entries_2023-02-07.json.gz"
    return read_hull(within(folder, systems, file), elements)


@pytest.fixture(scope="module")
def found(real_data, rows, tmp_path_factory):
    """Ours for each row, from its uncorrected and from its corrected energy."""
    structures = [Structure.from_str(row["cif"], "cif") for row in rows]
    hull = hull_of(real_data, structures, tmp_path_factory.mktemp("hull") / "hull.csv")
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


def test_chgnet_gives_the_published_energies(real_data, tmp_path):
    """The authors' hull is of CHGNet's energies, which lie 22 meV/atom higher on average."""
    pytest.importorskip("chgnet", reason="the extra `eval` is not installed")
    rows = published(real_data, "relaxed_by_chgnet", NUM_BY_CHGNET)
    structures = [Structure.from_str(row["cif"], "cif") for row in rows]
    energies = [total_energy_ev_per_atom(x) for x in relax(structures, max_steps=0)]
    np.testing.assert_allclose(energies, numbers(rows, "chgnet_energy_per_atom"), atol=1e-4)
    hull = hull_of(real_data, structures, tmp_path / "hull.csv")
    above = [
        e_above_hull(structure, energy, hull)
        for structure, energy in zip(structures, energies, strict=True)
    ]
    apart = np.array(above) - numbers(rows, "chgnet_e_above_hull_corrected")
    assert 0 < np.median(apart) < 0.05
