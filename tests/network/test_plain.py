"""The network equals one written the plain way, in its outputs and its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.speed.growth import exponent
from experiments.speed.plain import all_edges, plain_network, plain_params
from experiments.speed.programs import Case, check_equal
from experiments.speed.work import forward_work, training_work
from miad_jax import CSPNet

NET = CSPNet(hidden_dim=32, num_layers=2, num_freqs=8, time_dim=16)


SHALLOW = NET.clone(num_layers=1)


@pytest.mark.parametrize(("net", "num_atoms", "batch_size"), [(SHALLOW, 1, 2), (NET, 7, 3)])
@pytest.mark.slow
def test_outputs_and_gradients_equal_the_plain_ones(net, num_atoms, batch_size):
    assert check_equal(Case(net, num_atoms, batch_size)) < 1e-5


@pytest.mark.slow
def test_a_changed_weight_would_be_noticed(monkeypatch):
    from experiments.speed import programs

    def wrong(params, num_layers):
        plain = plain_params(params, num_layers)
        kernel = plain["edge_in_0"]["kernel"]
        plain["edge_in_0"]["kernel"] = kernel.at[0, 0].add(0.1)
        return plain

    monkeypatch.setattr(programs, "plain_params", wrong)
    with pytest.raises(AssertionError):
        check_equal(Case(SHALLOW, 5, 2))


def test_both_have_the_same_parameters():
    params = jax.eval_shape(NET.init_params, jax.random.key(0))
    plain = jax.eval_shape(lambda params: plain_params(params, NET.num_layers), params)
    sizes = [sum(x.size for x in jax.tree.leaves(tree)) for tree in (params, plain)]
    assert sizes[0] == sizes[1]
    case = Case(NET, 5, 2)
    data, index = case.data()
    shapes = jax.eval_shape(
        lambda key: plain_network(NET).init(
            key, data[index], jnp.zeros(2, jnp.int32), all_edges(2, 5)
        ),
        jax.random.key(0),
    )["params"]
    assert jax.tree.map(jnp.shape, plain) == jax.tree.map(jnp.shape, shapes)


def test_the_least_work_is_that_of_the_matrix_products():
    """Counted by hand for one crystal of two atoms: one pair, two nodes, four edges."""
    net = CSPNet(hidden_dim=4, num_layers=1, num_freqs=1, time_dim=2)
    waves = 2 * 1 * 6 * 4
    messages = 2 * 4 * 4 * 4
    nodes = 2 * 2 * 4 * (5 * 4 + 4 + 100 + 3)
    cells = 2 * 4 * (9 + 2 + 9)
    assert forward_work(net, 2, 1) == waves + messages + nodes + cells
    assert training_work(net, 2, 3) == 3 * (2 * waves + 3 * (messages + nodes + cells))


def test_the_exponent_of_a_square_is_two():
    values = np.array([3, 5, 9])
    assert exponent(values, 7.0 * values**2) == pytest.approx(2)
