from functools import partial

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from miad_jax.crystal import Crystal
from miad_jax.network import CSPNet
from miad_jax.network.embeddings import (
    fourier_features,
    mirror_pairs,
    pair_differences,
    time_embedding,
)
from miad_jax.network.graph import connect_fully, to_graph
from miad_jax.network.layers import matmul, silu


def published_params(golden):
    """The published weights under our names, with the Linears over concatenations split."""
    weights = {k.removeprefix("param."): x for k, x in golden.items() if k.startswith("param.")}
    width, waves = int(golden["hidden_dim"]), 3 * int(golden["num_freqs"])

    def linear(name):
        layer = {"kernel": weights[f"{name}.weight"].T}
        if f"{name}.bias" in weights:
            layer["bias"] = weights[f"{name}.bias"]
        return layer

    def split(name, widths, bias_to):
        layer = linear(name)
        parts = np.split(layer["kernel"], np.cumsum(list(widths.values()))[:-1])
        layers = {part: {"kernel": kernel} for part, kernel in zip(widths, parts, strict=True)}
        layers[bias_to]["bias"] = layer["bias"]
        return layers

    def norm(name):
        return {"scale": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}

    params = {
        "node_embedding": linear("node_embedding"),
        **split("atom_latent_emb", {"latent_node": width, "latent_time": 256}, "latent_time"),
        "final_layer_norm": norm("final_layer_norm"),
        "coords_out": linear("coord_out"),
        "lattice_out": linear("lattice_out"),
        "types_out": linear("type_out"),
    }
    edge_parts = {
        "edge_receiver": width,
        "edge_sender": width,
        "edge_cell": 9,
        "edge_sine": waves,
        "edge_cosine": waves,
    }
    node_parts = {"node_self": width, "node_message": width}
    for k in range(int(golden["num_layers"])):
        name = f"csp_layer_{k}"
        params[f"layer_{k}"] = {
            "layer_norm": norm(f"{name}.layer_norm"),
            **split(f"{name}.edge_mlp.0", edge_parts, "edge_cell"),
            "edge_out": linear(f"{name}.edge_mlp.2"),
            **split(f"{name}.node_mlp.0", node_parts, "node_self"),
            "node_out": linear(f"{name}.node_mlp.2"),
        }
    return jax.tree.map(jnp.asarray, params)


def run_graph(net, params, graph):
    return jax.jit(net.apply)({"params": params}, graph)


@pytest.fixture(scope="module")
def crystals(random_crystals):
    return random_crystals([5, 1, 3], 5)


TIME = jnp.array([0, 500, 999])


@pytest.mark.parametrize("path", ["dense", "segments"])
@pytest.mark.parametrize("name", ["uniform", "ragged"])
def test_equals_the_published_network(golden, name, path):
    numbers = golden(f"cspnet_{name}")
    net = CSPNet(*(int(numbers[k]) for k in ("hidden_dim", "num_layers", "num_freqs")))
    counts, rng = numbers["num_atoms"], np.random.default_rng(0)
    batch, size = len(counts), counts.max() + 2  # so that both files have padding
    mask = np.arange(size) < counts[:, None]
    frac_coords = 9 * rng.random((batch, size, 3), np.float32)
    atom_types = rng.integers(0, 100, (batch, size), np.int32)
    frac_coords[mask], atom_types[mask] = numbers["frac_coords"], numbers["atom_types"]
    lattice = numbers["lattice"]
    crystal = Crystal(*(jnp.asarray(x) for x in (lattice, frac_coords, atom_types, mask)))

    graph = to_graph(crystal, jnp.asarray(numbers["t"], jnp.int32))
    if path == "segments":
        graph = connect_fully(graph)
        assert len(graph.senders) == (counts**2).sum() == graph.n_edge.sum()
    out = run_graph(net, published_params(numbers), graph)

    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    close(out.lattice, numbers["out_lattice"])
    close(out.coords[mask.ravel()], numbers["out_coords"])
    close(out.types[mask.ravel()], numbers["out_types"])


def test_the_time_embedding_equals_the_published(golden):
    numbers = golden("cspnet_uniform")
    ours = time_embedding(jnp.asarray(numbers["t"], jnp.int32), 1000, 256)
    np.testing.assert_allclose(ours, numbers["time_embedding"], rtol=1e-4, atol=1e-4)
    # τ does not depend on the number of steps into which the process is cut.
    np.testing.assert_allclose(
        time_embedding(jnp.array([50]), 100, 256), time_embedding(jnp.array([500]), 1000, 256)
    )


