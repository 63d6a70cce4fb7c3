"""What crystals are used for: how often, which parts are known, and what the step makes of it."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from miad_jax.condition import Condition, Times
from miad_jax.crystal import Prediction, real_atom_mask
from miad_jax.diffusion import make_diffusion
from miad_jax.diffusion.joint import draw_times
from miad_jax.diffusion.losses import example_at, loss_counts
from miad_jax.mirage import infuse
from miad_jax.training import Objective, train_step, validation_loss
from miad_jax.training.loop import make_objective
from miad_jax.training.state import create
from miad_jax.training.tasks import Tasks, check_network, drop_properties, some_of

NUM, SIZE = 4000, 7
COUNTS = [1, 2, 5, 5]
MIXTURE = Tasks(generate=4.0, structure=3.0, complete=2.0, cell=1.0)
DESCENT = optax.with_extra_args_support(optax.sgd(1e-3))


@pytest.fixture(scope="module")
def crystals(random_crystals):
    """Infused crystals of 1, 2 and 5 real atoms, which have 7 slots."""
    return infuse(jax.random.key(9), random_crystals(COUNTS * (NUM // 4), 5), SIZE)


@pytest.fixture(scope="module")
def t():
    return jnp.arange(NUM) % 50


@pytest.fixture(scope="module")
def drawn(crystals, t):
    """The mixture's crystals and times, as NumPy arrays."""
    draw = jax.jit(MIXTURE.draw)
    return jax.tree.map(np.asarray, draw(jax.random.key(0), crystals, t))


def share(of, expected):
    """Whether a share of independent draws is the expected one, within four standard errors."""
    error = np.sqrt(expected * (1 - expected) / len(of))
    np.testing.assert_allclose(np.mean(of), expected, atol=4 * error)


def test_alone_generation_leaves_crystals_and_one_time_as_they_are(crystals, t):
    for tasks in (Tasks(), Tasks(generate=0.3)):
        same, time = tasks.draw(jax.random.key(0), crystals, t)
        assert same is crystals
        assert time is t


def test_tasks_come_as_often_as_their_weights_say(crystals, drawn):
    _, times = drawn
    types, coords = times.types < 0, times.coords < 0
    structure = types.all(1) & ~coords.any(1)
    share(structure, 0.3)
    share(times.lattice < 0, 0.1 + 0.2 / 2)
    # Whether a crystal is completed shows where it has two atoms or more.
    large = np.arange(NUM) % 4 > 0
    complete = coords.any(1)
    share(complete[large], 0.2)
    share((times.lattice < 0)[complete], 0.5)
    assert not complete[~large].any(), "of one atom, none can be known"
    nothing = ~types.any(1) & ~coords.any(1) & (times.lattice >= 0)
    share(nothing[large], 0.4)


def test_what_is_not_known_is_at_the_time_that_was_drawn(crystals, t, drawn):
    _, times = drawn
    expected = Times.same(np.asarray(t), SIZE)
    for found, time in zip(jax.tree.leaves(times), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(found, np.where(found < 0, -1, time))
        assert found.dtype == np.int32


def test_a_known_formula_leaves_no_mirage_atom(crystals, drawn):
    after, times = drawn
    structure = (times.types < 0).all(1)
    real = np.asarray(real_atom_mask(crystals))
    np.testing.assert_array_equal(after.mask[structure], real[structure])
    np.testing.assert_array_equal(after.mask[~structure], np.asarray(crystals.mask)[~structure])
    assert (times.lattice[structure] >= 0).all()
    for before, now in zip(
        jax.tree.leaves(replace(crystals, mask=after.mask)), jax.tree.leaves(after), strict=True
    ):
        np.testing.assert_array_equal(before, now)


def test_known_atoms_are_real_and_any_number_but_none_and_all(crystals, drawn):
    _, times = drawn
    coords = times.coords < 0
    complete = coords.any(1)
    real = np.asarray(real_atom_mask(crystals))
    assert not (coords & ~real).any()
    types = (times.types < 0)[complete]
    np.testing.assert_array_equal(types, coords[complete], "both of an atom are known")
    five = complete & (real.sum(1) == 5)
    known = coords[five]
    counts = np.bincount(known.sum(1), minlength=6)
    assert counts[0] == counts[5] == 0
    for count in range(1, 5):
        share(known.sum(1) == count, 0.25)
    for slot in np.flatnonzero(real[five][0]):
        share(known[:, slot], 0.5)
    assert ((coords.sum(1) == 1) == (complete & (real.sum(1) == 2)))[real.sum(1) == 2].all()


@pytest.mark.parametrize("number", [0.0, 0.999999940395])
def test_the_ends_of_the_number_of_known_atoms(number):
    real = jnp.arange(25) < jnp.array([0, 1, 2, 20, 25])[:, None]
    order = jnp.linspace(0, 1, 25, endpoint=False) * jnp.ones((5, 1))
    chosen = some_of(real, jnp.full(5, number), order)
    expected = [0, 0, 1, 1, 1] if number == 0 else [0, 0, 1, 19, 24]
    assert chosen.sum(1).tolist() == expected
    np.testing.assert_array_equal(chosen, jnp.arange(25) < jnp.array(expected)[:, None])


def test_a_task_without_weight_is_never_drawn(crystals, t):
    for tasks in (
        Tasks(generate=0.0, structure=1.0),
        Tasks(generate=0.0, complete=1.0),
        Tasks(generate=0.0, cell=1.0),
    ):
        _, times = jax.jit(tasks.draw)(jax.random.key(0), crystals, t)
        atoms = np.arange(NUM) % 4 > 0
        assert (times.types < 0).all() == bool(tasks.structure)
        assert (times.coords < 0).any(1)[atoms].all() == bool(tasks.complete)
        assert (times.lattice < 0).all() == bool(tasks.cell)


def test_each_crystal_follows_its_own_key(crystals, t, drawn):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.arange(NUM))
    some = np.array([7, 2, 1999])
    found = MIXTURE.draw(keys[some], crystals[some], t[some])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[some]), found, drawn)
    one = MIXTURE.draw(keys[7], crystals[7], t[7])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[7]), one, drawn)


