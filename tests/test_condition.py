import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.condition import Condition, Times
from miad_jax.crystal import NUM_TYPES


def test_one_time_for_all_parts():
    times = Times.same(jnp.array([3, -1]), size=4)
    assert (times.lattice.shape, times.coords.shape, times.types.shape) == ((2,), (2, 4), (2, 4))
    np.testing.assert_array_equal(times.lattice, [3, -1])
    np.testing.assert_array_equal(times.coords, [[3] * 4, [-1] * 4])
    np.testing.assert_array_equal(times.types, times.coords)
    one = Times.same(7, size=2)
    assert one.lattice.shape == ()
    np.testing.assert_array_equal(one.coords, [7, 7])
    assert all(x.dtype == jnp.int32 for x in jax.tree.leaves((times, one)))


def test_of_elements_allows_these_and_mirage_atoms_in_every_sample():
    allowed = Condition.of_elements([3, 8], num_samples=2).allowed_types
    expected = np.isin(np.arange(NUM_TYPES), [0, 3, 8])
    np.testing.assert_array_equal(allowed, [expected, expected])
    np.testing.assert_array_equal(Condition.of_elements(8, 1).allowed_types[0].nonzero()[0], [0, 8])
    assert Condition.of_elements(range(1, 100), 3).allowed_types.all()


@pytest.mark.parametrize("numbers", [[], [0], [3, 100], [-1]])
def test_what_is_no_element_is_refused(numbers):
    with pytest.raises(ValueError, match=r"atomic_numbers are .*; allowed: at least one, each fro"):
        Condition.of_elements(numbers, num_samples=1)


def test_what_is_not_asked_is_not_there():
    assert jax.tree.leaves(Condition()) == []
    condition = Condition(properties={"gap": jnp.arange(3.0), "energy": jnp.zeros(3)})
    assert [x.shape for x in jax.tree.leaves(condition)] == [(3,), (3,)]
    part = jax.jit(lambda c: jax.tree.map(lambda x: x[1:], c))(condition)
    np.testing.assert_array_equal(part.properties["gap"], [1, 2])
    assert part.allowed_types is None
