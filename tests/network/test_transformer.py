"""What is the transformer's own: distances, the cell's frame, precision, work."""

import itertools
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.condition import Times
from miad_jax.network import Transformer
from miad_jax.network.cell import along_cell, cell_features, polar
from miad_jax.network.pairs import gaussians, shortest_distances

NET = Transformer(hidden_dim=32, num_layers=2, num_heads=4, pair_dim=12, num_freqs=4, time_dim=16)
TIME = jnp.array([3, 400, 999])


@pytest.fixture(scope="module")
def cells():
    """Noise, cells of some Å, and cells at the edges of what there is."""
    rng = np.random.default_rng(0)
    cells = np.concatenate(
        [
            rng.normal(size=(30, 3, 3)),
            4 * np.eye(3) + rng.normal(size=(30, 3, 3)),
            [np.zeros((3, 3)), np.ones((3, 3)), 4 * np.eye(3), np.diag([40.0, 3, 3])],
        ]
    )
    return jnp.asarray(cells, jnp.float32)


def test_the_polar_decomposition_is_that_of_the_eigenvectors(cells):
    stretch, frame = polar(cells)
    lattice = np.float64(cells)
    values, vectors = np.linalg.eigh(lattice @ lattice.swapaxes(1, 2) + 0.1 * np.eye(3))
    root, inverse = (
        np.einsum("bij,bj,bkj->bik", vectors, values**power, vectors) for power in (0.5, -0.5)
    )
    np.testing.assert_allclose(stretch, root, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(frame, inverse @ lattice, atol=1e-4)


@pytest.mark.parametrize("size", [0.0, 1.0, 1e3, 1e5])
def test_no_cell_makes_the_features_explode(cells, size):
    stretch, frame = polar(size * cells)
    features = cell_features(size * cells, stretch)
    assert np.isfinite(features).all()
    assert np.abs(features).max() < 40
    assert np.abs(frame).max() < 1.01
    said = along_cell(jnp.ones((len(cells), 18)), size * cells, frame)
    assert np.abs(said).max() < 20


def test_a_cubic_cell_has_gradients(cells):
    cube = 4 * jnp.eye(3)[None]
    gradient = jax.grad(lambda cell: sum(jnp.sum(x**3) for x in polar(cell)))(cube)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0.1


def test_distances_are_the_shortest_of_many_images(cells):
    rng = np.random.default_rng(1)
    lattice = np.float64(cells[30:60])
    difference = rng.uniform(-3, 3, (30, 8, 3))
    images = np.array(list(itertools.product(range(-6, 7), repeat=3)))
    vectors = (difference[:, :, None] + images) @ lattice[:, None]
    expected = np.linalg.norm(vectors, axis=-1).min(-1)
    found = shortest_distances(jnp.asarray(difference, jnp.float32), cells[30:60])
    # 27 images miss a shorter one in a few cells that are far from reduced, never a longer one.
    assert (found > expected - 1e-2).all()
    assert np.mean(np.abs(found - expected) < 1e-2) > 0.95
    there_and_back = shortest_distances(-jnp.asarray(difference, jnp.float32), cells[30:60])
    np.testing.assert_allclose(there_and_back, found, rtol=1e-5)


def test_a_distance_is_seen_by_the_gaussians_near_it():
    seen = gaussians(jnp.array([[0.0, 2.5, 2.7, 100.0]]))[0]
    assert seen[0].argmax() == 0
    assert 8 < seen[1].argmax() < 12
    assert np.abs(seen[1] - seen[2]).max() > 0.1
    assert seen[3].max() < 1e-6


def test_direction_reaches_the_coordinates(random_crystals):
    """Two atoms that differ in place alone: mirrored, each gets what the other was told."""
    params = drawn(NET)
    crystals = random_crystals([2, 2, 2], 2)
    crystals = replace(crystals, atom_types=jnp.full((3, 2), 8))
    run = jax.jit(partial(NET.denoise, params))
    coords = run(crystals, TIME).coords
    mirrored = replace(crystals, frac_coords=-crystals.frac_coords)
    other = run(mirrored, TIME).coords
    np.testing.assert_allclose(other[:, ::-1], coords, rtol=1e-3, atol=1e-3)
    assert np.abs(coords[:, 0] - coords[:, 1]).max() > 1e-2


def drawn(net):
    rng = np.random.default_rng(7)
    shapes = jax.eval_shape(net.init_params, jax.random.key(0))
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) / np.sqrt(x.shape[0]), x.dtype), shapes
    )


@pytest.mark.slow
def test_bfloat16_is_close_and_its_outputs_and_gradients_are_float32(random_crystals):
    params, crystals = drawn(NET), random_crystals([5, 1, 3], 5)

    def run(net):
        @partial(jax.value_and_grad, has_aux=True)
        def loss(params):
            said = net.denoise(params, crystals, TIME)
            return sum(jnp.square(x).mean() for x in jax.tree.leaves(said)), said

        (_, said), gradient = jax.jit(loss)(params)
        return said, gradient

    (exact, _), (said, gradient) = run(NET), run(NET.clone(dtype=jnp.bfloat16))
    for x, y in zip(jax.tree.leaves(said), jax.tree.leaves(exact), strict=True):
        assert x.dtype == jnp.float32
        scale = np.abs(y).max()
        assert 1e-6 * scale < np.abs(x - y).max() < 0.1 * scale
    assert {x.dtype for x in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


@pytest.mark.slow
def test_the_first_parameters_let_every_field_learn(random_crystals):
    """Gates and heads must not both start at zero: their product would have no gradient."""
    net = NET.clone(num_layers=1)
    params = jax.jit(net.init_params)(jax.random.key(0))
    crystals = random_crystals([5, 4, 3], 5)

    @jax.jit
    @jax.grad
    def gradient(params):
        return net.denoise(params, crystals, Times.same(TIME, 5)).coords.sum()

    gates = gradient(params)["layer_0"]["adaptive"]["kernel"]
    assert np.abs(gates[:, 2 * 32 : 3 * 32]).max() > 1e-6


def products(jaxpr):
    """Operations of the matrix products of a program."""
    total = 0.0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            depth = np.prod([eqn.invars[0].aval.shape[i] for i in contracted])
            total += 2 * depth * np.prod(eqn.outvars[0].aval.shape)
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                total += products(inner)
    return total


@pytest.mark.parametrize("num_atoms", [4, 25])
def test_the_work_is_that_of_the_programs_products(random_crystals, num_atoms):
    net = Transformer(num_layers=2)
    params = jax.eval_shape(net.init_params, jax.random.key(0))
    crystals = random_crystals([num_atoms] * 2, num_atoms)
    program = jax.make_jaxpr(net.denoise)(params, crystals, TIME[:2])
    assert products(program.jaxpr) == pytest.approx(2 * net.flops(num_atoms), rel=0.005)
