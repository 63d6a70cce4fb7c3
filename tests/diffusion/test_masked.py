"""Masked types against matrices that are really multiplied, against counts, and as a bound."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.condition import Times
from miad_jax.crystal import MIRAGE, UNDECIDED, Prediction, real_atom_mask
from miad_jax.diffusion import Example, loss_terms, make_diffusion
from miad_jax.diffusion.joint import StepNoise, draw_noise, noised, step
from miad_jax.diffusion.masked import MaskedTypes
from miad_jax.diffusion.renoise import renoised
from miad_jax.diffusion.types import UniformD3PM
from miad_jax.mirage import reduce

NUM_TYPES = 100
PROCESS, FEW = MaskedTypes.make(1000), 60


def at(*times):
    """The same times for all atoms."""
    return jnp.array(times, jnp.int32)


def matrix(first, last):
    """The product of the steps' matrices from time `first` to `last`: the last state absorbs."""
    size = NUM_TYPES + 1
    product = np.eye(size)
    for u in range(first + 1, last + 1):
        beta = 1 - (1 - (u + 1) / FEW) / (1 - u / FEW)
        one = (1 - beta) * np.eye(size)
        one[:, UNDECIDED] += beta
        product = product @ one
    return product


def shares(drawn):
    return np.bincount(np.asarray(drawn), minlength=NUM_TYPES + 1) / len(drawn)


NUM = 20_000
EVEN = jnp.asarray((np.arange(NUM) + 0.5) / NUM, jnp.float32)
"""Uniform numbers without chance: shares are exact to 1/NUM."""


@pytest.mark.parametrize(
    ("t", "s"), [(0, -1), (1, 0), (30, 29), (40, 12), (59, 58), (59, 30), (59, -1)]
)
def test_steps_equal_matrix_powers(t, s):
    process, before, between = MaskedTypes.make(FEW), matrix(-1, s), matrix(s, t)
    probs_0 = np.zeros(NUM_TYPES + 1)
    probs_0[[0, 8, 99]] = 0.5, 0.3, 0.2
    forward = probs_0 @ before
    # q(x_t | x_0), and q(x_t | x_s) of an atom that is not yet hidden.
    found = shares(process.add_noise(jnp.full(NUM, 8), at(t), EVEN))
    np.testing.assert_allclose(found, (before @ between)[8], atol=2 / NUM)
    if s >= 0:
        found = shares(process.renoise(jnp.full(NUM, 8), at(s), at(t), EVEN))
        np.testing.assert_allclose(found, between[8], atol=2 / NUM)
    # q(x_s | x_t) of an undecided atom of which nothing but its prior is known.
    expected = between[:, UNDECIDED] * forward
    expected = expected / expected.sum()
    logits = jnp.log(jnp.asarray(probs_0[:NUM_TYPES], jnp.float32))
    found = shares(
        process.step(jnp.tile(logits, (NUM, 1)), jnp.full(NUM, UNDECIDED), at(t), at(s), EVEN)
    )
    if s == -1:
        expected = np.arange(NUM_TYPES + 1) == 0  # the mode
    np.testing.assert_allclose(found, expected, atol=3 / NUM)
    # What is decided stays, whatever the network says.
    kept = process.step(jnp.tile(logits, (NUM, 1)), jnp.full(NUM, 26), at(t), at(s), EVEN)
    assert (kept == 26).all()


def test_what_is_hidden_stays_hidden_and_nothing_is_hidden_for_good():
    hidden = jnp.full(3, UNDECIDED)
    np.testing.assert_array_equal(PROCESS.renoise(hidden, at(3), at(800), EVEN[:3]), hidden)
    for s in (-1, 0, 500, 999):  # no time to hide anything
        np.testing.assert_array_equal(
            PROCESS.renoise(at(8, 0, 26), at(s), at(s), 0 * EVEN[:3]), [8, 0, 26]
        )
    last = 1 - 2.0**-24
    ends = jnp.array([0.0, last, last], jnp.float32)
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, NUM_TYPES)), jnp.float32)
    for t in (0, 300, 999):
        x_t = PROCESS.add_noise(at(8, 0, 26), at(999), ends)
        np.testing.assert_array_equal(x_t, hidden)
        np.testing.assert_array_equal(
            PROCESS.step(logits, x_t, at(t), at(-1), ends), logits.argmax(-1)
        )
    drawn = PROCESS.step(logits, hidden, at(999), at(998), ends)
    assert drawn[0] == 0, "the least quantile"
    np.testing.assert_array_equal(drawn[1:], hidden[1:])


def test_the_losses_count_undecided_atoms_alone():
    rng = np.random.default_rng(1)
    logits = jnp.asarray(3 * rng.normal(size=(4, NUM_TYPES)), jnp.float32)
    clean, seen = at(0, 8, 99, 8), at(UNDECIDED, 8, UNDECIDED, UNDECIDED)
    t = at(0, 3, 499, 999)
    probs = np.exp(np.float64(logits))
    cost = -np.log((probs / probs.sum(-1, keepdims=True))[np.arange(4), np.asarray(clean)])
    cost[1] = 0
    np.testing.assert_allclose(PROCESS.cross_entropy(logits, clean, seen, t), cost, rtol=1e-4)
    weighted = cost * 1000 / np.array([1, 4, 500, 1000])
    np.testing.assert_allclose(PROCESS.loss(logits, clean, seen, t, EVEN[:4]), weighted, rtol=1e-3)
    slope = jax.grad(lambda x: PROCESS.loss(x, clean, seen, t, EVEN[:4]).sum())(logits)
    assert np.isfinite(slope).all()
    assert (slope[1] == 0).all()
    assert (jnp.abs(slope).max(-1) > 0)[jnp.array([0, 2, 3])].all()


