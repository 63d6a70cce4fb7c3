"""What `Process` promises, of every process of a field."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.crystal import NUM_TYPES
from miad_jax.diffusion.coords import WrappedNormal
from miad_jax.diffusion.lattice import LatticeDDPM
from miad_jax.diffusion.lattice_flow import LatticeFlow
from miad_jax.diffusion.lattice_vp import LatticeVP
from miad_jax.diffusion.masked import MaskedTypes
from miad_jax.diffusion.process import MarkovProcess
from miad_jax.diffusion.torus_flow import TorusFlow
from miad_jax.diffusion.types import UniformD3PM
from miad_jax.diffusion.types_flow import TypesFlow

STEPS, BATCH, ATOMS = 1000, 4, 5


def lattice_exact(process, x_0, x_t, t):
    """ε̂ that tells x_0 exactly."""
    signal, spread = (
        jnp.sqrt(column[t])[..., None, None]
        for column in (process.alpha_bar, process.one_minus_alpha_bar)
    )
    return (x_t - signal * x_0) / spread


def vp_exact(process, x_0, x_t, t):
    """v̂ that tells x_0 exactly."""
    signal, spread = (
        jnp.sqrt(column[t])[..., None]
        for column in (process.alpha_bar, process.one_minus_alpha_bar)
    )
    z_0, z_t = process.numbers.to_z(x_0), process.numbers.of_noised(x_t)
    return process.numbers.saying(signal * (z_t - signal * z_0) / spread - spread * z_0, x_t)


def lattice_flow_exact(process, x_0, x_t, t):
    """The velocity that leads from x_0 to x_t."""
    way = process.numbers.of_noised(x_t) - process.numbers.to_z(x_0)
    return process.numbers.saying(way / process.tau[t][..., None], x_t)


def lattice_case(make, exact, **changes):
    """A process of six numbers, at cells of its own that are not far from its prior."""
    z = jnp.asarray(np.random.default_rng(0).normal(size=(BATCH, 6)), jnp.float32)
    common = {
        "make": make,
        "x_0": make(1).numbers.from_z(0.7 * z),
        "shape": (3, 3),
        "noise_key": lambda key: key,
        "exact": exact,
        "told_up_to": 999,
        "observables": lambda x: jnp.stack([x, jnp.square(x)], -1),
        "parts": False,
    }
    return Case(**(common | changes))


def coords_exact(process, x_0, x_t, t):
    """The score of the noise that leads from x_0 to x_t, if none of it went round the cell."""
    apart = x_t - x_0
    return process.target(t, (apart - jnp.round(apart)) / process.sigma[t][..., None])


def flow_exact(process, x_0, x_t, t):
    """The velocity that leads from x_0 to x_t."""
    apart = x_t - x_0
    return (apart - jnp.round(apart)) / process.tau[t][..., None] * 12**0.5


def types_exact(process, x_0, x_t, t):
    """Logits that leave no doubt."""
    return 100 * jax.nn.one_hot(x_0, NUM_TYPES)


def harmonics(x):
    """Periodic functions of coordinates, from which their distribution can be told."""
    return jnp.concatenate([f(2 * jnp.pi * k * x) for f in (jnp.sin, jnp.cos) for k in (1, 2)], -1)


@dataclass(frozen=True)
class Case:
    """A process, and what a test must know of its field.

    Attributes:
        make: From T to the process.
        x_0: Clean values of a batch.
        shape: Shape of the field in one crystal.
        noise_key: From a key to what `draw_noise` takes.
        exact: Prediction that tells the clean field, from (process, x_0, x_t, t).
        told_up_to: Latest time at which that prediction is exact.
        observables: Functions of a field whose means tell two distributions apart.
        parts: Whether each atom has a time of its own.
        prior_is_random: Whether pure noise differs from crystal to crystal.
        seen_from: Earliest time at which the noise of a few atoms shows in their loss.
    """

    make: Callable[[int], Any]
    x_0: Any
    shape: tuple[int, ...]
    noise_key: Callable[[Any], Any]
    exact: Callable[..., Any]
    told_up_to: int
    observables: Callable[[Any], Any]
    parts: bool
    prior_is_random: bool = True
    seen_from: int = 0

    def time(self, t):
        """One time of a crystal as this field takes it: [batch] or [batch, 1]."""
        t = jnp.broadcast_to(jnp.asarray(t, jnp.int32), (BATCH,))
        return t[:, None] if self.parts else t

    def noise(self, process, key):
        """Noise of a whole batch."""
        keys = jax.random.split(key, BATCH)
        return jax.vmap(lambda key: process.draw_noise(self.noise_key(key), ATOMS))(keys)

    def step_noise(self, process, key):
        """Step noise of a whole batch."""
        keys = jax.random.split(key, BATCH)
        return jax.vmap(lambda key: process.draw_step_noise(key, ATOMS))(keys)


RNG = np.random.default_rng(0)
CASES = {
    "LatticeDDPM": Case(
        make=LatticeDDPM.make,
        x_0=jnp.asarray(4 * np.eye(3) + RNG.normal(size=(BATCH, 3, 3)), jnp.float32),
        shape=(3, 3),
        noise_key=lambda key: key,
        exact=lattice_exact,
        told_up_to=900,  # beyond it √ᾱ is so small that rounding shows
        observables=lambda x: jnp.stack([x, jnp.square(x)], -1),
        parts=False,
    ),
    "LatticeVP": lattice_case(LatticeVP.make, vp_exact),
    "LatticeVP.limit": lattice_case(
        functools.partial(LatticeVP.limit, limit_num_atoms=25), vp_exact
    ),
    "LatticeFlow": lattice_case(LatticeFlow.make, lattice_flow_exact),
    "LatticeFlow.lengths_angles": lattice_case(LatticeFlow.lengths_angles, lattice_flow_exact),
    "WrappedNormal": Case(
        make=WrappedNormal.make,
        x_0=jnp.asarray(RNG.random((BATCH, ATOMS, 3)), jnp.float32),
        shape=(ATOMS, 3),
        noise_key=lambda key: key,
        exact=coords_exact,
        told_up_to=600,  # σ = 0.08: the score of a wrapped normal is that of the normal
        observables=harmonics,
        parts=True,
    ),
    "WrappedNormal.wide": Case(
        make=functools.partial(WrappedNormal.make, sigma_max=1.0),
        x_0=jnp.asarray(RNG.random((BATCH, ATOMS, 3)), jnp.float32),
        shape=(ATOMS, 3),
        noise_key=lambda key: key,
        exact=coords_exact,
        told_up_to=520,  # σ = 0.08: the score of a wrapped normal is that of the normal
        observables=harmonics,
        parts=True,
    ),
    "UniformD3PM": Case(
        make=UniformD3PM.make,
        x_0=jnp.asarray(RNG.integers(0, NUM_TYPES, (BATCH, ATOMS)), jnp.int32),
        shape=(ATOMS,),
        noise_key=lambda key: jax.random.split(key, 2),
        exact=types_exact,
        told_up_to=999,
        observables=lambda x: jax.nn.one_hot(x, NUM_TYPES),
        parts=True,
    ),
    "TypesFlow": Case(
        make=TypesFlow.make,
        x_0=jnp.asarray(RNG.integers(0, NUM_TYPES, (BATCH, ATOMS)), jnp.int32),
        shape=(ATOMS,),
        noise_key=lambda key: jax.random.split(key, 2),
        exact=types_exact,
        told_up_to=999,
        observables=lambda x: jax.nn.one_hot(x, NUM_TYPES),
        parts=True,
    ),
    "MaskedTypes": Case(
        make=MaskedTypes.make,
        x_0=jnp.asarray(RNG.integers(0, NUM_TYPES, (BATCH, ATOMS)), jnp.int32),
        shape=(ATOMS,),
        noise_key=lambda key: jax.random.split(key, 2),
        exact=types_exact,
        told_up_to=999,
        observables=lambda x: jax.nn.one_hot(x, NUM_TYPES + 1),
        parts=True,
        prior_is_random=False,
        seen_from=500,
    ),
    "TorusFlow": Case(
        make=TorusFlow.make,
        x_0=jnp.asarray(RNG.random((BATCH, ATOMS, 3)), jnp.float32),
        shape=(ATOMS, 3),
        noise_key=lambda key: key,
        exact=flow_exact,
        told_up_to=999,
        observables=harmonics,
        parts=True,
    ),
}


AGAIN = {"LatticeFlow.lengths_angles", "LatticeVP.limit"}
"""Cases of a process that another case runs with other numbers of the cell."""


def _marked(name):
    return pytest.param(name, marks=[pytest.mark.slow] if name in AGAIN else [], id=name)


@pytest.fixture(scope="module", params=[_marked(name) for name in CASES])
def case(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def process(case):
    return case.make(STEPS)


def same(one, two, case, atol=1e-5):
    """Whether fields agree; coordinates modulo 1."""
    if jnp.issubdtype(one.dtype, jnp.integer):
        np.testing.assert_array_equal(one, two)
        return
    apart = np.float64(one) - np.float64(two)
    apart -= np.round(apart) if case.parts else 0
    np.testing.assert_allclose(apart, 0, atol=atol)


def noised(case, process, t, key=3):
    """The noised field and its noise."""
    noise = case.noise(process, jax.random.key(key))
    return process.add_noise(case.x_0, case.time(t), noise), noise


def test_random_draws_have_the_shape_of_the_field_and_follow_their_key(case, process):
    assert process.num_steps == STEPS
    one, other = jax.random.split(jax.random.key(0))
    for draw, key_of in (
        (process.prior, lambda key: key),
        (process.draw_noise, case.noise_key),
        (process.draw_step_noise, lambda key: key),
    ):
        first, again, second = (draw(key_of(key), ATOMS) for key in (one, one, other))
        for x, y, z in zip(*map(jax.tree.leaves, (first, again, second)), strict=True):
            assert x.shape == case.shape
            np.testing.assert_array_equal(x, y)
            assert (x != z).any() or (draw == process.prior and not case.prior_is_random)
    kind = process.prior(one, ATOMS).dtype
    assert kind == case.x_0.dtype


def test_the_clean_time_is_clean(case, process):
    clean, _ = noised(case, process, -1)
    np.testing.assert_array_equal(clean, case.x_0)
    assert (noised(case, process, 999)[0] != case.x_0).any()


@pytest.mark.parametrize("t", [0, 1, 500, 999])
def test_the_loss_is_least_for_the_exact_prediction(case, process, t):
    x_t, noise = noised(case, process, t)
    said = case.exact(process, case.x_0, x_t, case.time(t))
    if t > case.told_up_to:  # the noise went round the cell, or rounding shows
        said = process.target(case.time(t), noise) if case.parts else noise
    args = case.x_0, x_t, case.time(t), noise
    losses = process.loss(said, *args)
    assert losses.shape == case.x_0.shape[: losses.ndim]
    np.testing.assert_allclose(losses, 0, atol=2e-3)
    others = process.loss(jnp.flip(said, -1) + 0.5 * jnp.cos(said), *args)
    assert (others > losses - 1e-3).all()
    assert others.mean() > 0.01 or t < case.seen_from


def test_an_exact_prediction_tells_the_clean_field(case, process):
    for t in (0, 100, 400, case.told_up_to):
        x_t, _ = noised(case, process, t)
        said = case.exact(process, case.x_0, x_t, case.time(t))
        clean = process.clean(said, x_t, case.time(t))
        if clean.ndim > case.x_0.ndim:  # log-probabilities
            assert clean.max() < 1e-5
            assert jnp.exp(clean).max(-1).min() > 0.999
            clean = clean.argmax(-1)
        same(clean, case.x_0, case, atol=1e-3)


def test_an_exact_prediction_leads_to_the_clean_field_in_one_step(case, process):
    for t in (0, 100, 400, case.told_up_to):
        x_t, _ = noised(case, process, t)
        said = case.exact(process, case.x_0, x_t, case.time(t))
        noise = case.step_noise(process, jax.random.key(8))
        clean = process.step(said, x_t, case.time(t), case.time(-1), noise)
        assert clean.dtype == case.x_0.dtype
        same(clean, case.x_0, case, atol=1e-3)


def test_steps_of_any_length_lead_to_the_same_distribution(case, process):
    """From q(x_600 | x_0), one step to 100, and two over 350, draw from q(x_100 | x_0)."""
    num, t, middle, s = 4000, 600, 350, 100
    x_0 = case.x_0[0]

    def draw(key):
        noise_keys, first, second, third = (
            jax.random.split(k, num) for k in jax.random.split(key, 4)
        )

        def walk(noise_key, *step_keys):
            def at(time):
                return jnp.full((1,) if case.parts else (), time)

            def stepped(x, start, end, key):
                said = case.exact(process, x_0, x, at(start))
                noise = process.draw_step_noise(key, ATOMS)
                return process.step(said, x, at(start), at(end), noise)

            noise = process.draw_noise(case.noise_key(noise_key), ATOMS)
            before, after = (process.add_noise(x_0, at(time), noise) for time in (t, s))
            one = stepped(before, t, s, step_keys[0])
            two = stepped(stepped(before, t, middle, step_keys[1]), middle, s, step_keys[2])
            return [case.observables(x) for x in (before, after, one, two)]

        return jax.vmap(walk)(noise_keys, first, second, third)

    before, after, one, two = (np.float64(x) for x in jax.jit(draw)(jax.random.key(5)))

    def apart(x, y):
        """Largest difference of means, in standard errors."""
        error = np.sqrt((x.var(0) + y.var(0)) / num)
        return (np.abs(x.mean(0) - y.mean(0)) / (error + 1e-4)).max()

    assert apart(one, after) < 5
    assert apart(two, after) < 5
    assert apart(before, after) > 10, "or the means would not tell distributions apart"


def test_going_back_up_leads_to_the_same_distribution(case, process):
    """From q(x_100 | x_0), or from x_0, on to q(x_600 | x_0); flows cannot."""
    if not isinstance(process, MarkovProcess):
        assert not hasattr(process, "renoise")
        return
    num, s, t = 4000, 100, 600

    def draw(key):
        noise_keys, first, second, third = (
            jax.random.split(k, num) for k in jax.random.split(key, 4)
        )

        def walk(*keys):
            def at(time):
                return jnp.full((1,) if case.parts else (), time)

            noise = [process.draw_noise(case.noise_key(key), ATOMS) for key in keys]
            before, after = (process.add_noise(case.x_0[0], at(time), noise[0]) for time in (s, t))
            up = process.renoise(before, at(s), at(t), noise[1])
            whole = process.renoise(case.x_0[0], at(-1), at(t), noise[2])
            end = process.renoise(up, at(t), at(t), noise[3])
            return [*(case.observables(x) for x in (before, after, up, whole)), (up, end)]

        return jax.vmap(walk)(noise_keys, first, second, third)

    before, after, up, whole, (still, end) = jax.jit(draw)(jax.random.key(9))
    same(still, end, case, atol=1e-4)

    def apart(x, y):
        """Largest difference of means, in standard errors."""
        x, y = np.float64(x), np.float64(y)
        error = np.sqrt((x.var(0) + y.var(0)) / num)
        return (np.abs(x.mean(0) - y.mean(0)) / (error + 1e-4)).max()

    assert apart(up, after) < 5
    assert apart(whole, after) < 5
    assert apart(before, after) > 10, "or the means would not tell distributions apart"


def test_parts_of_a_batch_may_have_times_of_their_own(case, process):
    """Each part does what it does in a batch where all have its time."""
    shape = (BATCH, ATOMS) if case.parts else (BATCH,)
    t = jnp.asarray(np.random.default_rng(1).integers(1, STEPS, shape), jnp.int32)
    s = t // 2 - 1
    noise = case.noise(process, jax.random.key(1))
    step_noise = case.step_noise(process, jax.random.key(2))
    said = case.exact(process, case.x_0, noised(case, process, 200)[0], case.time(200))
    said = said + 0.1 * jnp.sin(jnp.arange(said.size, dtype=said.dtype)).reshape(said.shape)

    def everything(t, s):
        x_t = process.add_noise(case.x_0, t, noise)
        return (
            x_t,
            process.loss(said, case.x_0, x_t, t, noise),
            process.clean(said, x_t, t),
            process.step(said, x_t, t, s, step_noise),
        )

    mixed = everything(t, s)
    for part in ((0, 0), (1, 3), (3, 4)) if case.parts else ((0,), (3,)):
        alone = everything(case.time(t[part]), case.time(s[part]))
        every_atom = everything(jnp.full(shape, t[part]), jnp.full(shape, s[part]))
        for one, two, three in zip(mixed, alone, every_atom, strict=True):
            np.testing.assert_allclose(one[part], two[part], rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(two, three)


def test_it_is_a_pytree_that_is_traced_once(case, process):
    leaves, structure = jax.tree.flatten(process)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    again = jax.tree.unflatten(structure, leaves)
    assert type(again) is type(process)
    traces = []

    noise = case.noise(process, jax.random.key(4))
    step_noise = case.step_noise(process, jax.random.key(5))

    def run(process, t, s, noise):
        traces.append(None)
        x_t = process.add_noise(case.x_0, t, noise)
        said = case.exact(process, case.x_0, x_t, t)
        return (
            process.loss(said, case.x_0, x_t, t, noise),
            process.clean(said, x_t, t),
            process.step(said, x_t, t, s, step_noise),
        )

    compiled = jax.jit(run)
    jitted = compiled(process, case.time(300), case.time(299), noise)
    compiled(again, case.time(7), case.time(-1), case.noise(process, jax.random.key(6)))
    compiled(jax.tree.map(lambda x: 0.999 * x, process), case.time(9), case.time(2), noise)
    assert len(traces) == 1
    eager = run(process, case.time(300), case.time(299), noise)
    for one, two in zip(jitted, eager, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-3)
