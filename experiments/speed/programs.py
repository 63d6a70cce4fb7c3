"""What is timed: a training step, a forward pass and a sampling step, the package's and the plain.

Every program is compiled ahead, holds its own arrays, and is run by calling it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.speed.plain import PlainDenoiser, all_edges, plain_network, plain_params
from miad_jax import Crystal, CSPNet, Prediction, load_dataset, make_diffusion
from miad_jax.config import default_config
from miad_jax.padding import resize
from miad_jax.sampling import Control, PredictorCorrector
from miad_jax.sampling.sampler import reverse, start, steps_of
from miad_jax.training import Objective, make_optimizer, train_step
from miad_jax.training.state import create

SIZES = {
    "published": CSPNet(hidden_dim=512, num_layers=6, num_freqs=128, time_dim=256),
    "small": CSPNet(hidden_dim=192, num_layers=4, num_freqs=64, time_dim=256),
}
ROWS = 2
"""Reverse steps in one call of a sampling program."""


@dataclass(frozen=True)
class Case:
    """One setting to time.

    Attributes:
        net: The network.
        num_atoms: Atom slots of a crystal: N_m with infusion.
        batch_size: Crystals in a batch.
        infused: MiAD; False is the baseline, with padding up to `num_atoms`.
        chunk_size: Crystals that the network sees at once; None as the package chooses.
    """

    net: CSPNet
    num_atoms: int
    batch_size: int
    infused: bool = True
    chunk_size: int | None = None

    @property
    def chunk(self) -> int:
        """The largest chunk that divides the batch, as the training loop takes it."""
        largest = self.chunk_size or self.net.chunk_size(self.num_atoms, jax.default_backend())
        return max(
            n for n in range(1, self.batch_size + 1) if n <= largest and not self.batch_size % n
        )

    def data(self) -> tuple[Crystal, jax.Array]:
        """The embedded data set cut to `num_atoms` slots, and the indices of a batch.

        The batch is of the crystals that find room, the largest first.
        """
        crystals, _ = load_dataset("prototypes", "train")
        num_atoms = np.asarray(crystals.mask).sum(-1)
        order = np.argsort(np.where(num_atoms > self.num_atoms, 1, -num_atoms), kind="stable")
        cut = resize(crystals, min(self.num_atoms, crystals.size))
        return jax.tree.map(jnp.asarray, cut), jnp.asarray(order[: self.batch_size])


@dataclass(frozen=True)
class Program:
    """A compiled program with its arrays.

    Attributes:
        run: Run it once and wait for it.
        compile_seconds: Tracing and compiling.
        temp_bytes: Memory for what lives only during a call, as the compiler plans it.
        argument_bytes: Memory of its arguments.
        steps: Steps in one run: times are divided by it.
    """

    run: Callable[[], None]
    compile_seconds: float
    temp_bytes: int
    argument_bytes: int
    steps: int = 1


def training(case: Case, *, plain: bool = False, net: Any = None) -> Program:
    """One training step: noise, loss, gradient, optimiser, average; the state is donated.

    Args:
        case: The setting.
        plain: The plain network, which sees the whole batch at once.
        net: A stand-in for the network, for what is left of a step without it.
    """
    config = default_config().optimizer
    optimizer = make_optimizer(config, 1000, 10)
    objective = Objective(
        net=net or case.net,
        diffusion=make_diffusion(),
        num_atoms=case.num_atoms if case.infused else None,
        chunk_size=case.chunk,
    )
    params = jax.jit(case.net.init_params)(jax.random.key(0))
    if plain:
        params = plain_params(params, case.net.num_layers)
    edges = all_edges(case.batch_size, case.num_atoms) if plain else None

    def step(state, data, index, edges):
        crystal, slots = data[index], jnp.arange(case.batch_size)
        chosen = objective
        if edges is not None:
            network = PlainDenoiser(plain_network(case.net), edges)
            chosen = replace(objective, net=network, chunk_size=case.batch_size)
        return train_step(chosen, optimizer, state, crystal, slots)

    state = create(params, optimizer, jax.random.key(1))
    data, index = case.data()
    rest = data, index, edges
    compiled, seconds = _compile(jax.jit(step, donate_argnums=0), state, *rest)
    holder = [state]

    def run() -> None:
        holder[0], terms = compiled(holder[0], *rest)
        jax.block_until_ready((holder[0], terms))

    return _program(compiled, seconds, run)


def forward(case: Case, *, plain: bool = False) -> Program:
    """One pass of the network over a batch, in chunks as the package evaluates it."""
    params, crystal, edges = _noisy(case, plain)
    time_ = jnp.full(case.batch_size, 500)
    if plain:
        denoise = partial(_plain_denoise, plain_network(case.net))
        arguments: Any = (params, edges), crystal, time_
        function: Any = denoise
    else:
        chunks = jax.tree.map(lambda x: x.reshape(-1, case.chunk, *x.shape[1:]), (crystal, time_))
        arguments = params, chunks

        def function(params, chunks):
            return jax.lax.map(lambda chunk: case.net.denoise(params, *chunk), chunks)

    compiled, seconds = _compile(jax.jit(function), *arguments)
    return _program(compiled, seconds, lambda: jax.block_until_ready(compiled(*arguments)))


def sampling(case: Case, *, plain: bool = False) -> Program:
    """Reverse steps of a batch, two evaluations each, in chunks as the sampler runs them."""
    params, crystal, edges = _noisy(case, plain)
    keys = jax.random.split(jax.random.key(2), case.batch_size)
    if plain:
        function = partial(_plain_denoise, plain_network(case.net))
        denoise = jax.tree_util.Partial(function, (params, edges))
        chunk = case.batch_size
    else:
        denoise, chunk = jax.tree_util.Partial(case.net.denoise, params), case.chunk
    parts = make_diffusion(), denoise, PredictorCorrector(), Control()
    steps = jnp.asarray(steps_of(parts[2], parts[0])[500 : 500 + ROWS])
    first = slice(0, chunk)
    compiled, seconds = _compile(jax.jit(reverse), *parts, keys[first], crystal[first], None, steps)

    def run() -> None:
        for i in range(0, case.batch_size, chunk):
            part = slice(i, i + chunk)
            jax.block_until_ready(compiled(*parts, keys[part], crystal[part], None, steps))

    return _program(compiled, seconds, run, ROWS)


def check_equal(case: Case) -> float:
    """The largest relative difference of outputs and gradients between the two networks.

    Raises:
        AssertionError: If an output differs by more than 1e-4, or a gradient by more than 1e-5,
            relative to the norm of the whole.
    """
    params, crystal, _ = _noisy(case, False)
    edges = all_edges(case.batch_size, case.num_atoms)
    time_ = jnp.arange(case.batch_size) * 900 // case.batch_size
    plain = partial(_plain_denoise, plain_network(case.net))

    def ours(params, edges):
        del edges
        return case.net.denoise(params, crystal, time_)

    def theirs(params, edges):
        return plain((plain_params(params, case.net.num_layers), edges), crystal, time_)

    def gradient_and_outputs(denoise):
        def total(params, edges):
            outputs = denoise(params, edges)
            return sum(jnp.square(x).sum() for x in jax.tree.leaves(outputs)), outputs

        return jax.jit(jax.grad(total, has_aux=True))(params, edges)

    (gradient, output), (their_gradient, their_output) = map(gradient_and_outputs, (ours, theirs))
    outputs = _difference(output, their_output)
    gradients = _difference(gradient, their_gradient)
    assert outputs < 1e-4, outputs
    assert gradients < 1e-5, gradients
    return max(outputs, gradients)


class NoNetwork:
    """A denoiser that costs nothing, but whose parameters all get a gradient."""

    def denoise(
        self, params: Any, crystal: Crystal, time: Any, condition: Any = None
    ) -> Prediction:
        """Predict a constant."""
        del time, condition
        constant = sum(x.ravel()[0] for x in jax.tree.leaves(params))
        shape = crystal.atom_types.shape
        return jax.tree.map(
            lambda x: x + constant,
            Prediction(crystal.lattice, crystal.frac_coords, jnp.zeros((*shape, 100))),
        )


def _noisy(case: Case, plain: bool) -> tuple[Any, Crystal, Any]:
    """Parameters, crystals of pure noise, and the plain network's edges."""
    params = jax.jit(case.net.init_params)(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), case.batch_size)
    if case.infused:
        mask = jnp.ones((case.batch_size, case.num_atoms), bool)
    else:
        data, index = case.data()
        mask = data.mask[index]
    crystal = jax.jit(start)(make_diffusion(), keys, mask)
    if not plain:
        return params, crystal, None
    edges = all_edges(case.batch_size, case.num_atoms)
    return plain_params(params, case.net.num_layers), crystal, edges


def _plain_denoise(net: Any, params_and_edges: Any, crystal: Crystal, time: Any) -> Prediction:
    params, edges = params_and_edges
    return PlainDenoiser(net, edges).denoise(params, crystal, time)


def _compile(function: Any, *arguments: Any) -> tuple[Any, float]:
    started = time.perf_counter()
    compiled = function.lower(*arguments).compile()
    return compiled, time.perf_counter() - started


def _program(compiled: Any, seconds: float, run: Callable[[], None], steps: int = 1) -> Program:
    memory = compiled.memory_analysis()
    return Program(run, seconds, memory.temp_size_in_bytes, memory.argument_size_in_bytes, steps)


def _difference(one: Any, two: Any) -> float:
    """Largest norm of the difference of two trees' leaves, relative to the norm of the tree."""
    whole = np.sqrt(sum(float(jnp.square(x).sum()) for x in jax.tree.leaves(two)))
    differences = jax.tree.map(lambda a, b: float(jnp.linalg.norm((a - b).ravel())), one, two)
    return max(jax.tree.leaves(differences)) / whole
