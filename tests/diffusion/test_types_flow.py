"""Discrete flow matching of types: what it shares with D3PM, and the distribution it leads to."""

import jax
import jax.numpy as jnp
import numpy as np

from miad_jax.crystal import NUM_TYPES
from miad_jax.diffusion import make_diffusion
from miad_jax.diffusion.types_flow import TypesFlow

PROCESS = TypesFlow.make(1000)


def at(num, t):
    return jnp.full((num, 1), t)


def test_the_noise_is_linear_and_ends_in_uniform_types():
    tau = (np.arange(1000) + 1) / 1000
    np.testing.assert_allclose(PROCESS.one_minus_keep[:-1], tau, rtol=1e-6)
    np.testing.assert_allclose(PROCESS.keep[:-1], 1 - tau, atol=1e-7)
    assert (PROCESS.keep[-1], PROCESS.one_minus_keep[-1]) == (1, 0)
    assert np.isfinite(PROCESS.log_keep.high).all()
    assert np.isfinite(PROCESS.log_keep.low).all()


def test_an_atom_that_does_not_jump_keeps_its_type():
    """D3PM's posterior would redraw some to a third type."""
    num = 20_000
    types = jnp.full((num, 1), 26)
    said = jnp.broadcast_to(100 * jax.nn.one_hot(8, NUM_TYPES), (num, 1, NUM_TYPES))
    noise = jax.random.uniform(jax.random.key(0), (num, 1))
    moved = np.asarray(PROCESS.step(said, types, at(num, 799), at(num, 399), noise))
    assert set(np.unique(moved)) == {8, 26}
    np.testing.assert_allclose((moved == 8).mean(), 0.5, atol=0.02)


def test_sampling_recovers_a_distribution_of_types():
    """One atom, whose clean type has a known distribution: x̂_0 is that, whatever x_t is."""
    probs = np.zeros(NUM_TYPES)
    probs[[0, 8, 26]] = 0.5, 0.2, 0.3
    num = 3000
    said = jnp.broadcast_to(jnp.log(jnp.asarray(probs, jnp.float32) + 1e-30), (num, 1, NUM_TYPES))
    keys = jax.random.split(jax.random.key(1), 41)
    types = jax.vmap(lambda key: PROCESS.prior(key, 1))(jax.random.split(keys[-1], num))
    for i, t in enumerate(range(999, 0, -25)):
        noise = jax.random.uniform(keys[i], (num, 1))
        types = PROCESS.step(said, types, at(num, t), at(num, max(t - 25, 0)), noise)
    found = np.bincount(np.asarray(types)[:, 0], minlength=NUM_TYPES) / num
    np.testing.assert_allclose(found, probs, atol=0.035)


def test_what_is_finite_is_finite_at_every_time():
    t = jnp.arange(1000)[:, None]
    types = jnp.full((1000, 1), 8)
    said = jnp.zeros((1000, 1, NUM_TYPES))
    noise = jnp.full((1000, 1), 0.5)
    assert np.isfinite(PROCESS.clean(said, types, t)).all()
    assert np.isfinite(PROCESS.cross_entropy(said, types + 1, types, t)).all()
    for s in (t - 1, jnp.full_like(t, -1)):
        assert (np.asarray(PROCESS.step(said, types, t, s, noise)) < NUM_TYPES).all()


def test_it_is_chosen_by_name():
    assert isinstance(make_diffusion(10, types="flow").types, TypesFlow)
