"""The systems that the paper names, from their configurations to finite crystals."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

from miad_jax.build import solver_from
from miad_jax.config import validate
from miad_jax.crystal import MIRAGE, NUM_TYPES
from miad_jax.mirage import reduce
from miad_jax.model import load_pretrained
from miad_jax.sampling.sample import sample
from miad_jax.training import load_training_data, train

FILE = Path(__file__).parents[2] / "configs" / "mp20.py"


def tiny(variant):
    """A system of 50 noise levels and a small network, on the smallest prototypes."""
    spec = importlib.util.spec_from_file_location("mp20", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(variant)
    config.data.path = "prototypes"
    config.data.max_num_atoms = 4
    config.infusion.num_atoms = 5
    config.diffusion.num_steps = 50
    config.sampling.first_time = 49
    config.sampling.steps = 12
    config.network.hidden_dim, config.network.num_layers = 16, 1
    config.network.num_freqs, config.network.time_dim = 4, 8
    config.optimizer.warmup_steps = 2
    config.batch_size, config.num_steps = 8, 6
    config.log_every, config.validate_every, config.checkpoint_every = 2, 6, 6
    return validate(config)


@pytest.mark.slow
@pytest.mark.parametrize("baseline", ["", ",diffcsp"])
@pytest.mark.parametrize("name", ["mattergen", "flowmm", "crystalflow"])
def test_a_system_trains_loads_and_samples(name, baseline, tmp_path):
    config = tiny(f"small,{name}{baseline}")
    data = load_training_data(config)
    train(config, data, tmp_path)
    diffusion, denoise, loaded = load_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    num_atoms = 5 if not baseline else np.array([1, 2, 4])
    crystals = sample(
        diffusion,
        denoise,
        jax.random.key(0),
        3,
        num_atoms,
        solver=solver_from(loaded),
        chunk_size=3,
    )
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(crystals))
    volumes = np.linalg.det(np.float64(crystals.lattice))
    assert (np.abs(volumes) > 1).all()
    types = np.asarray(crystals.atom_types)[np.asarray(crystals.mask)]
    assert types.min() >= MIRAGE
    assert types.max() < NUM_TYPES
    real = np.asarray(crystals.mask) & (np.asarray(crystals.atom_types) != MIRAGE)
    assert sum(len(x.atom_types) for x in reduce(crystals)) == real.sum()