def test_known_parts_stay_clean_and_do_not_count(crystals, drawn):
    after, times = jax.tree.map(lambda x: jnp.asarray(x)[:200], drawn)
    example = example_at(make_diffusion(50), jax.random.key(3), after, times)
    clean, noised = example.clean, example.noised
    for field, time in (
        ("lattice", times.lattice),
        ("frac_coords", times.coords),
        ("atom_types", times.types),
    ):
        one, two = np.asarray(getattr(clean, field)), np.asarray(getattr(noised, field))
        known = np.asarray(time) < 0
        assert known.any()
        np.testing.assert_array_equal(one[known], two[known], err_msg=field)
    counts = loss_counts(example)
    assert counts["lattice"] == (times.lattice >= 0).sum()
    assert counts["coords"] == ((times.coords >= 0) & real_atom_mask(clean)).sum()
    assert counts["types"] == ((times.types >= 0) & clean.mask).sum()


# The step.


class Watched:
    """A network of a closed form that keeps the times it is shown, and what it is told."""

    def __init__(self):
        self.times, self.told = [], []

    def init_params(self, key):
        return jnp.float32(1)

    def denoise(self, params, crystal, time, condition=None):
        properties = {} if condition is None else condition.properties
        jax.debug.callback(
            lambda time, told: (self.times.append(time), self.told.append(told)), time, properties
        )
        return Prediction(
            params * crystal.lattice,
            params * jnp.sin(2 * jnp.pi * crystal.frac_coords),
            params * jax.nn.one_hot(crystal.atom_types, 100),
        )

    def take(self, what):
        jax.effects_barrier()
        found = jax.tree.map(lambda *x: np.concatenate(x), *getattr(self, what))
        self.times, self.told = [], []
        return found


@pytest.fixture(scope="module")
def watched():
    return Watched()


@pytest.fixture(scope="module")
def mixed_step(watched, batch):
    """A step of the mixture from a state of the given step; compiled once."""
    run = jax.jit(partial(train_step, objective_of(watched, tasks=MIXTURE), DESCENT))
    return lambda step=0: run(
        replace(state_of(), step=jnp.int32(step)), batch, jnp.arange(len(batch))
    )


def objective_of(watched, **fields):
    return Objective(watched, make_diffusion(50), SIZE, chunk_size=2, **fields)


@pytest.fixture(scope="module")
def batch(random_crystals):
    return random_crystals(COUNTS * 4, 5)


def state_of(seed=1):
    return create(jnp.float32(1), DESCENT, jax.random.key(seed))


@pytest.mark.slow
def test_two_devices_draw_the_tasks_of_one(watched, batch, mixed_step):
    one_state, one = mixed_step()
    times = watched.take("times")
    assert isinstance(times, Times)
    assert (times.types < 0).any()
    assert (times.lattice < 0).any()
    sharded = jax.pmap(
        partial(train_step, objective_of(watched, tasks=MIXTURE), DESCENT, axis_name="batch"),
        axis_name="batch",
        in_axes=(None, 0, 0),
    )
    halves = jax.tree.map(lambda x: x.reshape(2, 8, *x.shape[1:]), batch)
    two_state, two = sharded(state_of(), halves, jnp.arange(16).reshape(2, 8))
    np.testing.assert_array_equal(sorted(watched.take("times").lattice), sorted(times.lattice))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[0]), one.counts, two.counts)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[0], rtol=1e-5), one.sums, two.sums)
    np.testing.assert_allclose(one_state.params, two_state.params[0], rtol=1e-5)


