"""NequIX in batches against NequIX under ASE, on real crystals."""

import hashlib
import warnings

import jax
import numpy as np
import pytest

from miad_jax import load_dataset, to_structures
from miad_jax.evaluation.stability import potential
from miad_jax.evaluation.stability.nequix import load_nequix
from miad_jax.evaluation.stability.relax import relax
from miad_jax.evaluation.stability.suitability import request_of


@pytest.fixture(scope="module")
def weights(real_data):
    pytest.importorskip("nequix")
    return real_data / "potentials" / "nequix-oam-1.nqx"


def test_it_says_what_it_is(weights):
    before = jax.config.values["jax_default_matmul_precision"]
    facts = load_nequix(weights).facts
    assert jax.config.values["jax_default_matmul_precision"] == before
    assert facts["weights"] == "nequix-oam-1"
    assert facts["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert facts["energies_are_corrected"] is False
    assert facts["version"].startswith("nequix ")


def test_what_is_no_weights_is_refused(weights, tmp_path):
    (tmp_path / "prose.nqx").write_text("no weights")
    with pytest.raises(ValueError, match=r"prose\.nqx holds no weights of NequIX"):
        load_nequix(tmp_path / "prose.nqx")


@pytest.mark.slow
def test_batches_do_what_ase_does(weights, real_data, tmp_path):
    """Same energies to 1e-4 eV/atom, same outcomes, as good as the same steps."""
    pytest.importorskip("matscipy", reason="nequix finds neighbours with matscipy under ASE")
    from ase import Atoms
    from nequix.calculator import NequixCalculator

    crystals, _ = load_dataset(real_data / "mp_20", "val")
    small = np.flatnonzero((crystals.num_atoms <= 6) & (crystals.num_atoms > 1))
    chosen = np.random.default_rng(0).permutation(small)[:3]
    structures = to_structures(crystals[chosen])
    for structure in structures[1:]:
        structure.perturb(0.1)
        structure.scale_lattice(1.05 * structure.volume)
    settings = {"max_steps": 40, "fmax_ev_per_angstrom": 0.1}
    found = relax(structures, tmp_path / "out", calculator="nequix", weights=weights, **settings)
    calculator = NequixCalculator(model_path=weights, backend="jax", use_kernel=False)
    for structure, result in zip(structures, found, strict=True):
        request = request_of(structure)
        atoms = Atoms(
            numbers=request["atomic_numbers"],
            cell=request["lattice"],
            scaled_positions=request["frac_coords"],
            pbc=True,
            calculator=calculator,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = potential._relax(atoms, 40, 0.1)
        assert result.status == expected["status"]
        assert result.energy_ev_per_atom == pytest.approx(expected["energy_ev_per_atom"], abs=1e-4)
        assert result.steps == pytest.approx(expected["steps"], abs=2)
    assert relax(
        structures, tmp_path / "out", calculator="nequix", weights=weights, **settings
    ) == (found)
