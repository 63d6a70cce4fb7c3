"""What the network is told of each crystal, through the step, chunks, devices and validation."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from miad_jax.condition import Condition
from miad_jax.config import default_config
from miad_jax.crystal import Prediction
from miad_jax.diffusion import make_diffusion
from miad_jax.network import Transformer
from miad_jax.parallel.progress import Bar
from miad_jax.training import Objective, load_training_data, train_step, validation_loss
from miad_jax.training.sharding import ShardedTraining
from miad_jax.training.state import create

DESCENT = optax.with_extra_args_support(optax.sgd(1e-3))


class Watched:
    """A network that keeps, of every crystal, where its first atom is, and what it is told."""

    def __init__(self):
        self.seen = []
        self.traces = 0

    def denoise(self, params, crystal, time, *condition):
        self.traces += 1
        told = condition[0].properties if condition else {}
        jax.debug.callback(
            lambda x, told: self.seen.append((np.asarray(x), jax.tree.map(np.asarray, told))),
            crystal.frac_coords[:, 0, 0],
            told,
        )
        bias = sum(map(jnp.sum, told.values()), jnp.float32(0))
        return Prediction(
            params * crystal.lattice + 0 * bias,
            params * crystal.frac_coords,
            jnp.zeros((*crystal.atom_types.shape, 100)),
        )

    def take(self):
        """What was seen since the last time, by crystal: place of the first atom, and told."""
        jax.effects_barrier()
        seen, self.seen = self.seen, []
        places = np.concatenate([x for x, _ in seen])
        names = seen[0][1].keys()
        return places, {n: np.concatenate([told[n] for _, told in seen]) for n in names}


@pytest.fixture
def watched():
    return Watched()


def objective_of(watched, chunk_size=2):
    # σ = 0.005 at the only level there is: the first atom stays where it is.
    return Objective(watched, make_diffusion(1), 5, chunk_size=chunk_size)


def place_of_first(crystals):
    """The column of the data set: it tells crystals apart, as the network can see."""
    return Condition(properties={"place": np.asarray(crystals.frac_coords[:, 0, 0])})


@pytest.fixture(scope="module")
def conditioned(data):
    return replace(data, train_condition=place_of_first(data.train))


def assert_its_own(places, told, crystals, num):
    """Every crystal was told its own place, whatever the order they came in."""
    assert len(places) == len(told["place"]) == num
    apart = places - told["place"]
    assert np.abs(apart - np.round(apart)).max() < 0.03
    assert np.ptp(told["place"]) > 0.3
    assert np.isin(told["place"], np.asarray(crystals.frac_coords[:, 0, 0])).all()


@pytest.mark.parametrize("chunk_size", [2, 8])
def test_each_crystal_of_a_step_is_told_its_own(data, watched, chunk_size):
    objective, batch = objective_of(watched, chunk_size), data.train[:8]
    run = jax.jit(partial(train_step, objective, DESCENT))
    state = create(jnp.float32(1), DESCENT, jax.random.key(1))
    told_state, told_terms = run(state, batch, jnp.arange(8), place_of_first(batch))
    assert_its_own(*watched.take(), batch, 8)
    # Without a condition the network is not given one, and the numbers are the same.
    plain_state, terms = run(state, batch, jnp.arange(8))
    assert watched.take()[1] == {}
    np.testing.assert_array_equal(told_state.params, plain_state.params)
    for one, two in zip(jax.tree.leaves(told_terms), jax.tree.leaves(terms), strict=True):
        np.testing.assert_array_equal(one, two)


def test_two_devices_tell_each_crystal_its_own_and_compile_once(conditioned, watched):
    run = ShardedTraining(
        objective_of(watched),
        DESCENT,
        create(jnp.float32(1), DESCENT, jax.random.key(1)),
        conditioned,
        jax.random.key(2),
        batch_size=8,
        seed=0,
        validated_at_once=5,
    )
    assert run.num_devices == 2
    run.advance(0, 3)
    assert_its_own(*watched.take(), conditioned.train, 24)
    traces = watched.traces
    assert traces > 0
    run.advance(3, 3)
    assert watched.traces == traces, "the state that comes out is laid out as that which goes in"
    assert_its_own(*watched.take(), conditioned.train, 24)
    run.validate(Bar())
    assert watched.take()[1] == {}, "losses without properties can be compared"


def test_validation_counts_every_crystal_once_also_in_the_last_chunk(data, watched):
    objective = objective_of(watched, chunk_size=4)  # two of the eight places are padding
    run = jax.jit(partial(validation_loss, objective))
    terms = run(jnp.float32(1), data.validation, jax.random.key(2))
    assert len(watched.take()[0]) == 8
    assert terms.counts["lattice"] == 6


@pytest.mark.slow
def test_a_transformer_learns_of_what_it_is_told(data):
    net = Transformer(16, 1, 2, 8, 2, 8, 1, properties=("place",))
    shapes = jax.eval_shape(net.init_params, jax.random.key(0))
    params = jax.tree.map(lambda x: jnp.full(x.shape, 0.1).at[::2].set(-0.1), shapes)
    state, batch = create(params, DESCENT, jax.random.key(1)), data.train[:8]
    run = jax.jit(partial(train_step, objective_of(net, 8), DESCENT))
    half = jnp.where(jnp.arange(8) % 2, jnp.nan, jnp.linspace(-1, 1, 8))
    told, terms = run(state, batch, jnp.arange(8), Condition(properties={"place": half}))
    assert all(np.isfinite(x) for x in terms.means().values())
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), told.params, params)
    assert moved["properties"].keys() == {"place_in", "place_out"}
    assert all(x > 0 for x in jax.tree.leaves(moved["properties"]))


# The columns of a data set.


def configured(*names):
    config = default_config()
    config.data.max_num_atoms = 4
    config.infusion.num_atoms = 5
    config.data.properties = names
    return config


@pytest.fixture(scope="module")
def columns():
    """The data set that comes with the package, with two columns that its crystals can tell."""
    from miad_jax.training import data as module

    def with_columns(path, split, **options):
        crystals, records = load_dataset(path, split, **options)
        num_atoms = np.asarray(crystals.mask).sum(-1)
        gap = np.where(num_atoms == 3, np.nan, num_atoms / 7)
        added = {"gap": gap, "count": num_atoms, "formula": np.full(len(gap), "X")}
        return crystals, replace(records, columns={**records.columns, **added})

    load_dataset = module.load_dataset
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_dataset", with_columns)
        yield


@pytest.mark.usefixtures("columns")
def test_properties_of_the_config_are_of_the_crystals_kept():
    loaded = load_training_data(configured("gap", "count", "num_elements"))
    condition = loaded.train_condition
    assert condition.allowed_types is None
    assert set(condition.properties) == {"gap", "count", "num_elements"}
    num_atoms = np.asarray(loaded.train.mask).sum(-1)
    assert num_atoms.max() == 4
    assert {x.dtype for x in condition.properties.values()} == {np.dtype("float32")}
    np.testing.assert_array_equal(condition.properties["count"], num_atoms)
    expected = np.where(num_atoms == 3, np.nan, num_atoms / 7)
    np.testing.assert_allclose(condition.properties["gap"], expected, rtol=1e-6)
    assert np.isnan(expected).any()
    kinds = [len(set(z[z > 0].tolist())) for z in np.asarray(loaded.train.atom_types)]
    assert condition.properties["num_elements"].tolist() == kinds


@pytest.mark.usefixtures("columns")
@pytest.mark.parametrize("name", ["gaps", "formula"])
def test_a_property_that_is_no_numeric_column_is_refused_by_name(name):
    said = rf"config.data.properties names '{name}'; numeric columns of the train split of "
    said += r"prototypes: .*gap, count; computed of the structure: num_elements, density, .*number$"
    with pytest.raises(ValueError, match=said):
        load_training_data(configured("gap", name))


def test_without_properties_nothing_is_told():
    assert load_training_data(configured()).train_condition is None
