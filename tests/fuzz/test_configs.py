"""Configurations of any values: each is refused in words, or makes a step."""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from miad_jax.build import control_from, diffusion_from, network_from, solver_from
from miad_jax.condition import Condition
from miad_jax.config import validate
from miad_jax.diffusion.joint import prior
from miad_jax.sampling.sampler import reverse, steps_of
from miad_jax.training.loop import make_objective
from miad_jax.training.state import create, make_optimizer
from miad_jax.training.step import train_step
from tests.fuzz.strategies import fuzzed

NUMBERS = {
    int: (0, 1, 2, 3, 4, 8, 16, 50, 51, -1, 10**6),
    float: (0.0, 0.5, 1.0, 1.0001, 1e-30, 1e30, -0.5, 3.0, math.nan, math.inf),
}
WORDS = (
    *("ddpm", "log", "limit", "flow", "lengths_angles", "wrapped_normal", "uniform", "masked"),
    *("ancestral", "heun", "predictor_corrector", "langevin", "renewal", "denoise", "hold"),
    *("marginal", "conditional", "cspnet", "transformer", "float32", "bfloat16", "center"),
    *("constant", "cosine", "plateau", "else"),
)
TUPLES = ((), (49,), (49, 20, 0), (0, 49), (2.0, 50.0), (50.0, 2.0), ("volume_per_atom",), ("",))


def fields(config, prefix=""):
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def other_value(draw, value):
    """Any value of the same type, or of any type where it is not given."""
    if isinstance(value, bool):
        return draw(st.booleans())
    if isinstance(value, int | float):
        return draw(st.sampled_from(NUMBERS[type(value)]))
    if value is None:
        return draw(st.sampled_from((None, *NUMBERS[int], *NUMBERS[float])))
    return draw(st.sampled_from(WORDS if isinstance(value, str) else TUPLES))


def traced(config, crystals):
    """Trace a step of training and two of sampling; the shapes of the parameters and samples."""
    objective = make_objective(config, crystals.size)
    optimizer = make_optimizer(config.optimizer, 100, 10)
    num, key = len(crystals), jax.random.key(0)
    told = {name: jnp.zeros(num) for name in config.data.properties}
    condition = Condition(properties=told) if told else None
    net, diffusion, solver = network_from(config), diffusion_from(config), solver_from(config)
    solver.check(diffusion)
    times = jnp.asarray(steps_of(solver, diffusion)[:2])
    mask = jnp.ones((num, config.infusion.num_atoms), bool)

    def train():
        state = create(objective.net.init_params(key), optimizer, key)
        return train_step(objective, optimizer, state, crystals, jnp.arange(num), condition)

    def sample(params):
        denoise, control = partial(net.denoise, params), control_from(config)
        keys, start = jax.random.split(key, num), prior(diffusion, key, mask)
        return reverse(diffusion, denoise, solver, control, keys, start, condition, times)

    params = jax.eval_shape(train)[0].params
    return params, jax.eval_shape(sample, params)[0]


@fuzzed(30)
@given(st.data())
def test_any_configuration_is_refused_or_makes_a_step(tiny_config, random_crystals, data):
    config = tiny_config()
    every = dict(fields(config))
    chosen = data.draw(st.lists(st.sampled_from([*every]), min_size=1, max_size=4, unique=True))
    try:
        for name in chosen:
            config.update_from_flattened_dict({name: other_value(data.draw, every[name])})
    except TypeError:  # a field that holds another type says so when it is set
        return
    try:
        validate(config)
    except ValueError as error:
        lines = str(error).splitlines()
        assert [x for x in lines if re.match(r"config\.\S+ (is|are) .*; allowed: ", x)] == lines
        return
    assume(config.batch_size <= 64)
    try:
        params, samples = traced(config, random_crystals([2] * config.batch_size, 2))
    except ValueError as error:  # what only the network knows
        if re.match(r"config\.tasks \(.*\) has parts that are known, but CSPNet", str(error)):
            return
        raise
    assert all(x.dtype == np.float32 for x in jax.tree.leaves(params))
    assert samples.frac_coords.shape == (config.batch_size, config.infusion.num_atoms, 3)
