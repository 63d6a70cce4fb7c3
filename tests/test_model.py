"""The weights that come with the package."""

import json

import jax
import numpy as np
import pytest

import miad_jax
from miad_jax.build import network_from
from miad_jax.fine_tuning import load_initial
from miad_jax.model import DEFAULT, WEIGHTS, load_model


@pytest.mark.parametrize("name", WEIGHTS)
def test_they_say_what_they_are_and_are_small(name):
    path = WEIGHTS[name]
    assert path.stat().st_size < 30_000_000
    with np.load(path, allow_pickle=False) as file:
        meta = json.loads(str(file["meta"]))
    assert meta["version"]
    assert "CC BY 4.0" in meta["about"]["licence of the data"]
    assert "/" not in meta["config"]["data"]["path"]
    assert (path.parent / "MODEL_CARD.md").exists()
    model = load_model(name)
    assert model.config.infusion.enabled == ("diffcsp" not in name)
    started_from = model.init_from
    assert started_from is not None
    assert started_from["step"] > 0


@pytest.mark.slow
def test_they_sample_finite_crystals_of_real_elements():
    diffusion, denoise, config = miad_jax.load_pretrained()
    num_atoms, solver = config.infusion.num_atoms, miad_jax.PredictorCorrector(steps=30)
    crystals = miad_jax.sample(
        diffusion, denoise, jax.random.key(0), 4, num_atoms=num_atoms, solver=solver
    )
    assert np.isfinite(crystals.lattice).all()
    assert np.isfinite(crystals.frac_coords).all()
    sizes = miad_jax.real_atom_mask(crystals).sum(-1)
    assert sizes.max() <= num_atoms
    assert sizes.max() >= 1


def test_a_name_that_is_none_is_said():
    with pytest.raises(ValueError, match="does not exist; weights that come with the package"):
        load_model("nothing.npz")


def test_they_start_a_training_that_says_where_it_came_from():
    initial = load_initial(DEFAULT)
    assert initial.source["name"] == DEFAULT
    assert "/" not in initial.source["config"]["data"]["path"]
    shapes = jax.eval_shape(network_from(load_model(DEFAULT).config).init_params, jax.random.key(0))
    assert jax.tree.map(np.shape, initial.params) == jax.tree.map(lambda x: x.shape, shapes)


def test_the_precision_of_products_can_be_chosen():
    exact, fast = (load_model("mp20-small12", dtype=dtype) for dtype in (None, "bfloat16"))
    assert exact.config.network.dtype == "float32"
    assert exact.digest == fast.digest
    crystal = miad_jax.load_dataset("prototypes", "train")[0][:4]
    time = jax.numpy.full(4, 300)
    one, other = (jax.jit(model.denoise)(crystal, time) for model in (exact, fast))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert 0 < np.linalg.norm(a - b) < 0.03 * np.linalg.norm(a)


def test_a_precision_that_is_none_is_said():
    with pytest.raises(ValueError, match="dtype is 'float64'; allowed: float32, bfloat16"):
        load_model(DEFAULT, dtype="float64")