def test_the_published_size_has_12_million_parameters():
    params = jax.eval_shape(CSPNet().init_params, jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(params)) == 12_346_468
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_initial_parameters_are_uniform_with_the_published_bounds(monkeypatch):
    net = CSPNet(hidden_dim=16, num_layers=1, num_freqs=4, time_dim=8)
    bounds = {}

    def uniform(key, shape, dtype, minval, maxval):
        assert minval == -maxval
        bounds.setdefault(shape, set()).add(round(maxval**-2))
        return jnp.zeros(shape, dtype)

    monkeypatch.setattr(jax.random, "uniform", uniform)
    params = jax.eval_shape(net.init_params, jax.random.key(0))

    # The fan-in of a Linear over a concatenation is that of the whole.
    edge = 2 * 16 + 9 + 2 * 3 * 4
    assert bounds[(9, 16)] == bounds[(12, 16)] == {edge}
    assert bounds[(8, 16)] == {16 + 8}
    assert bounds[(16, 16)] == {edge, 16 + 8, 2 * 16, 16}
    assert bounds[(100, 16)] == {100}
    assert bounds[(16, 3)] == bounds[(16, 9)] == bounds[(16, 100)] == {16}
    # One bias for each published Linear.
    layer = params["layer_0"]
    with_bias = {n for n in layer if n != "layer_norm" and "bias" in layer[n]}
    assert with_bias == {"edge_cell", "edge_out", "node_self", "node_out"}


def test_both_paths_have_the_same_gradients(tiny_net, tiny_params, crystals):
    rng = np.random.default_rng(1)
    shapes = (3, 3, 3), (15, 3), (15, 100)
    # Padding nodes of the segment path hold the output of an isolated node: leave them out.
    real = crystals.mask.reshape(-1, 1)
    directions = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]

    net = tiny_net.clone(num_layers=1)
    params = {name: layer for name, layer in tiny_params.items() if name != "layer_1"}

    def projection(params, lattice, frac_coords, edges):
        crystal = Crystal(lattice, frac_coords, crystals.atom_types, crystals.mask)
        graph = to_graph(crystal, TIME)._replace(**edges)
        out = net.apply({"params": params}, graph)
        return (
            jnp.vdot(out.lattice, directions[0])
            + jnp.vdot(jnp.where(real, out.coords, 0), directions[1])
            + jnp.vdot(jnp.where(real, out.types, 0), directions[2])
        )

    listed = connect_fully(to_graph(crystals, TIME))
    edges = {k: getattr(listed, k) for k in ("senders", "receivers", "n_edge")}
    gradient = jax.jit(jax.grad(projection, argnums=(0, 1, 2)))
    inputs = (params, crystals.lattice, crystals.frac_coords)
    dense, segments = gradient(*inputs, {}), gradient(*inputs, edges)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(dense), jax.tree.leaves(segments), strict=True
    ):
        scale = np.abs(a).max()
        assert scale > 0, path
        np.testing.assert_allclose(a, b, atol=1e-5 * scale, rtol=1e-5, err_msg=str(path))


def test_silu_and_matmul_have_the_gradients_of_autodiff():
    rng = np.random.default_rng(2)
    x = jnp.asarray(3 * rng.normal(size=(4, 5, 6)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(6, 7)), jnp.float32)
    weight = jnp.asarray(rng.normal(size=(4, 5, 7)), jnp.float32)

    def ours(x, kernel):
        return (silu(matmul(x, kernel)) * weight).sum()

    def plain(x, kernel):
        y = x @ kernel
        return (y / (1 + jnp.exp(-y)) * weight).sum()

    for a, b in zip(
        jax.value_and_grad(ours, (0, 1))(x, kernel)[1],
        jax.value_and_grad(plain, (0, 1))(x, kernel)[1],
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours(x, kernel), plain(x, kernel), rtol=1e-5)


def test_silu_keeps_its_digits_in_bfloat16():
    x = jnp.linspace(-8, 8, 65, dtype=jnp.bfloat16)
    exact = np.float64(x) / (1 + np.exp(-np.float64(x)))
    np.testing.assert_allclose(np.float64(silu(x)), exact, rtol=2**-7)
    slope = jax.grad(lambda x: silu(x).sum().astype(jnp.float32))(x)
    assert slope.dtype == jnp.bfloat16
    step = np.float64(x) + np.float64([[-1e-4], [1e-4]])
    lower, upper = step / (1 + np.exp(-step))
    np.testing.assert_allclose(np.float64(slope), (upper - lower) / 2e-4, rtol=2**-7, atol=1e-5)


