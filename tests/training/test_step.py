"""What one step computes, read off its gradient: plain descent moves by exactly that."""

import os
import re
import subprocess
import sys
from dataclasses import asdict, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from miad_jax.crystal import Prediction
from miad_jax.diffusion import Example, LossWeights, add_noise, loss, loss_terms, make_diffusion
from miad_jax.diffusion.joint import draw_times
from miad_jax.mirage import infuse
from miad_jax.training import Objective, train_step, validation_loss
from miad_jax.training.state import create

NUM_ATOMS = 6
COUNTS = [1, 5, 2, 2, 4, 5, 3, 5]
DESCENT = optax.with_extra_args_support(optax.sgd(1.0))
TERMS = tuple(asdict(LossWeights()))


@pytest.fixture(scope="module")
def objective(tiny_net):
    return Objective(
        net=tiny_net,
        diffusion=make_diffusion(50),
        num_atoms=NUM_ATOMS,
        weights=LossWeights(lattice=0.5, coords=2.0, types=0.01, cross_entropy=0.3),
        chunk_size=2,
    )


@pytest.fixture(scope="module")
def state(tiny_params):
    return create(tiny_params, DESCENT, jax.random.key(1))


@pytest.fixture(scope="module")
def batch(random_crystals):
    """Crystals whose halves hold unequal numbers of atoms."""
    return random_crystals(COUNTS, 5)


def step_on_one_device(objective, state, batch):
    return jax.jit(partial(train_step, objective, DESCENT))(state, batch, jnp.arange(len(batch)))


@pytest.fixture(scope="module")
def example(objective, state, batch):
    """What the step draws of its keys, without the code under test."""
    keys = jax.random.fold_in(state.key, state.step)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(keys, jnp.arange(len(batch)))
    infuse_keys, time_keys, noise_keys = jax.vmap(partial(jax.random.split, num=3))(keys).T
    crystal = jax.vmap(lambda key, c: infuse(key, c, NUM_ATOMS))(infuse_keys, batch)
    t = draw_times(objective.diffusion, time_keys, (len(batch),))
    crystal_t, noise = add_noise(objective.diffusion, noise_keys, crystal, t)
    return Example(crystal, crystal_t, t, noise)


@pytest.fixture(scope="module")
def unchunked(objective, state, example):
    """The loss of the whole batch at once and its gradient."""

    def total(params):
        terms = loss_terms(objective.diffusion, partial(objective.net.denoise, params), example)
        return terms.total(objective.weights), terms

    return jax.jit(jax.grad(total, has_aux=True))(state.params)


def check(moved, terms, state, unchunked):
    gradient, expected = unchunked
    found = jax.tree.map(jnp.subtract, state.params, moved.params)
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5 * max(np.abs(two).max(), 1))
    assert terms.sums.keys() == terms.counts.keys() == set(TERMS)
    for one, two in zip(jax.tree.leaves(terms), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5)
    assert max(np.abs(x).max() for x in jax.tree.leaves(gradient)) > 0.05


@pytest.mark.parametrize("chunk_size", [2, 8])
@pytest.mark.slow
def test_the_gradient_is_that_of_the_whole_batch(objective, state, batch, unchunked, chunk_size):
    moved, terms = step_on_one_device(replace(objective, chunk_size=chunk_size), state, batch)
    check(moved, terms, state, unchunked)
    assert moved.step == 1
    np.testing.assert_array_equal(
        jax.random.key_data(moved.key), jax.random.key_data(jax.random.key(1))
    )


@pytest.mark.slow
def test_two_devices_have_the_gradient_of_one(objective, state, batch, unchunked):
    assert jax.local_device_count() == 2
    sharded = jax.pmap(
        partial(train_step, objective, DESCENT, axis_name="batch"),
        axis_name="batch",
        in_axes=(None, 0, 0),
    )
    halves = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), batch)
    both, terms = sharded(state, halves, jnp.arange(8).reshape(2, 4))
    for device in range(2):
        moved, its_terms = jax.tree.map(lambda x, d=device: x[d], (both, terms))
        check(moved, its_terms, state, unchunked)


def test_the_step_minimises_the_loss_that_is_public(
    monkeypatch, objective, state, example, unchunked
):
    """`miad_jax.loss`, told to draw the step's example, has the terms that the step has."""
    monkeypatch.setattr("miad_jax.diffusion.losses.draw_example", lambda *_: example)

    @jax.jit
    def public_loss(params):
        denoise = jax.tree_util.Partial(objective.net.denoise, params)
        drawn = objective.diffusion, denoise, jax.random.key(0), example.clean
        return loss(*drawn, weights=objective.weights)

    total, terms = public_loss(state.params)
    _, expected = unchunked  # which the other tests hold against the step
    for one, two in zip(jax.tree.leaves(terms), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5)
    np.testing.assert_allclose(total, expected.total(objective.weights), rtol=1e-5)


