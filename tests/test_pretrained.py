"""The weights that come with the package."""

import json

import jax
import numpy as np
import pytest

import miad_jax
from miad_jax.pretrained import DEFAULT, WEIGHTS, load_model


def test_they_say_what_they_are_and_are_small():
    path = WEIGHTS[DEFAULT]
    assert path.stat().st_size < 30_000_000
    with np.load(path, allow_pickle=False) as file:
        meta = json.loads(str(file["meta"]))
    assert meta["version"]
    assert "CC BY 4.0" in meta["about"]["licence of the data"]
    assert "/" not in meta["config"]["data"]["path"]
    assert (path.parent / "MODEL_CARD.md").exists()


def test_they_sample_finite_crystals_of_real_elements():
    _, denoise, config = miad_jax.load_pretrained()
    diffusion = miad_jax.make_diffusion(config.diffusion.num_steps, num_kept=30)
    num_atoms = config.infusion.num_atoms
    crystals = miad_jax.sample(diffusion, denoise, jax.random.key(0), 4, num_atoms=num_atoms)
    assert np.isfinite(crystals.lattice).all()
    assert np.isfinite(crystals.frac_coords).all()
    sizes = miad_jax.real_atom_mask(crystals).sum(-1)
    assert sizes.max() <= num_atoms
    assert sizes.max() >= 1


def test_a_name_that_is_none_is_said():
    with pytest.raises(ValueError, match="does not exist; weights that come with the package"):
        load_model("nothing.npz")