def test_a_half_precision_product_accumulates_its_weight_gradient_in_float32():
    rows = jnp.full((4096, 1), 1 / 64, jnp.bfloat16)
    gradient = jax.grad(lambda k: matmul(rows, k).sum().astype(jnp.float32))(jnp.ones((1, 1)))
    assert gradient.dtype == jnp.float32
    np.testing.assert_allclose(gradient, 64.0)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_mirror_pairs_equals_a_loop(size):
    rng = np.random.default_rng(size)
    pairs = size * (size - 1) // 2
    even, odd = rng.normal(size=(2, 2, pairs, 3)).astype(np.float32)
    diagonal = rng.normal(size=3).astype(np.float32)
    weight = rng.normal(size=(2, size, size, 3)).astype(np.float32)
    edges = np.empty((2, size, size, 3))
    d_even, d_odd = np.zeros((2, *even.shape))
    pair = 0
    for i in range(size):
        edges[:, i, i] = diagonal
        for j in range(i + 1, size):
            edges[:, i, j] = even[:, pair] + odd[:, pair]
            edges[:, j, i] = even[:, pair] - odd[:, pair]
            d_even[:, pair] = weight[:, i, j] + weight[:, j, i]
            d_odd[:, pair] = weight[:, i, j] - weight[:, j, i]
            pair += 1
    d_diagonal = np.einsum("biic->c", weight)

    ours, pullback = jax.vjp(mirror_pairs, *map(jnp.asarray, (even, odd, diagonal)))
    np.testing.assert_allclose(ours, edges.reshape(2, size * size, 3), rtol=1e-6)
    gradient = pullback(jnp.asarray(weight.reshape(2, size * size, 3)))
    for a, b in zip(gradient, (d_even, d_odd, d_diagonal), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_fourier_features_are_the_published_ones_and_integers_cost_nothing():
    x = np.random.default_rng(0).random((6, 3)).astype(np.float32)
    sine, cosine = fourier_features(jnp.asarray(x), 8)
    angle = (2 * np.pi * np.float64(x)[:, :, None] * np.arange(8)).reshape(6, 24)
    np.testing.assert_allclose(sine, np.sin(angle), atol=1e-5)
    np.testing.assert_allclose(cosine, np.cos(angle), atol=1e-5)
    exact = np.round(x * 64) / 64  # stays exact when an integer is added
    for a, b in zip(
        fourier_features(jnp.asarray(exact), 128),
        fourier_features(jnp.asarray(exact + np.float32([5, -3, 8])), 128),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)
    turns = np.arange(-512, 513) / 1024  # and so do its products with small integers
    sine, cosine = fourier_features(jnp.asarray(turns[:, None].repeat(3, 1), jnp.float32), 128)
    angle = 2 * np.pi * (turns[:, None, None] * np.arange(128)).repeat(3, 1).reshape(-1, 384)
    np.testing.assert_allclose(sine, np.sin(angle), atol=3e-7)
    np.testing.assert_allclose(cosine, np.cos(angle), atol=3e-7)
    np.testing.assert_array_equal(
        pair_differences(jnp.asarray(x[None, :3]))[0], [x[1] - x[0], x[2] - x[0], x[2] - x[1]]
    )


def test_bfloat16_is_close_and_returns_float32(tiny_net, tiny_params, crystals):
    half = tiny_net.clone(dtype=jnp.bfloat16)
    graph = to_graph(crystals, TIME)
    full_out = run_graph(tiny_net, tiny_params, graph)
    half_out = run_graph(half, tiny_params, graph)
    shapes = jax.eval_shape(half.init_params, jax.random.key(0))
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    for a, b in zip(jax.tree.leaves(full_out), jax.tree.leaves(half_out), strict=True):
        assert b.dtype == jnp.float32
        error = np.abs(a - b).max() / np.abs(a).max()
        assert 0 < error < 0.05, "half precision must be used, and be close"


def test_a_given_edge_list_is_used(tiny_net, tiny_params, crystals):
    full = connect_fully(to_graph(crystals, TIME))
    near = np.abs(np.asarray(full.senders) - np.asarray(full.receivers)) <= 1
    assert 0 < near.sum() < near.size
    partial_graph = full._replace(senders=full.senders[near], receivers=full.receivers[near])
    assert isinstance(partial_graph, jraph.GraphsTuple)
    everyone = run_graph(tiny_net, tiny_params, full)
    neighbours = run_graph(tiny_net, tiny_params, partial_graph)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(neighbours))
    assert np.abs(everyone.coords - neighbours.coords)[:5].max() > 1e-3
    # The crystal of one atom has all its edges still.
    np.testing.assert_allclose(neighbours.types[5], everyone.types[5], atol=1e-5)

    # What is not connected does not speak: without edges, only its own type reaches an atom.
    lonely = full._replace(senders=full.senders[:0], receivers=full.receivers[:0])
    moved = lonely._replace(nodes={**lonely.nodes, "frac_coords": jnp.zeros((15, 3))})
    out, moved_out = (run_graph(tiny_net, tiny_params, graph) for graph in (lonely, moved))
    np.testing.assert_array_equal(out.types, moved_out.types)


def test_chunks_fit_the_cache_of_a_cpu_and_the_memory_of_a_gpu():
    assert CSPNet().chunk_size(25, "cpu") == 2
    assert CSPNet().chunk_size(200, "cpu") == 1
    assert CSPNet().chunk_size(25, "gpu") == 256
    assert CSPNet(hidden_dim=192).chunk_size(12, "cpu") == 16


def test_the_work_is_that_of_the_products():
    """Counted by hand for one crystal of two atoms: one pair, two nodes, four edges."""
    net = CSPNet(hidden_dim=4, num_layers=1, num_freqs=1, time_dim=2)
    assert net.products(2) == {
        "waves": 2 * 1 * 6 * 4,
        "messages": 2 * 4 * 4 * 4,
        "nodes": 2 * 2 * 4 * (5 * 4 + 4 + 100 + 3),
        "cells": 2 * 4 * (9 + 2 + 9),
    }
    assert net.flops(2) == sum(net.products(2).values())