def test_every_step_draws_tasks_anew(watched, mixed_step):
    seen = []
    for step in (0, 1, 0):
        mixed_step(step)
        seen.append(watched.take("times").types < 0)
    assert (seen[0] != seen[1]).any()
    np.testing.assert_array_equal(seen[0], seen[2])


def test_times_are_those_of_generation_alone(watched, batch, mixed_step):
    """The task has a stream of keys of its own."""
    objective = objective_of(watched)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
        jax.random.fold_in(jax.random.key(1), 0), jnp.arange(16)
    )
    _, time_keys, _ = jax.vmap(partial(jax.random.split, num=3))(keys).T
    mixed_step()
    mixed = watched.take("times").coords.max(1)
    np.testing.assert_array_equal(mixed, draw_times(objective.diffusion, time_keys, (16,)))


def test_validation_generates_and_tells_nothing_whatever_training_does(watched, batch):
    mixed = objective_of(watched, tasks=MIXTURE, property_dropout=0.9)
    args = jnp.float32(1), batch, jax.random.key(4)
    found = jax.jit(partial(validation_loss, mixed))(*args)
    assert watched.take("told") == {}
    expected = jax.jit(partial(validation_loss, objective_of(watched)))(*args)
    assert watched.take("times").shape == (16,)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


# Networks.


def test_a_network_that_takes_one_time_is_refused_before_training(tiny_config):
    config = tiny_config(**{"tasks.structure": 0.5, "tasks.cell": 0.25})
    said = (
        r"^config.tasks \(generate 1, structure 0.5, cell 0.25\) has parts that are known, but "
        "CSPNet takes one time for all parts of a crystal"
    )
    with pytest.raises(ValueError, match=said):
        make_objective(config, 4)


def test_other_networks_are_not_refused(tiny_net, watched):
    check_network(Tasks(), tiny_net)
    check_network(MIXTURE, watched)


def test_a_config_makes_an_objective(tiny_config):
    objective = make_objective(tiny_config(), 4)
    assert objective.tasks == Tasks()
    assert objective.property_dropout == 0.2
    config = tiny_config(**{"data.property_dropout": 0.5, "tasks.generate": 2.0})
    assert make_objective(config, 4).property_dropout == 0.5
    assert make_objective(config, 4).tasks == Tasks(generate=2.0)


# Properties.


def test_properties_are_left_out_each_for_itself():
    keys = jax.random.split(jax.random.key(0), NUM)
    condition = Condition(
        allowed_types=jnp.ones((NUM, 100), bool),
        properties={"gap": jnp.arange(1.0 * NUM), "age": jnp.full(NUM, jnp.nan).at[0].set(1)},
    )
    condition.properties["density"] = condition.properties["gap"] + 1
    told = jax.jit(partial(drop_properties, probability=0.2))(keys, condition)
    assert told.properties.keys() == condition.properties.keys()
    np.testing.assert_array_equal(told.allowed_types, condition.allowed_types)
    gap, density = (np.isnan(told.properties[name]) for name in ("gap", "density"))
    share(gap, 0.2)
    share(density, 0.2)
    share(gap & density, 0.04)
    for name in condition.properties:
        value = told.properties[name]
        np.testing.assert_array_equal(
            value, np.where(np.isnan(value), np.nan, condition.properties[name])
        )
    part = drop_properties(keys[5:9], jax.tree.map(lambda x: x[5:9], condition), 0.2)
    np.testing.assert_array_equal(part.properties["gap"], told.properties["gap"][5:9])


def test_without_dropout_or_properties_nothing_is_drawn():
    condition = Condition(properties={"gap": jnp.arange(3.0)})
    keys = jax.random.split(jax.random.key(0), 3)
    assert drop_properties(keys, condition, 0.0) is condition
    assert drop_properties(keys, None, 0.5) is None
    plain = Condition()
    assert drop_properties(keys, plain, 0.5) is plain


def test_the_step_leaves_properties_out(watched, batch):
    condition = Condition(properties={"gap": jnp.arange(16.0)})
    run = jax.jit(partial(train_step, objective_of(watched, property_dropout=0.5), DESCENT))
    told = []
    for step in range(8):
        run(replace(state_of(), step=jnp.int32(step)), batch, jnp.arange(16), condition)
        told.append(watched.take("told")["gap"])
    dropped = np.isnan(told)
    share(dropped.ravel(), 0.5)
    assert (dropped.any(0) & ~dropped.all(0)).mean() > 0.8, "other crystals at every step"
    kept = np.broadcast_to(np.arange(16.0), dropped.shape)[~dropped]
    np.testing.assert_array_equal(np.array(told)[~dropped], kept)