class Watched:
    """A network that predicts nothing and keeps the crystals it is shown."""

    def __init__(self):
        self.frac_coords = []

    def denoise(self, params, crystal, time):
        jax.debug.callback(lambda x: self.frac_coords.append(np.asarray(x)), crystal.frac_coords)
        return Prediction(
            params * crystal.lattice, params * crystal.frac_coords, jnp.zeros((2, NUM_ATOMS, 100))
        )


def shown(placement, crystals, steps):
    """The coordinates the network is shown at some steps, noised by σ = 0.005 only."""
    watched = Watched()
    objective = Objective(watched, make_diffusion(1), NUM_ATOMS, placement, chunk_size=2)
    state = create(jnp.float32(1), DESCENT, jax.random.key(1))
    run = jax.jit(partial(train_step, objective, DESCENT))
    for step in steps:
        run(replace(state, step=jnp.int32(step)), crystals, jnp.arange(len(crystals)))
        jax.effects_barrier()
    assert len(watched.frac_coords) == len(steps)
    return watched.frac_coords


def test_mirage_atoms_stand_elsewhere_at_every_step(random_crystals, same_coords):
    crystals = random_crystals([3], 5)[jnp.array([0, 0])]  # one crystal, twice in the batch
    first, again, second = shown("uniform", crystals, (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    for frac_coords in (first, second):
        same_coords(frac_coords[:, :3], crystals.frac_coords[:, :3], atol=0.04)
    for one, two in ((first[0], first[1]), (first[0], second[0]), (first[1], second[1])):
        apart = one[3:] - two[3:]
        assert np.abs(apart - np.round(apart)).max(-1).min() > 0.05


def test_placement_at_the_centre(random_crystals, same_coords):
    (frac_coords,) = shown("center", random_crystals([3, 1], 5), (0,))
    same_coords(frac_coords[:, 4:], frac_coords[:, 3:4].repeat(2, 1), atol=0.06)
    same_coords(frac_coords[1, 1:], frac_coords[1, :1].repeat(5, 0), atol=0.06)


def test_every_step_draws_anew(objective, state, batch, unchunked):
    _, first = unchunked
    _, second = step_on_one_device(objective, replace(state, step=state.step + 1), batch)
    assert abs(first.coords - second.coords) > 1e-4


class Plain:
    """A closed form instead of a network, which compiles sooner."""

    def __init__(self, denoise):
        self.closed_form = denoise

    def denoise(self, params, crystal, time):
        return jax.tree.map(lambda x: params * x, self.closed_form(crystal, time))


@pytest.mark.slow
def test_validation_adds_up_over_crystals(objective, plain_denoise, random_crystals):
    """Each crystal has a key of its index: a longer set only adds to a shorter one."""
    crystals, key = random_crystals([2, 5, 3, 1, 4], 5), jax.random.key(9)
    objective = replace(objective, net=Plain(plain_denoise))

    @partial(jax.jit, static_argnames="chunk_size")
    def losses(crystals, chunk_size=2, index=None):
        chunked = replace(objective, chunk_size=chunk_size)
        return validation_loss(chunked, jnp.float32(0.7), crystals, key, index)

    four, five = losses(crystals[:4]), losses(crystals)
    changed = losses(crystals[jnp.array([0, 1, 2, 3, 0])])
    assert five.counts == {"lattice": 5, "coords": 15, "types": 30, "cross_entropy": 30}
    last = jax.tree.map(jnp.subtract, five, four)
    assert last.counts == {"lattice": 1, "coords": 4, "types": 6, "cross_entropy": 6}
    assert last.sums.keys() == set(TERMS)
    for name in TERMS:
        assert last.sums[name] > 0
    assert abs(changed.sums["coords"] - five.sums["coords"]) > 1e-3

    # It is the same at every call, for every chunk, and in parts of which the last is not full.
    jax.tree.map(np.testing.assert_array_equal, losses(crystals), five)
    parts = [losses(crystals, index=jnp.arange(first, first + 3)) for first in (0, 3)]
    for other in (
        losses(crystals, chunk_size=3),
        losses(crystals, chunk_size=5),
        jax.tree.map(jnp.add, *parts),
    ):
        for one, two in zip(jax.tree.leaves(other), jax.tree.leaves(five), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4)


ON_MORE_DEVICES = """
import re, sys
from functools import partial
import jax, jax.numpy as jnp, numpy as np, optax
from miad_jax import CSPNet, Crystal, make_diffusion
from miad_jax.training import Objective, train_step
from miad_jax.training.state import create

rng = np.random.default_rng(0)
mask = jnp.arange(5) < jnp.array([1, 5, 2, 2, 4, 5, 3, 5])[:, None]
lattice = jnp.asarray(4 * np.eye(3) + rng.normal(size=(8, 3, 3)), jnp.float32)
types = jnp.asarray(rng.integers(1, 99, (8, 5)) * mask, jnp.int32)
batch = Crystal(lattice, jnp.asarray(rng.random((8, 5, 3)), jnp.float32), types, mask)
net = CSPNet(hidden_dim=16, num_layers=1, num_freqs=4, time_dim=8)
objective = Objective(net, make_diffusion(50), 6, chunk_size=1)
optimizer = optax.with_extra_args_support(optax.adam(1e-3))
shapes = jax.eval_shape(net.init_params, jax.random.key(0))
params = jax.tree.map(lambda x: jnp.asarray(0.1 * rng.normal(size=x.shape), x.dtype), shapes)
state = create(params, optimizer, jax.random.key(1))
for num in (1, 4):
    step = jax.pmap(
        partial(train_step, objective, optimizer, axis_name="batch"),
        axis_name="batch", in_axes=(None, 0, 0), devices=jax.devices()[:num],
    )
    shards = jax.tree.map(lambda x: x.reshape(num, -1, *x.shape[1:]), (batch, jnp.arange(8)))
    program = step.lower(state, *shards).compile()
    text = program.as_text()
    shapes = re.findall(r"= (.*?) all-reduce(?:-start)?[(]", text)
    terms = jax.tree.map(lambda x: float(x[0]), program(state, *shards)[1])
    sizes = sorted(len(re.findall(r"f32", shape)) for shape in shapes)
    print(terms.lattice, terms.coords, terms.types, terms.cross_entropy, *sizes)
"""


@pytest.mark.slow
def test_four_devices_have_the_losses_of_one_and_two_collectives_a_step():
    """One collective for the counts, and one for all gradients and losses.

    Types and their cross-entropy count the same atoms, which the compiler sees: three counts.
    """
    flags = os.environ["XLA_FLAGS"]
    on_four = re.sub(r"(?<=device_count=)\d+", "4", flags)
    assert on_four != flags
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": on_four}
    done = subprocess.run(
        [sys.executable, "-c", ON_MORE_DEVICES], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    one, four = (np.array(line.split(), float) for line in done.stdout.splitlines())
    np.testing.assert_allclose(four[:4], one[:4], rtol=1e-5)
    counts, gradients_and_losses = four[4:]
    assert counts == 3
    assert gradients_and_losses > 20


def test_a_step_with_64_bits_enabled_stays_in_32(objective, state, batch):
    with jax.enable_x64():
        moved, terms = jax.eval_shape(
            partial(train_step, objective, DESCENT), state, batch, jnp.arange(len(batch))
        )
    kinds = {leaf.dtype for leaf in jax.tree.leaves((moved.params, terms))}
    assert kinds == {jnp.dtype("float32")}


def test_a_batch_without_a_real_atom_has_a_loss(objective, tiny_denoise, batch):
    empty = infuse(jax.random.key(0), replace(batch, mask=jnp.zeros_like(batch.mask)), NUM_ATOMS)
    total, terms = loss(objective.diffusion, tiny_denoise, jax.random.key(1), empty)
    assert float(terms.coords) == 0
    assert float(terms.counts["coords"]) == 0
    assert np.isfinite(float(total))


# Processes that are not published.


def test_a_step_on_a_flow_and_masked_types_learns(objective, state, batch):
    """Losses and gradients are finite, and reach every parameter."""
    diffusion = make_diffusion(50, coords="flow", types="masked")
    weights = LossWeights(cross_entropy=1.0)
    other = replace(objective, diffusion=diffusion, weights=weights)
    moved, terms = step_on_one_device(other, state, batch)
    assert all(np.isfinite(x) and x > 0 for x in terms.means().values())
    # Untrained: the velocity has unit variance, and a type one of a hundred, half of them hidden.
    assert 0.5 < terms.coords < 2
    assert 1 < terms.cross_entropy < 5
    gradient = jax.tree.map(jnp.subtract, state.params, moved.params)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
    assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(gradient))
