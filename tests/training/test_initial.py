"""Networks that are told more properties, or fewer, than the one whose parameters they take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.condition import Condition
from miad_jax.network import Transformer
from miad_jax.training import Initial


def network(*properties):
    return Transformer(16, 1, 2, 8, 2, 8, 10, properties=properties)


def drawn(net, seed):
    return jax.jit(net.init_params)(jax.random.key(seed))


@pytest.mark.slow
def test_a_new_property_changes_nothing_until_it_is_trained_and_an_old_one_can_go(random_crystals):
    crystals, time = random_crystals([3, 2], 3), jnp.array([2, 7])
    plain, told, other = network(), network("gap", "spacegroup_number"), network("gap", "age")
    first = drawn(plain, 0)
    # The last layers start at 0, of which every prediction would be.
    first = jax.tree.map(lambda x: x + 0.1 * np.sin(np.arange(x.size)).reshape(x.shape), first)
    asked = Condition(properties={"gap": jnp.array([1.0, jnp.nan])})
    started = Initial(first, {}).fitted_to(drawn(told, 1))
    expected = jax.jit(plain.denoise)(first, crystals, time)
    assert all(np.abs(x).max() > 0.01 for x in jax.tree.leaves(expected))
    found = jax.jit(told.denoise)(started, crystals, time, asked)
    jax.tree.map(np.testing.assert_array_equal, found, expected)

    trained = jax.tree.map(lambda x: x + 0.1, started)
    moved = Initial(trained, {}).fitted_to(drawn(other, 2))
    assert moved["properties"].keys() == {"gap_in", "gap_out", "age_in", "age_out"}
    np.testing.assert_array_equal(
        moved["properties"]["gap_in"]["kernel"], trained["properties"]["gap_in"]["kernel"]
    )
    free = jax.jit(told.denoise)(trained, crystals, time)
    for net, params in ((other, moved), (plain, Initial(trained, {}).fitted_to(first))):
        found = jax.jit(net.denoise)(params, crystals, time)
        for one, two in zip(*map(jax.tree.leaves, (found, free)), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_another_network_is_refused_by_the_first_parameter_that_differs(drawn_params):
    first = drawn_params(network())
    with pytest.raises(ValueError, match=r"another network: .* has shape .*, config.network needs"):
        Initial(first, {}).fitted_to(drawn_params(Transformer(32, 1, 2, 8, 2, 8, 10)))
