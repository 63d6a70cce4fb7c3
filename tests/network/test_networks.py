"""The contract of a network, whichever it is: symmetries, padding, shapes, size, refusals.

The symmetries are those of Appendix A of arXiv:2511.14426.
"""

from dataclasses import dataclass, replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miad_jax.condition import Condition, Times
from miad_jax.crystal import MIRAGE, NUM_TYPES, UNDECIDED, Prediction
from miad_jax.network import NETWORKS, chunk_size_of, network_class
from miad_jax.network.base import UNKNOWN_CHUNK
from miad_jax.padding import resize
from tests.symmetries import each_symmetry

SMALL = {"hidden_dim": 16, "num_layers": 2, "num_freqs": 4, "time_dim": 8}
TINY = {"cspnet": SMALL, "transformer": {**SMALL, "num_heads": 2, "pair_dim": 8}}
"""Settings of every network with which it compiles in a second."""

ONE_TIME = {"cspnet": "CSPNet"}
"""Networks that take one time for all parts, and how they call themselves."""

WITHOUT_PROPERTIES = {"cspnet"}
"""Networks that cannot be told properties."""

SLOTS = 5
TIME = jnp.array([3, 400, 999])


@dataclass(frozen=True)
class Known:
    """A network with parameters drawn by NumPy: compiling the real initialisation takes seconds."""

    net: object
    params: dict
    denoise: object

    def __call__(self, crystals, time=TIME):
        return self.denoise(self.params, crystals, time)


@pytest.fixture(scope="module", params=NETWORKS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def network(name):
    return known(name)


@cache
def known(name, **fields):
    """A tiny network, compiled once for the whole suite."""
    rng = np.random.default_rng(7)
    net = NETWORKS[name](**TINY[name], **fields)
    shapes = jax.eval_shape(net.init_params, jax.random.key(0))
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) / np.sqrt(x.shape[0]), x.dtype), shapes
    )
    return Known(net, params, jax.jit(net.denoise))


@pytest.fixture(scope="module")
def crystals(random_crystals):
    return random_crystals([5, 1, 3], SLOTS, num_mirage=1)


def assert_close(actual, expected, message):
    expected = np.asarray(expected)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * scale, err_msg=message)


@each_symmetry
@given(seed=st.integers(0, 2**32 - 1))
def test_symmetries(network, crystals, symmetry, seed):
    move = symmetry(np.random.default_rng(seed))
    before, after = network(crystals), network(move.crystal(crystals))
    expected = Prediction(
        move.vectors(before.lattice), move.slots(before.coords), move.slots(before.types)
    )
    for field in ("lattice", "coords", "types"):
        assert_close(getattr(after, field), getattr(expected, field), field)


def test_the_outputs_are_not_trivial(network, crystals):
    """Symmetries would hold for zeros as well."""
    prediction = network(crystals)
    assert prediction.lattice.shape == (3, 3, 3)
    assert prediction.coords.shape == (3, SLOTS, 3)
    assert prediction.types.shape == (3, SLOTS, NUM_TYPES)
    assert {x.dtype for x in jax.tree.leaves(prediction)} == {jnp.dtype("float32")}
    real = np.asarray(crystals.mask)
    assert np.asarray(prediction.coords)[real].std() > 0.1
    assert np.asarray(prediction.types)[real].std() > 0.1
    assert (np.abs(prediction.lattice).max((1, 2)) > 1e-2).all()
    # The shape of the cell, the places and the types of the atoms matter.
    stretched = replace(crystals, lattice=crystals.lattice * 1.2)
    moved = replace(crystals, frac_coords=crystals.frac_coords.at[:, 0].add(0.2))
    changed = replace(crystals, atom_types=crystals.atom_types.at[:, 0].set(50))
    for other in (stretched, moved, changed):
        assert np.abs(network(other).coords - prediction.coords)[0].max() > 1e-2


