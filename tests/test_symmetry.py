"""Symmetries as properties: of the network, of the loss, and of a reverse step.

Permutation of atoms, rotation and reflection of the lattice, translation modulo 1, integer
shifts, and what stands in padding; noise is transformed with the crystal.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miad_jax.crystal import Crystal
from miad_jax.diffusion import make_diffusion
from miad_jax.diffusion.joint import (
    draw_noise,
    draw_reverse_noise,
    loss_terms,
    noised,
    prior,
    step_back,
)
from miad_jax.network import CSPNet

SIZE, BATCH = 5, 3
NET = CSPNet(hidden_dim=16, num_layers=2, num_freqs=4, time_dim=8)
DIFFUSION = make_diffusion(50)
SEEDS = st.integers(0, 10_000)
few = settings(max_examples=8, deadline=None)


@pytest.fixture(scope="module")
def params():
    return NET.init_params(jax.random.key(0))


def crystals(seed, sizes=(5, 2, 4)):
    mask = jnp.arange(SIZE) < jnp.asarray(sizes)[:, None]
    crystal = prior(jax.random.key(seed), mask)
    return replace(crystal, lattice=4 * jnp.eye(3) + crystal.lattice)


def rotation(seed):
    """An orthogonal matrix, a reflection for every other seed."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return jnp.asarray(q * (-1) ** seed, jnp.float32)


@jax.jit
def predict(params, crystal):
    return NET.denoise(params, crystal, jnp.array([0, 25, 49]))


@jax.jit
def losses(params, crystal_0, noise):
    t = jnp.array([2, 25, 49])
    crystal_t = noised(DIFFUSION, crystal_0, t, noise)
    prediction = NET.denoise(params, crystal_t, t)
    return loss_terms(DIFFUSION, prediction, crystal_0, crystal_t, t, noise)


@jax.jit
def back(params, crystal, noise):
    denoise = jax.tree_util.Partial(NET.denoise, params)
    return step_back(DIFFUSION, denoise, crystal, jnp.array([2, 25, 49]), noise)


def close(one, two, atol=2e-4):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=atol), one, two)


def close_coords(one, two, mask, atol=2e-4):
    difference = np.asarray(one - two)[np.asarray(mask)]
    np.testing.assert_allclose(difference - np.round(difference), 0, atol=atol)


@given(SEEDS)
@few
def test_permutation(params, seed):
    crystal = crystals(seed, (5, 5, 5))
    order = np.random.default_rng(seed).permutation(SIZE)

    def permute(tree, names):
        return replace(tree, **{name: getattr(tree, name)[:, order] for name in names})

    shuffled = permute(crystal, ("frac_coords", "atom_types", "mask"))
    out = predict(params, crystal)
    close(predict(params, shuffled), permute(out, ("coords", "types")))
    noise = draw_noise(jax.random.key(seed), crystal)
    moved = permute(noise, ("coords", "types_uniform", "types_redrawn"))
    close(losses(params, shuffled, moved), losses(params, crystal, noise), atol=1e-2)
    noise = draw_reverse_noise(jax.random.key(seed), crystal)
    moved = permute(noise, ("corrector", "predictor", "types"))
    one, two = back(params, shuffled, moved), back(params, crystal, noise)
    close(one.lattice, two.lattice)
    close_coords(one.frac_coords, two.frac_coords[:, order], two.mask)
    np.testing.assert_array_equal(one.atom_types, two.atom_types[:, order])


@given(SEEDS)
@few
def test_rotation_and_reflection(params, seed):
    crystal, q = crystals(seed), rotation(seed)

    def turn(tree):
        return replace(tree, lattice=tree.lattice @ q.T)

    close(predict(params, turn(crystal)), turn(predict(params, crystal)))
    noise = draw_noise(jax.random.key(seed), crystal)
    close(losses(params, turn(crystal), turn(noise)), losses(params, crystal, noise), atol=1e-2)
    noise = draw_reverse_noise(jax.random.key(seed), crystal)
    one, two = back(params, turn(crystal), turn(noise)), turn(back(params, crystal, noise))
    close(one.lattice, two.lattice, atol=1e-3)
    close_coords(one.frac_coords, two.frac_coords, crystal.mask)
    np.testing.assert_array_equal(one.atom_types, two.atom_types)


@given(SEEDS)
@few
def test_translation_and_integer_shifts(params, seed):
    crystal = crystals(seed)
    rng = np.random.default_rng(seed)
    shift = jnp.asarray(rng.random((BATCH, 1, 3)), jnp.float32)
    cells = jnp.asarray(rng.integers(-3, 4, (BATCH, SIZE, 3)), jnp.float32)
    moved = replace(crystal, frac_coords=crystal.frac_coords + shift + cells)
    close(predict(params, moved), predict(params, crystal), atol=5e-4)
    noise = draw_noise(jax.random.key(seed), crystal)
    close(losses(params, moved, noise), losses(params, crystal, noise), atol=2e-2)
    noise = draw_reverse_noise(jax.random.key(seed), crystal)
    one, two = back(params, moved, noise), back(params, crystal, noise)
    close(one.lattice, two.lattice, atol=1e-3)
    close_coords(one.frac_coords, two.frac_coords + shift, crystal.mask)
    np.testing.assert_array_equal(
        np.where(crystal.mask, one.atom_types, 0), np.where(crystal.mask, two.atom_types, 0)
    )


@given(SEEDS)
@few
def test_what_stands_in_padding_changes_nothing(params, seed):
    crystal = crystals(seed)
    other = crystals(seed + 1)
    pad = ~crystal.mask
    filled = Crystal(
        crystal.lattice,
        jnp.where(pad[..., None], other.frac_coords, crystal.frac_coords),
        jnp.where(pad, other.atom_types, crystal.atom_types),
        crystal.mask,
    )
    assert (filled.atom_types != crystal.atom_types).any()
    jax.tree.map(np.testing.assert_array_equal, predict(params, filled), predict(params, crystal))
    noise = draw_noise(jax.random.key(seed), crystal)
    jax.tree.map(
        np.testing.assert_array_equal,
        losses(params, filled, noise),
        losses(params, crystal, noise),
    )
    noise = draw_reverse_noise(jax.random.key(seed), crystal)
    one, two = back(params, filled, noise), back(params, crystal, noise)
    np.testing.assert_array_equal(one.lattice, two.lattice)
    mask = np.asarray(crystal.mask)
    np.testing.assert_array_equal(one.frac_coords[mask], two.frac_coords[mask])
    np.testing.assert_array_equal(one.atom_types[mask], two.atom_types[mask])
    np.testing.assert_array_equal(one.atom_types[~mask], filled.atom_types[~mask])
