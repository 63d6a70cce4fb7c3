"""Other axes of the same cell: the crystal stays what it is, and all 48 ways are drawn."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import miad_jax
from miad_jax.training import train_step, validation_loss
from miad_jax.training.axes import draw_axes
from tests.training.test_step import DESCENT, batch, objective, state  # noqa: F401


@pytest.fixture(scope="module")
def crystal(random_crystals):
    return random_crystals([5], 5)[0]


@pytest.fixture(scope="module")
def drawn(crystal):
    keys = jax.random.split(jax.random.key(3), 2000)
    return jax.jit(jax.vmap(draw_axes, (0, None)))(keys, crystal)


def distances(crystal):
    (structure,) = miad_jax.to_structures(jax.tree.map(lambda x: np.asarray(x)[None], crystal))
    return structure.distance_matrix


def test_distances_types_and_handedness_stay(crystal, drawn):
    before = distances(crystal)
    for i in range(40):
        assert_allclose(distances(drawn[i]), before, atol=1e-4)
    assert (np.linalg.det(drawn.lattice) * np.linalg.det(crystal.lattice) > 0).all()
    assert (np.asarray(drawn.atom_types) == np.asarray(crystal.atom_types)).all()
    assert ((drawn.frac_coords >= 0) & (drawn.frac_coords < 1)).all()


def test_all_orders_and_directions_are_drawn_equally_often(crystal, drawn):
    """Each of the 48 comes some 42 times of 2,000; a fair draw leaves 15 to 75 of each."""
    shown = np.round(np.asarray(drawn.frac_coords)[:, :2].reshape(2000, -1), 4)
    _, counts = np.unique(shown, axis=0, return_counts=True)
    assert len(counts) == 48
    assert counts.min() > 15
    assert counts.max() < 75


def test_a_step_draws_axes_and_a_validation_does_not(objective, state, batch):  # noqa: F811
    turned = replace(objective, any_axes=True)
    losses = []
    for one in (objective, turned):
        _, terms = jax.jit(partial(train_step, one, DESCENT))(state, batch, jnp.arange(len(batch)))
        validated = validation_loss(one, state.params, batch, jax.random.key(2))
        losses.append([terms.total(one.weights), validated.total(one.weights)])
    assert losses[0][0] != losses[1][0]
    assert losses[0][1] == losses[1][1]
