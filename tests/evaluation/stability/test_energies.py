"""Elemental energies are kept under a name that says all that changes them."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from miad_jax.data import Records, from_structures
from miad_jax.evaluation.reference import Reference
from miad_jax.evaluation.stability import energies
from miad_jax.evaluation.stability.relax import Relaxation

FACTS = {"energies_are_corrected": True, "version": "1", "weights": "abc"}


@pytest.fixture
def fitted(tmp_path, monkeypatch):
    """Fit elemental energies; the number of fits that were made until then."""
    monkeypatch.setenv("MIAD_JAX_CACHE", str(tmp_path))
    structure = Structure(Lattice.cubic(3), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    crystals = from_structures([structure, Structure(Lattice.cubic(3), ["Na"], [[0, 0, 0]])])
    records = Records(["a", "b"], {}, (), "abc")
    made = []

    def relax(structures, folder, **settings):
        folder.mkdir(parents=True)
        made.append(folder)
        return [Relaxation("converged", 0, -2.0, True, x) for x in structures]

    monkeypatch.setattr(energies, "relax", relax)

    def fit(calculator="flat:Flat", facts=FACTS, fingerprint="abc"):
        reference = Reference(
            "made", crystals, records, None, [crystals], np.array([-1.0, 0.0]), fingerprint
        )
        energies.elemental_energies(reference, calculator, facts=facts)
        return len(made)

    return fit


def test_a_second_fit_is_read(fitted):
    assert [fitted(), fitted()] == [1, 1]


@pytest.mark.parametrize(
    "changes",
    [
        {"calculator": "flat:Other"},
        {"facts": FACTS | {"weights": "def"}},
        {"facts": FACTS | {"version": "2"}},
        {"fingerprint": "def"},
    ],
)
def test_what_changes_the_energies_changes_the_name(fitted, changes):
    assert [fitted(), fitted(**changes), fitted()] == [1, 2, 2]


def test_another_pymatgen_corrects_otherwise(fitted, monkeypatch):
    assert fitted() == 1
    monkeypatch.setattr(energies, "version", lambda name: "another")
    assert fitted() == 2
