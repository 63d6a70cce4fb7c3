"""Parts that are given; and a number of atoms, and elements, that are asked."""

from dataclasses import replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.condition import Condition, Known, Times
from miad_jax.crystal import NUM_TYPES, Prediction, real_atom_mask
from miad_jax.diffusion import make_diffusion
from miad_jax.padding import resize
from miad_jax.sampling.sample import sample
from miad_jax.sampling.solvers import Ancestral, Heun, PredictorCorrector
from tests.sampling.known import CENTERS, COORDS_STD, exact_denoise

KEY = jax.random.key(7)
SOLVERS = (Ancestral(steps=20, churn=1.0), PredictorCorrector(steps=20), Heun(steps=20))


class Network:
    """Says nothing of what it sees, and keeps it."""

    takes_times: ClassVar[bool]

    def __init__(self, takes_times):
        self.takes_times, self.seen = takes_times, []

    def denoise(self, params, crystal, time):
        jax.debug.callback(lambda *x: self.seen.append(jax.tree.map(np.asarray, x)), crystal, time)
        shape = (*crystal.atom_types.shape, NUM_TYPES)
        return Prediction(crystal.lattice, 0 * crystal.frac_coords, params * jnp.ones(shape))

    def partial(self):
        return jax.tree_util.Partial(self.denoise, jnp.float32(0))


@pytest.fixture(scope="module")
def given(random_crystals):
    """Four crystals with two mirage atoms each, of which two slots and two cells are known."""
    crystals = resize(random_crystals([5, 3, 4, 4], 5, num_mirage=2), 7)
    crystals = replace(crystals, mask=jnp.ones_like(crystals.mask))
    atoms = jnp.broadcast_to(jnp.arange(7) < 2, (4, 7))
    cell = jnp.array([True, False, True, False])
    return Known(crystals, cell, coords=atoms, types=atoms.at[0].set(True))


def assert_there(crystals, known):
    jax.tree.map(
        np.testing.assert_array_equal, known.put_into(crystals), jax.tree.map(jnp.asarray, crystals)
    )


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("takes_times", [True, False])
def test_given_parts_are_in_every_sample_as_they_are(given, solver, takes_times):
    diffusion, net = make_diffusion(), Network(takes_times)
    found = sample(
        diffusion, net.partial(), KEY, 4, 7,
        solver=solver, condition=Condition(known=given), chunk_size=2,
    )  # fmt: skip
    assert_there(found, given)
    assert np.isfinite(found.frac_coords).all()
    free = ~np.asarray(given.coords)
    assert np.abs(found.frac_coords[free] - np.asarray(given.crystal.frac_coords)[free]).max() > 0.1


def test_a_network_that_takes_times_sees_them_clean_and_at_time_minus_one(given):
    net = Network(takes_times=True)
    condition = Condition(known=given)
    sample(make_diffusion(), net.partial(), KEY, 4, 7, solver=SOLVERS[0], condition=condition)
    jax.effects_barrier()
    cells = np.asarray(given.crystal.lattice)
    for crystals, times in net.seen:
        assert isinstance(times, Times)
        for cell, time in zip(crystals.lattice, times.lattice, strict=True):
            assert (time == -1) == (np.abs(cells - cell).max((1, 2)) == 0).any()
        assert (times.coords[:, :2] == -1).all()
        assert (times.coords[:, 2:] >= 0).all()
        assert np.isin(crystals.frac_coords[:, :2], given.crystal.frac_coords[:, :2]).all()


def test_another_network_sees_them_as_noisy_as_the_rest(given):
    net, diffusion = Network(takes_times=False), make_diffusion()
    condition = Condition(known=given)
    sample(diffusion, net.partial(), KEY, 4, 7, solver=Ancestral(steps=20), condition=condition)
    jax.effects_barrier()
    for crystals, time in net.seen:
        assert np.ndim(time) == 1
        cell = given.crystal.lattice
        apart = crystals.frac_coords[:, None, :2] - np.asarray(given.crystal.frac_coords[:, :2])
        apart = np.abs(apart - np.round(apart)).max((-2, -1)).min(-1)
        sigma = diffusion.coords.sigma[time]
        assert (apart > 0).all(), "noise is on them"
        assert (apart < 6 * sigma).all()
        assert np.isfinite(cell).all()


@pytest.mark.slow
def test_a_formula_is_met_by_every_network(random_crystals):
    types = jnp.array([[11, 17, 0], [22, 8, 8]])
    for takes_times in (True, False):
        found = sample(
            make_diffusion(), Network(takes_times).partial(), KEY, 2, 3,
            solver=SOLVERS[0], condition=Condition(known=Known.formula(types)),
        )  # fmt: skip
        np.testing.assert_array_equal(found.atom_types, types)


# Of two atoms: carbon and mirage, or oxygen and aluminium.


def drawn(condition, num, steps=100):
    full = make_diffusion()
    exact = jax.tree_util.Partial(exact_denoise, full)
    return sample(
        full, exact, KEY, num, 2,
        solver=Ancestral(steps=steps), condition=condition, chunk_size=num // 2,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("number", "pair"), [(1, (6, 0)), (2, (8, 13))])
def test_a_number_of_atoms_gives_the_crystals_that_have_it(number, pair):
    found = drawn(Condition(num_atoms=jnp.full((200, 2), number)), 200)
    assert (real_atom_mask(found).sum(-1) == number).all()
    right = (np.asarray(found.atom_types) == np.array(pair)).all(-1)
    assert right.mean() > 0.9  # the slots' types are conditioned one by one
    way = np.asarray(found.frac_coords)[right] - CENTERS
    way -= np.round(way)
    assert np.abs(way.std(0) / COORDS_STD - 1).max() < 0.25


@pytest.mark.slow
def test_a_required_element_gives_the_crystals_that_hold_it():
    required = jnp.zeros((200, NUM_TYPES), bool).at[:, 13].set(True)
    found = np.asarray(drawn(Condition(required_types=required), 200).atom_types)
    assert (found == 13).any(-1).mean() > 0.9
    assert (found == np.array([8, 13])).all(-1).mean() > 0.85