def test_an_undecided_atom_is_of_no_type(network, crystals):
    def seen(kind):
        types = crystals.atom_types.at[0, 2].set(kind)
        return network(replace(crystals, atom_types=types))

    said = seen(UNDECIDED)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(said))
    for kind in (MIRAGE, NUM_TYPES - 1):
        other = seen(kind)
        assert np.abs(said.types - other.types)[0].max() > 1e-3
        np.testing.assert_allclose(said.types[1:], other.types[1:], atol=1e-5)


def test_the_time_matters_to_its_crystal_alone(network, crystals):
    now, later = network(crystals), network(crystals, TIME.at[0].set(4))
    assert np.abs(now.types[0] - later.types[0]).max() > 1e-5
    np.testing.assert_allclose(now.types[1:], later.types[1:], atol=1e-6)


# Padding, and odd crystals.


def test_one_atom_one_slot_and_nothing_but_padding(network, random_crystals):
    crystals = random_crystals([5, 1, 0], SLOTS, seed=3)
    out = network(crystals)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(out))
    pad = ~np.asarray(crystals.mask)
    assert (out.coords[pad] == 0).all()
    assert (out.types[pad] == 0).all()
    np.testing.assert_array_equal(out.lattice[2], np.zeros((3, 3)))

    # Fewer slots, and one crystal without a batch.
    alone = network(resize(crystals[1], 1), TIME[1])
    assert alone.lattice.shape == (3, 3)
    np.testing.assert_allclose(alone.lattice, out.lattice[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(alone.coords, out.coords[1, :1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(alone.types, out.types[1, :1], rtol=1e-4, atol=1e-5)


def test_one_crystal_is_a_batch_of_one(network, crystals):
    whole, one, batch = (
        network(crystals), network(crystals[0], TIME[0]), network(crystals[:1], TIME[:1])
    )  # fmt: skip
    for a, b, c in zip(*map(jax.tree.leaves, (whole, one, batch)), strict=True):
        np.testing.assert_array_equal(b, c[0])
        np.testing.assert_allclose(a[0], b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("garbage", [np.nan, 1e3])
def test_what_stands_in_padding_reaches_neither_outputs_nor_gradients(
    network, random_crystals, garbage
):
    crystals = random_crystals([5, 1, 0], SLOTS, seed=3)
    hidden = crystals.mask[..., None]
    poisoned = replace(
        crystals,
        frac_coords=jnp.where(hidden, crystals.frac_coords, garbage),
        atom_types=jnp.where(crystals.mask, crystals.atom_types, 99),
    )

    @jax.jit
    @jax.value_and_grad
    def total(params, crystals):
        prediction = network.net.denoise(params, crystals, TIME)
        return sum(jnp.square(x).sum() for x in jax.tree.leaves(prediction))

    expected = total(network.params, crystals)
    jax.tree.map(np.testing.assert_array_equal, total(network.params, poisoned), expected)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(expected))


# Programs, parameters, size.


def test_the_second_call_does_not_compile(network, crystals):
    traces = []

    @jax.jit
    def run(denoise, crystals, time):
        traces.append(None)
        return denoise(crystals, time)

    run(jax.tree_util.Partial(network.net.denoise, network.params), crystals, TIME)
    doubled = jax.tree.map(lambda x: 2 * x, network.params)
    run(jax.tree_util.Partial(network.net.denoise, doubled), crystals[::-1], TIME + 1)
    assert len(traces) == 1


def test_the_parameters_are_float32_and_those_of_their_key(network):
    init = jax.jit(network.net.init_params)
    one, two, other = (init(jax.random.key(i)) for i in (0, 0, 1))
    assert jax.tree.map(jnp.shape, one) == jax.tree.map(jnp.shape, network.params)
    assert {x.dtype for x in jax.tree.leaves(one)} == {jnp.dtype("float32")}
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert any(
        (a != b).any() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def test_the_work_grows_with_the_atoms(network):
    work = [network.net.flops(n) for n in (1, 2, 5, 12, 25, 100)]
    assert work[0] > 0
    assert (np.diff(work) > 0).all()


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_chunks_are_powers_of_two_and_hold_a_crystal_at_least(network, backend):
    sizes = [network.net.chunk_size(n, backend) for n in (1, 2, 5, 12, 25, 200, 5000)]
    assert all(isinstance(size, int) and size >= 1 and size & (size - 1) == 0 for size in sizes)
    assert sizes == sorted(sizes, reverse=True)
    denoise = jax.tree_util.Partial(network.net.denoise, network.params)
    assert chunk_size_of(denoise, 12, backend) == network.net.chunk_size(12, backend)


# What it is told.


def test_times_of_their_own_are_refused_by_name(name, network, crystals):
    if name not in ONE_TIME:
        pytest.skip("it takes them")
    with pytest.raises(ValueError, match=f"{ONE_TIME[name]} takes one time for all parts"):
        network.net.denoise(network.params, crystals, Times.same(TIME, SLOTS))


def test_one_time_is_that_of_every_part(name, network, crystals):
    if name in ONE_TIME:
        pytest.skip("it takes one time")
    jax.tree.map(
        np.testing.assert_array_equal,
        network(crystals, TIME),
        network(crystals, Times.same(TIME, SLOTS)),
    )
    one = Times.same(TIME[0], SLOTS)
    for a, b in zip(
        jax.tree.leaves(network(crystals[0], one)),
        jax.tree.leaves(network(crystals, Times.same(TIME, SLOTS))),
        strict=True,
    ):
        np.testing.assert_allclose(a, b[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", ["lattice", "coords", "types"])
def test_the_time_of_each_part_matters_to_its_crystal_alone(name, network, crystals, part):
    if name in ONE_TIME:
        pytest.skip("it takes one time")
    same = Times.same(TIME, SLOTS)
    time = getattr(same, part)
    known = network(crystals, replace(same, **{part: time.at[0].set(-1)}))
    for now, then in zip(*map(jax.tree.leaves, (network(crystals, same), known)), strict=True):
        assert np.abs(now[0] - then[0]).max() > 1e-4
        np.testing.assert_allclose(now[1:], then[1:], atol=1e-5)
        assert np.isfinite(then).all()


@pytest.mark.parametrize("part", ["coords", "types"])
def test_the_time_of_an_atom_goes_with_it_and_that_of_padding_nowhere(
    name, network, random_crystals, part
):
    if name in ONE_TIME:
        pytest.skip("it takes one time")
    crystals = random_crystals([5, 1, 3], SLOTS)
    times = Times.same(TIME, SLOTS)
    one = replace(times, **{part: getattr(times, part).at[:, 0].set(-1)})
    other = replace(times, **{part: getattr(times, part).at[:, 1].set(-1)})
    swap = np.array([1, 0, 2, 3, 4])
    swapped = jax.tree.map(lambda x: x[:, swap], replace(crystals, lattice=crystals.frac_coords))
    swapped = network(replace(swapped, lattice=crystals.lattice), other)
    said = network(crystals, one)
    assert_close(swapped.types[:, swap], said.types, "types")
    assert_close(swapped.coords[:, swap], said.coords, "coords")
    assert_close(swapped.lattice, said.lattice, "lattice")
    assert np.abs(network(crystals, other).types - said.types)[0].max() > 1e-4
    # Slots 1 … 4 of the second crystal are padding.
    padded = replace(times, **{part: getattr(times, part).at[1, 1:].set(-1)})
    jax.tree.map(np.testing.assert_array_equal, network(crystals, padded), network(crystals, times))


def told(name):
    """A network that is told two properties, with parameters; skips one that is told none."""
    if name in WITHOUT_PROPERTIES:
        pytest.skip("it is told none")
    return known(name, properties=("gap", "energy"))


def test_a_property_matters_to_its_crystal_alone_and_nan_is_not_given(name, crystals):
    network = told(name)
    run = partial(network.denoise, network.params, crystals, TIME)
    gap = jnp.array([1.0, jnp.nan, -300.0])
    free = run(Condition(properties={"gap": jnp.full(3, jnp.nan)}))
    given = run(Condition(properties={"gap": gap}))
    both = run(Condition(properties={"gap": gap, "energy": gap}))
    for a, b, c in zip(*map(jax.tree.leaves, (free, given, both)), strict=True):
        np.testing.assert_allclose(a[1], b[1], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(b[1], c[1], rtol=1e-4, atol=1e-5)
        for i in (0, 2):
            assert np.abs(a[i] - b[i]).max() > 1e-4
            assert np.abs(b[i] - c[i]).max() > 1e-4
    for condition in (None, Condition(), Condition.of_elements([8], 3)):
        jax.tree.map(np.testing.assert_array_equal, run(condition), free)


def test_an_unknown_property_leaves_no_nan_in_the_gradient(name, crystals):
    network = told(name)
    asked = Condition(properties={"gap": jnp.array([1.0, jnp.nan, 2.0])})

    @jax.jit
    @jax.grad
    def gradient(params):
        prediction = network.net.denoise(params, crystals, TIME, asked)
        return sum(jnp.square(x).sum() for x in jax.tree.leaves(prediction))

    gradients = gradient(network.params)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))


def test_one_crystal_is_told_its_property(name, crystals):
    network = told(name)
    asked = Condition(properties={"energy": jnp.array([-1.5, 0.2, jnp.nan])})
    every = network.denoise(network.params, crystals, TIME, asked)
    for i in (0, 2):
        one = jax.tree.map(lambda x, i=i: x[i], (crystals, TIME, asked))
        one = network.denoise(network.params, *one)
        for a, b in zip(*map(jax.tree.leaves, (one, every)), strict=True):
            np.testing.assert_allclose(a, b[i], rtol=1e-4, atol=1e-5)


def test_a_property_that_the_network_is_not_told_is_refused(name, crystals):
    network = told(name)
    asked = Condition(properties={"gap": jnp.ones(3), "hardness": jnp.ones(3)})
    with pytest.raises(ValueError, match="is told gap, energy, and was asked for hardness: "):
        network.net.denoise(network.params, crystals, TIME, asked)


def test_no_property_changes_no_parameters(name, network):
    if name in WITHOUT_PROPERTIES:
        pytest.skip("it is told none")
    more, plain = (
        jax.tree_util.tree_flatten_with_path(x)[0] for x in (told(name).params, network.params)
    )
    shapes = {jax.tree_util.keystr(path): x.shape for path, x in more}
    for path, x in plain:
        assert shapes.pop(jax.tree_util.keystr(path)) == x.shape
    assert all("['properties']" in path for path in shapes)
    assert not any("properties" in jax.tree_util.keystr(path) for path, _ in plain)


def test_properties_are_refused_by_name(name, network, crystals):
    asked = Condition(properties={"band_gap": jnp.ones(3), "hardness": jnp.ones(3)})
    said = f"{type(network.net).__name__} is not told properties.* for band_gap, hardness"
    with pytest.raises(ValueError, match=said):
        network.net.denoise(network.params, crystals, TIME, asked)


def test_a_condition_without_properties_changes_nothing(network, crystals):
    elements = Condition.of_elements([8], 3)
    run = jax.jit(partial(network.net.denoise, network.params))
    for condition in (Condition(), elements):
        jax.tree.map(
            np.testing.assert_array_equal, run(crystals, TIME, condition), run(crystals, TIME)
        )


# By name.


def test_every_network_is_here():
    assert set(TINY) == set(NETWORKS)


def test_an_unknown_network_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"no network is called 'cspnt' \(did you mean 'cspnet'"):
        network_class("cspnt")
    with pytest.raises(ValueError, match="called 'xyz'; allowed: cspnet"):
        network_class("xyz")


def test_a_denoiser_that_is_no_network_has_a_chunk_too():
    assert chunk_size_of(lambda crystal, time: None, 12, "cpu") == UNKNOWN_CHUNK
    assert chunk_size_of(jax.tree_util.Partial(lambda crystal: crystal), 1, "cpu") == UNKNOWN_CHUNK
