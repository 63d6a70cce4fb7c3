"""Sampling with masked types recovers a known distribution, and control acts on it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.condition import Condition
from miad_jax.crystal import MIRAGE, NUM_TYPES, UNDECIDED, Prediction, real_atom_mask
from miad_jax.diffusion import make_diffusion
from miad_jax.mirage import reduce
from miad_jax.sampling import Control, make_solver, reverse_step
from miad_jax.sampling.sample import sample
from tests.sampling.known import PAIR_PROBS, PAIRS, exact_denoise, exact_types_masked

NUM_SAMPLES = 1000
MASKED = make_diffusion(types="masked")


def exact_masked(full, crystal, time):
    """The best possible prediction with masked types."""
    return replace(
        exact_denoise(MASKED_AS_UNIFORM, crystal, time), types=exact_types_masked(crystal)
    )


MASKED_AS_UNIFORM = make_diffusion()
"""Of the same lattice and coordinates."""

EXACT = jax.tree_util.Partial(exact_masked, MASKED)


def share_decided_at_once(solver):
    """How often both atoms are decided in the same step, of which neither then knows the other."""
    times = solver.times(MASKED)
    masked = np.append(times + 1, 0) / 1000
    return np.square(np.diff(masked) / masked[0]).sum()


@pytest.mark.parametrize(
    ("name", "settings", "steps"),
    [
        pytest.param("ancestral", {}, 20, marks=pytest.mark.slow),
        ("ancestral", {}, 50),
        pytest.param("ancestral", {}, 100, marks=pytest.mark.slow),
        ("predictor_corrector", {}, 50),
    ],
)
def test_a_known_distribution_is_recovered(name, settings, steps):
    solver = make_solver(name, steps=steps, **settings)
    crystals = sample(
        MASKED, EXACT, jax.random.key(0), NUM_SAMPLES, 2, solver=solver, chunk_size=NUM_SAMPLES // 2
    )
    types = np.asarray(crystals.atom_types)
    assert set(np.unique(types)) <= {0, 6, 8, 13}, "nothing is undecided at the end"
    probs, at_once = np.array(PAIR_PROBS), share_decided_at_once(solver)
    assert at_once < 1.1 / steps
    expected = probs * (1 - at_once) + probs**2 * at_once
    drawn = np.array([(types == pair).all(1).mean() for pair in PAIRS])
    error = 4 * np.sqrt(np.prod(probs) / NUM_SAMPLES)
    np.testing.assert_allclose(drawn, expected, atol=error)
    assert 1 - drawn.sum() < 2 * probs.prod() * at_once + 4 * np.sqrt(at_once / NUM_SAMPLES)
    # Mirage atoms vanish: their share is that of the distribution, whatever belongs together.
    np.testing.assert_allclose((types[:, 1] == MIRAGE).mean(), probs[0], atol=error)
    sizes = np.array([len(crystal.atom_types) for crystal in reduce(crystals)])
    np.testing.assert_array_equal(sizes, (types != MIRAGE).sum(1))


def test_churn_takes_decisions_back():
    """Each atom is decided more than once, and the distribution stays what it is."""
    solver = make_solver("ancestral", steps=50, churn=1.0)
    crystals, trajectory = sample(
        MASKED, EXACT, jax.random.key(0), NUM_SAMPLES, 2,
        solver=solver, chunk_size=NUM_SAMPLES // 2, trajectory_every=1,
    )  # fmt: skip
    types = np.asarray(trajectory.crystals.atom_types)
    assert (types[:, 0] == UNDECIDED).all()
    assert (types[:, -1] != UNDECIDED).all()
    before, after = types[:, :-1], types[:, 1:]
    back = ((before != UNDECIDED) & (after == UNDECIDED)).any(1)
    assert 0.2 < back.mean() < 0.9
    error = 4 * np.sqrt(np.prod(PAIR_PROBS) / NUM_SAMPLES)
    drawn = [(types[:, -1] == pair).all(1).mean() for pair in PAIRS]
    np.testing.assert_allclose(drawn, PAIR_PROBS, atol=error + 1 / 50)
    np.testing.assert_array_equal(types[:, -1], crystals.atom_types)
    num_real = np.asarray(real_atom_mask(trajectory.crystals)).sum(-1)
    assert (num_real[:, 0] == 0).all(), "what is undecided is not counted as an atom"


def test_without_churn_what_is_decided_stays():
    solver = make_solver("ancestral", steps=25)
    _, trajectory = sample(
        MASKED, EXACT, jax.random.key(0), 64, 2,
        solver=solver, chunk_size=32, trajectory_every=1,
    )  # fmt: skip
    types = np.asarray(trajectory.crystals.atom_types)
    before, after = types[:, :-1], types[:, 1:]
    np.testing.assert_array_equal(before[before != UNDECIDED], after[before != UNDECIDED])


@pytest.mark.parametrize("name", ["ancestral", "predictor_corrector"])
def test_elements_that_are_allowed(plain_denoise, name):
    asked = [3, 8, 26]
    crystals = sample(
        MASKED, plain_denoise, jax.random.key(2), 16, 4,
        solver=make_solver(name, steps=10), condition=Condition.of_elements(asked, 16),
        control=Control(type_temperature=3.0), chunk_size=8,
    )  # fmt: skip
    types = np.asarray(crystals.atom_types)
    assert set(np.unique(types)) <= {MIRAGE, *asked}
    assert (types != MIRAGE).any()


def test_a_temperature_below_one_trusts_the_likeliest_types():
    num = 20_000
    logits = jnp.asarray(np.random.default_rng(3).normal(size=NUM_TYPES), jnp.float32)
    uniform = jnp.asarray((np.arange(num) + 0.5) / num, jnp.float32)
    t = jnp.array([999])
    for temperature in (0.5, 1.0):
        drawn = MASKED.types.step(
            jnp.tile(logits / temperature, (num, 1)), jnp.full(num, UNDECIDED), t, t // 2, uniform
        )
        decided = np.asarray(drawn)[np.asarray(drawn) != UNDECIDED]
        assert len(decided) == num // 2
        found = np.bincount(decided, minlength=NUM_TYPES) / len(decided)
        expected = jax.nn.softmax(logits / temperature)
        np.testing.assert_allclose(found, expected, atol=3e-4)


def test_the_score_of_atoms_that_may_be_mirage(crystals):
    """It is whole for atoms that are decided to be real, 0 for mirage, between for undecided."""
    types = crystals.atom_types.at[:, 2].set(UNDECIDED)
    crystals = replace(crystals, atom_types=types)

    def denoise(crystal, time):
        zero = jnp.zeros((*crystal.atom_types.shape, NUM_TYPES))
        return Prediction(crystal.lattice, jnp.ones_like(crystal.frac_coords), zero)

    control = Control(coords_score="marginal", cell_bounds_angstrom=None)
    said = control.applied(MASKED, denoise, None)(crystals, jnp.full(4, 400))
    expected = np.where(types == UNDECIDED, 0.99, types != MIRAGE)
    np.testing.assert_allclose(said.coords, np.tile(expected[..., None], 3), rtol=1e-5)


def test_heun_is_refused(plain_denoise, crystals):
    heun = make_solver("heun", steps=5)
    message = "heun cannot sample masked types.* choose the solver ancestral or predictor_corrector"
    with pytest.raises(ValueError, match=message):
        sample(MASKED, plain_denoise, jax.random.key(0), 1, 2, solver=heun)
    with pytest.raises(ValueError, match=message):
        reverse_step(MASKED, plain_denoise, jax.random.key(0), crystals, 5, solver=heun)