def test_the_clean_distribution_of_each_atom():
    logits = jnp.asarray(np.random.default_rng(2).normal(size=(3, NUM_TYPES)), jnp.float32)
    found = PROCESS.clean(logits, at(UNDECIDED, 0, 99), at(500))
    np.testing.assert_allclose(found[0], jax.nn.log_softmax(logits[0]), rtol=1e-6)
    assert np.isfinite(found).all()
    for row, own in ((1, 0), (2, 99)):
        np.testing.assert_array_equal(jnp.exp(found[row]), np.arange(NUM_TYPES) == own)


def test_the_loss_bounds_what_the_types_cost():
    """Two atoms whose types are bound, and the exact denoiser: (1 + 1/T) of their entropy."""
    num_steps, probs = 8, {(6, 0): 0.7, (8, 13): 0.3}
    process, total = MaskedTypes.make(num_steps), 0.0
    for (pair, prob), t in itertools.product(probs.items(), range(num_steps)):
        masked = (t + 1) / num_steps
        for hidden in itertools.product((False, True), repeat=2):
            chance = np.prod([masked if x else 1 - masked for x in hidden])
            seen = np.where(hidden, UNDECIDED, pair)
            logits = np.full((2, NUM_TYPES), -1e9)
            for other, weight in probs.items():
                for slot in (0, 1):
                    if hidden[1 - slot] or other[1 - slot] == pair[1 - slot]:
                        logits[slot, other[slot]] = np.log(weight)
            losses = process.loss(
                jnp.asarray(logits, jnp.float32), at(*pair), at(*seen), at(t), EVEN[:2]
            )
            total += prob * chance * float(losses.sum()) / num_steps
    entropy = -sum(p * np.log(p) for p in probs.values())
    np.testing.assert_allclose(total, entropy * (1 + 1 / num_steps), rtol=1e-5)


# In the joint process.


@pytest.fixture(scope="module")
def diffusion():
    return make_diffusion(types="masked")


@pytest.fixture(scope="module")
def crystals(random_crystals):
    return random_crystals([5, 3], 5, num_mirage=2)


def test_undecided_is_neither_mirage_nor_an_atom(crystals):
    types = crystals.atom_types.at[:, 2].set(UNDECIDED)
    seen = replace(crystals, atom_types=types)
    assert MIRAGE != UNDECIDED >= NUM_TYPES
    real = np.array(real_atom_mask(crystals))
    assert real[:, 2].all()
    real[:, 2] = False
    np.testing.assert_array_equal(real_atom_mask(seen), real)
    assert [len(x.atom_types) for x in reduce(seen)] == real.sum(1).tolist()
    assert not any((x.atom_types == UNDECIDED).any() for x in reduce(seen))


def test_padding_and_parts_that_are_known_stay(diffusion, crystals):
    times = Times.same(jnp.full(2, 999), 5)
    known = jnp.zeros((2, 5), bool).at[:, 1].set(True)
    times = replace(times, types=jnp.where(known, -1, times.types))
    noise = draw_noise(diffusion, jax.random.key(0), crystals)
    x_t = noised(diffusion, crystals, times, noise)
    real = np.asarray(crystals.mask)
    hidden = np.asarray(x_t.atom_types) == UNDECIDED
    np.testing.assert_array_equal(hidden, real & ~np.asarray(known))
    np.testing.assert_array_equal(x_t.atom_types[~hidden], crystals.atom_types[~hidden])

    zero = jnp.zeros((2, 5, 3))
    said = Prediction(crystals.lattice, zero, 50 * jax.nn.one_hot(jnp.full((2, 5), 26), NUM_TYPES))
    before = step(
        diffusion, said, x_t, times, Times.same(jnp.full(2, -1), 5),
        StepNoise(crystals.lattice, zero, jnp.full((2, 5), 0.5)),
    )  # fmt: skip
    np.testing.assert_array_equal(
        before.atom_types, np.where(hidden, 26, np.asarray(crystals.atom_types))
    )
    again = renoised(diffusion, crystals, jnp.full(2, -1), jnp.full(2, 999), noise)
    np.testing.assert_array_equal(again.atom_types == UNDECIDED, real)

    example = Example(crystals, x_t, times, noise)
    terms = loss_terms(diffusion, lambda *_: said, example)
    expected = float((real & ~np.asarray(known)).sum())
    assert float(terms.counts["types"]) == float(terms.counts["cross_entropy"]) == expected
    garbage = jnp.where(crystals.mask, crystals.atom_types, -77)
    odd = replace(example, clean=replace(crystals, atom_types=garbage))
    for name, mean in loss_terms(diffusion, lambda *_: said, odd).means().items():
        np.testing.assert_array_equal(mean, terms.means()[name])


def test_it_is_chosen_by_name():
    assert isinstance(make_diffusion(10).types, UniformD3PM)
    diffusion = make_diffusion(10, types="masked")
    assert isinstance(diffusion.types, MaskedTypes)
    assert diffusion.types.num_steps == 10
    with pytest.raises(ValueError, match="types is 'absorbing'; allowed: uniform, masked"):
        make_diffusion(10, types="absorbing")


def test_a_crystal_of_one_step():
    process = MaskedTypes.make(1)
    hidden = process.add_noise(at(8), at(0), EVEN[-1:])
    assert hidden.tolist() == [UNDECIDED]
    sure = 50 * jax.nn.one_hot(at(8), NUM_TYPES)
    assert process.step(sure, hidden, at(0), at(-1), EVEN[-1:]).tolist() == [8]
