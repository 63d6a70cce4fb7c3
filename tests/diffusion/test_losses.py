"""The training loss: the published numbers, what counts in it, and parts that add up."""

from dataclasses import asdict, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.condition import Condition, Times
from miad_jax.crystal import Crystal, Prediction, real_atom_mask
from miad_jax.diffusion import Example, LossTerms, LossWeights, Noise, add_noise, loss, loss_terms
from miad_jax.diffusion.joint import draw_times
from miad_jax.diffusion.losses import draw_example, loss_counts
from miad_jax.diffusion.types import TypesNoise

TERMS = tuple(asdict(LossWeights()))


@pytest.fixture(scope="module")
def crystals(random_crystals):
    """Four crystals with two mirage atoms each, and padding."""
    return random_crystals([5, 3, 4, 4], 5, num_mirage=2)


def keys_of(key):
    """The key of each crystal, and those of its time and its noise, as `loss` folds them."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(4))
    return keys, *(jax.vmap(jax.random.fold_in, (0, None))(keys, i) for i in (0, 1))


@pytest.fixture(scope="module")
def example(short, crystals):
    """The crystals as the loss noises them with the key 5."""
    return draw_example(short, *keys_of(jax.random.key(5))[1:], crystals)


@pytest.fixture(scope="module")
def terms_of(short, plain_denoise):
    """The losses of `plain_denoise`; `shift` moves what it says of the first two atoms."""

    def run(example, shift=0.0, mask_mirage=True):
        def denoise(crystal, time):
            said = plain_denoise(crystal, time)
            return replace(said, coords=said.coords.at[:, :2].add(shift))

        return loss_terms(short, denoise, example, mask_mirage=mask_mirage)

    return jax.jit(run, static_argnames="mask_mirage")


def as_jax(numbers):
    """Integers as int32, the rest as float32."""
    return {
        name: jnp.asarray(x, jnp.int32 if x.dtype.kind == "i" else jnp.float32)
        for name, x in numbers.items()
        if x.dtype.kind in "if"
    }


def test_the_losses_equal_the_published(golden, full):
    numbers = golden("losses")
    g = as_jax(numbers)
    published = jnp.append(g["coord_score_sq_mean"], 1)
    diffusion = replace(full, coords=replace(full.coords, score_sq_mean=published))
    mask = jnp.ones((5, 8), bool)
    clean = Crystal(g["lattice0"], g["frac0"], g["types0"], mask)
    noised = Crystal(g["lattice_t"], g["frac_t"], g["types_t"], mask)
    types_noise = TypesNoise(jnp.ones((5, 8)), g["types0"])
    noise = Noise(g["lattice_noise"], g["coord_noise"], types_noise)
    t, each = g["t"], g["t"][:, None]

    real = real_atom_mask(clean)
    assert 0 < real.sum() < real.size, "the file must hold mirage atoms"
    per_atom = diffusion.coords.loss(
        g["pred_coords"], clean.frac_coords, noised.frac_coords, each, noise.coords
    )
    np.testing.assert_allclose(
        jnp.where(real, per_atom, 0) * (real.size / real.sum()),
        g["loss_coords"],
        rtol=1e-4,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        diffusion.lattice.loss(g["pred_lattice"], clean.lattice, noised.lattice, t, noise.lattice),
        g["loss_lattice"],
        rtol=1e-4,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        diffusion.types.loss(
            g["pred_types"], clean.atom_types, noised.atom_types, each, types_noise
        ),
        g["loss_types"],
        rtol=1e-4,
        atol=3e-3,
    )

    def denoise(crystal, time):
        assert crystal is noised
        np.testing.assert_array_equal(time, t)
        return Prediction(g["pred_lattice"], g["pred_coords"], g["pred_types"])

    terms = loss_terms(diffusion, denoise, Example(clean, noised, t, noise))
    np.testing.assert_allclose(terms.total(LossWeights()), numbers["total"], rtol=1e-4)
    np.testing.assert_allclose(terms.coords, g["loss_coords"].mean(), rtol=1e-4)


# What does not count.


def test_mirage_atoms_count_for_the_types_but_not_for_the_coordinates(example, terms_of):
    masked, unmasked = (terms_of(example, mask_mirage=x) for x in (True, False))
    assert masked.counts["coords"] == 3 + 1 + 2 + 2
    assert unmasked.counts["coords"] == unmasked.counts["types"] == masked.counts["types"] == 16
    assert masked.counts["cross_entropy"] == 16
    assert masked.counts["lattice"] == 4
    np.testing.assert_array_equal(masked.sums["types"], unmasked.sums["types"])
    assert masked.sums["coords"] < unmasked.sums["coords"]

    # Only the coordinates of mirage atoms change: the masked loss must not notice.
    other, other_unmasked = (terms_of(example, 10.0, mask_mirage=x) for x in (True, False))
    np.testing.assert_array_equal(other.sums["coords"], masked.sums["coords"])
    assert other_unmasked.sums["coords"] > 2 * unmasked.sums["coords"]


@pytest.mark.parametrize("kind", ["analytic", "network"])
def test_padding_changes_nothing(short, example, terms_of, tiny_denoise, kind):
    def network(example):
        with jax.numpy_dtype_promotion("standard"):
            return loss_terms(short, tiny_denoise, example)

    run = terms_of if kind == "analytic" else jax.jit(network)

    def with_garbage(crystals):
        pad = ~crystals.mask
        return replace(
            crystals,
            frac_coords=jnp.where(
                pad[..., None], 1e3 * crystals.frac_coords - 77.3, crystals.frac_coords
            ),
            atom_types=jnp.where(pad, 99 - crystals.atom_types, crystals.atom_types),
        )

    garbage = replace(
        example, clean=with_garbage(example.clean), noised=with_garbage(example.noised)
    )
    for term, same in zip(*(jax.tree.leaves(run(x)) for x in (example, garbage)), strict=True):
        np.testing.assert_allclose(term, same, rtol=1e-6)


def test_a_crystal_that_is_all_padding_does_not_count(example, terms_of):
    nothing = jnp.arange(4) >= 2
    clean, noised = (
        replace(x, mask=x.mask & ~nothing[:, None]) for x in (example.clean, example.noised)
    )
    terms = terms_of(replace(example, clean=clean, noised=noised))
    alone = terms_of(jax.tree.map(lambda x: x[:2], example))
    assert terms.counts["lattice"] == 2
    assert terms.counts["types"] == terms.counts["cross_entropy"] == 5 + 3
    np.testing.assert_allclose(jax.tree.leaves(terms), jax.tree.leaves(alone), rtol=1e-6)


@pytest.fixture(scope="module")
def partly_known(short, crystals):
    """Crystals of which the first is known whole, the second's cell, and some atoms' parts."""
    t = Times(
        lattice=jnp.array([-1, -1, 4, 19]),
        coords=jnp.array([[-1] * 5, [3, 3, -1, 3, 3], [0] * 5, [19] * 5]),
        types=jnp.array([[-1] * 5, [7] * 5, [19, 0, -1, 2, -1], [1] * 5]),
    )
    noised, noise = add_noise(short, jax.random.key(2), crystals, t)
    return Example(crystals, noised, t, noise)


def test_parts_that_are_known_do_not_count(short, crystals, plain_denoise, partly_known):
    def denoise(crystal, time):
        assert isinstance(time, Times)
        return plain_denoise(crystal, jnp.array([1, 2, 3, 4]))

    @partial(jax.jit, static_argnames="known")
    def terms_of(known=None):
        """With another prediction of what is known, or of what is not."""

        def changed(crystal, time):
            said = denoise(crystal, time)
            if known is None:
                return said
            lattice, coords, types = (
                5.0 * ((t < 0) == known).astype(jnp.float32)
                for t in (time.lattice, time.coords, time.types)
            )
            return Prediction(
                said.lattice + lattice[:, None, None],
                said.coords + coords[..., None],
                said.types + types[..., None] * jnp.cos(jnp.arange(100.0)),
            )

        return loss_terms(short, changed, partly_known)

    counts = loss_counts(partly_known)
    # Real atoms are the third on; −1 falls on one of the second crystal's, the third's types.
    assert {name: int(x) for name, x in counts.items()} == {
        "lattice": 2,
        "coords": 0 + 0 + 2 + 2,
        "types": 0 + 3 + 3 + 4,
        "cross_entropy": 0 + 3 + 3 + 4,
    }
    with jax.debug_nans(True):
        terms = terms_of()
    assert terms.counts == counts
    assert all(np.isfinite(x) for x in jax.tree.leaves(terms))
    for name in TERMS:
        np.testing.assert_array_equal(terms_of(known=True).sums[name], terms.sums[name])
        assert abs(terms_of(known=False).sums[name] - terms.sums[name]) > 0.1


def test_parts_that_are_known_have_no_gradient(short, partly_known, plain_denoise):
    said = plain_denoise(partly_known.noised, jnp.array([1, 2, 3, 4]))

    def total(said):
        terms = loss_terms(short, lambda crystal, time: said, partly_known)
        return terms.total(LossWeights(1.0, 1.0, 1.0, 1.0))

    gradient = jax.jit(jax.grad(total))(said)
    times, mask = partly_known.time, partly_known.clean.mask
    real = real_atom_mask(partly_known.clean)
    for found, counted in (
        (gradient.lattice, times.lattice >= 0),
        (gradient.coords, (times.coords >= 0) & real),
        (gradient.types, (times.types >= 0) & mask),
    ):
        assert np.isfinite(found).all()
        moves = np.abs(found).reshape(*counted.shape, -1).max(-1) > 0
        np.testing.assert_array_equal(moves, counted)


def test_a_network_that_takes_one_time_refuses_parts_with_their_own(
    short, partly_known, tiny_denoise
):
    with pytest.raises(ValueError, match="CSPNet takes one time for all parts"):
        loss_terms(short, tiny_denoise, partly_known)


# The loss at random times.


@pytest.mark.parametrize("mask_mirage", [True, False])
def test_the_loss_is_that_of_the_example_it_draws(
    short, crystals, plain_denoise, example, terms_of, mask_mirage
):
    weights = LossWeights(lattice=2.0, coords=0.5, types=0.25, cross_entropy=3.0)
    told = []

    def denoise(crystal, time, *condition):
        told.append((time, *condition))
        return plain_denoise(crystal, time)

    condition = Condition(properties={"gap": jnp.arange(4.0)})
    found = loss(
        *(short, denoise, jax.random.key(5), crystals),
        weights=weights,
        mask_mirage=mask_mirage,
        condition=condition,
    )
    expected = terms_of(example, mask_mirage=mask_mirage)
    for one, two in zip(
        jax.tree.leaves(found), jax.tree.leaves((expected.total(weights), expected)), strict=True
    ):
        np.testing.assert_allclose(one, two, rtol=1e-5)
    ((time, asked),) = told
    assert asked is condition
    np.testing.assert_array_equal(time, example.time)


def test_the_example_is_drawn_of_the_keys(short, crystals, example):
    assert example.clean is crystals
    _, time_keys, noise_keys = keys_of(jax.random.key(5))
    np.testing.assert_array_equal(example.time, draw_times(short, time_keys, (4,)))
    assert 0 <= example.time.min() <= example.time.max() < short.num_steps
    drawn = add_noise(short, noise_keys, crystals, example.time)
    for one, two in zip(
        jax.tree.leaves((example.noised, example.noise)), jax.tree.leaves(drawn), strict=True
    ):
        np.testing.assert_array_equal(one, two)


def test_one_key_is_folded_with_the_index_and_the_second_call_does_not_trace(
    short, crystals, plain_denoise, example, terms_of
):
    traces = []

    @jax.jit
    def compiled_loss(diffusion, key, crystals):
        def denoise(crystal, time):
            traces.append(None)
            return plain_denoise(crystal, time)

        return loss(diffusion, denoise, key, crystals)

    keys, *_ = keys_of(jax.random.key(5))
    total, terms = compiled_loss(short, keys, crystals)
    expected = terms_of(example)
    np.testing.assert_allclose(total, expected.total(LossWeights()), rtol=1e-4)
    for a, b in zip(jax.tree.leaves(terms), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)
    other = jax.tree.map(lambda x: 0.99 * x, short)
    assert compiled_loss(other, keys[::-1], crystals[::-1])[0] != total
    assert len(traces) == 1
    raw, _ = loss(short, plain_denoise, jax.random.key_data(jax.random.key(5)), crystals)
    np.testing.assert_allclose(raw, total, rtol=1e-4)


def test_a_denoiser_without_a_condition_is_asked_without(short, crystals, plain_denoise):
    """`plain_denoise` takes two arguments, and would fail with three."""
    with pytest.raises(TypeError, match="positional arguments"):
        loss(short, plain_denoise, jax.random.key(5), crystals, condition=Condition())
    loss(short, plain_denoise, jax.random.key(5), crystals)


# Sums and counts.


def test_two_halves_add_up_to_the_whole(example, terms_of):
    whole = terms_of(example)
    one, two = (
        terms_of(jax.tree.map(lambda x, p=part: x[p], example))
        for part in (slice(0, 2), slice(2, 4))
    )
    added = one + two
    assert added.sums.keys() == whole.sums.keys() == whole.counts.keys() == set(TERMS)
    for name in TERMS:
        np.testing.assert_allclose(added.sums[name], whole.sums[name], rtol=1e-5)
        np.testing.assert_array_equal(added.counts[name], whole.counts[name])
    np.testing.assert_allclose(added.total(LossWeights()), whole.total(LossWeights()), rtol=1e-5)


def test_the_weights_weigh(example, terms_of):
    terms = terms_of(example)
    expected = 2 * terms.lattice + 0.5 * terms.coords + 0.25 * terms.types
    total = terms.total(LossWeights(lattice=2.0, coords=0.5, types=0.25))
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    plain = terms.total(LossWeights())
    np.testing.assert_allclose(plain, terms.lattice + terms.coords + terms.types, rtol=1e-6)
    total = terms.total(LossWeights(0.0, 0.0, 0.0, 2.0))
    np.testing.assert_allclose(total, 2 * terms.cross_entropy, rtol=1e-6)
    assert total > 0


def test_terms_are_means_by_name():
    terms = LossTerms(
        {"types": jnp.float32(8), "coords": jnp.float32(0)},
        {"types": jnp.float32(4), "coords": jnp.float32(0)},
    )
    assert terms.means() == {"types": 2, "coords": 0}, "0 where nothing counts"
    with pytest.raises(AttributeError, match="no term 'energy'; its terms: types, coords"):
        terms.energy  # noqa: B018
    steps = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), terms)
    np.testing.assert_array_equal(steps.total(LossWeights(types=0.5)), [1, 1])
