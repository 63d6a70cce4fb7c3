"""Losses, gradients and steps are finite at every time and for every cell, in both precisions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pymatgen.core import Structure

from miad_jax.config import DTYPES
from miad_jax.data.structures import from_structures
from miad_jax.diffusion import LossWeights, make_diffusion
from miad_jax.diffusion.losses import example_at, terms_of_each
from miad_jax.mirage import infuse
from miad_jax.network import CSPNet, Transformer
from miad_jax.training import Objective, make_optimizer, train_step
from miad_jax.training.state import create
from tests.fuzz.strategies import CELLS, PLACES

NUM_STEPS, SLOTS = 1000, 6
WEIGHTS = LossWeights(cross_entropy=1.0)
SYSTEMS = (
    {},
    pytest.param({"lattice": "log", "types": "masked"}, marks=pytest.mark.slow),
    pytest.param({"lattice": "limit", "coords": "flow"}, marks=pytest.mark.slow),
    pytest.param({"lattice": "flow", "coords": "flow", "types": "flow"}, marks=pytest.mark.slow),
    pytest.param({"lattice": "lengths_angles", "types": "flow"}, marks=pytest.mark.slow),
)


@pytest.fixture(scope="module")
def extremes():
    """A crystal of every kind of cell and of places, of one to five atoms."""
    rng = np.random.default_rng(3)
    made = []
    for cell in CELLS.values():
        for num, places in enumerate(PLACES.values(), 1):
            numbers = [int(z) for z in rng.integers(1, 100, num)]
            made.append(Structure(cell(rng), numbers, places(rng, num)))
    return from_structures(made, size=5)


def network(name, dtype):
    """A network that compiles in seconds."""
    if name == "cspnet":
        return CSPNet(hidden_dim=16, num_layers=2, num_freqs=4, time_dim=8, dtype=DTYPES[dtype])
    return Transformer(
        hidden_dim=16, num_layers=2, num_freqs=4, time_dim=8, num_heads=2, pair_dim=8,
        dtype=DTYPES[dtype],
    )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("names", SYSTEMS)
@pytest.mark.parametrize("name", ["cspnet", pytest.param("transformer", marks=pytest.mark.slow)])
def test_losses_and_gradients_are_finite_at_every_time(extremes, drawn_params, name, names, dtype):
    net, diffusion = network(name, dtype), make_diffusion(NUM_STEPS, **names)
    places = np.arange(NUM_STEPS) % len(extremes)
    crystals = infuse(jax.random.key(0), extremes[places], SLOTS)
    example = example_at(diffusion, jax.random.key(1), crystals, jnp.arange(NUM_STEPS))

    @partial(jax.grad, has_aux=True)
    def gradient(params):
        terms = terms_of_each(diffusion, partial(net.denoise, params), example)
        return terms.total(WEIGHTS).sum(), terms

    gradients, terms = jax.jit(gradient)(drawn_params(net))
    for name, sums in terms.sums.items():
        assert np.isfinite(sums).all(), f"{name} at times {np.flatnonzero(~np.isfinite(sums))}"
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))
    assert all((np.abs(x) > 0).any() for x in jax.tree.leaves(gradients))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("names", SYSTEMS)
def test_a_thousand_steps_are_finite(extremes, drawn_params, tiny_config, names, dtype):
    config = tiny_config().optimizer
    config.clip_norm = 1.0
    net, optimizer = network("cspnet", dtype), make_optimizer(config, 1000, 1)
    objective = Objective(
        net, make_diffusion(NUM_STEPS, **names), SLOTS, weights=WEIGHTS, chunk_size=len(extremes)
    )
    crystals = jax.tree.map(jnp.asarray, extremes)

    def step(state, _):
        return train_step(objective, optimizer, state, crystals, jnp.arange(len(crystals)))

    state = create(drawn_params(net), optimizer, jax.random.key(2))
    state, terms = jax.jit(partial(jax.lax.scan, step, length=1000))(state, None)
    assert int(state.step) == 1000
    losses = terms.total(WEIGHTS)
    assert np.isfinite(losses).all(), f"first at step {np.argmin(np.isfinite(losses))}"
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((state.params, state.ema_params)))


def test_single_precision_is_near_double(random_crystals, drawn_params):
    """The loss to 1e-4 of itself, the gradient to 1e-4 of its norm."""
    crystals = infuse(jax.random.key(0), random_crystals([1, 3, 5, 2], 5), SLOTS)
    times = jnp.array([0, 300, 700, 999])
    example = example_at(make_diffusion(), jax.random.key(1), crystals, times)
    params = drawn_params(network("cspnet", "float32"))

    def found(dtype):
        def cast(tree):
            return jax.tree.map(
                lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
            )

        net = CSPNet(hidden_dim=16, num_layers=2, num_freqs=4, time_dim=8, dtype=dtype)
        diffusion, given = cast(make_diffusion()), cast(example)

        def loss(params):
            denoise = partial(net.denoise, params)
            return terms_of_each(diffusion, denoise, given).total(WEIGHTS).sum()

        value, gradient = jax.jit(jax.value_and_grad(loss))(cast(params))
        return np.float64(value), np.concatenate([np.ravel(x) for x in jax.tree.leaves(gradient)])

    single = found(jnp.float32)
    with jax.enable_x64(True):
        double = found(jnp.float64)
    assert double[1].dtype == np.float64
    assert single[0] == pytest.approx(double[0], rel=1e-4)
    assert np.linalg.norm(single[1] - double[1]) < 1e-4 * np.linalg.norm(double[1])
