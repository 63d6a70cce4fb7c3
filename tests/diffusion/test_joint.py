from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.crystal import NUM_TYPES, Crystal, Prediction, real_atom_mask
from miad_jax.diffusion import (
    LossWeights,
    Noise,
    add_noise,
    coords,
    joint,
    lattice,
    loss,
    make_diffusion,
    reverse_step,
    types,
)

REVERSE_TIMES = (999, 500, 120, 1, 0)


@pytest.fixture(scope="module")
def published():
    return make_diffusion(ending="published")


@pytest.fixture(scope="module")
def short():
    return make_diffusion(20)


@pytest.fixture(scope="module")
def crystals(random_crystals):
    """Four crystals with two mirage atoms each, and padding."""
    return random_crystals([5, 3, 4, 4], 5, num_mirage=2)


def plain_denoise(crystal, time):
    """A denoiser in closed form that depends on everything it is given, atom by atom."""
    level = (time / 1000)[..., None, None]
    kinds = jax.nn.one_hot(crystal.atom_types, NUM_TYPES)
    return Prediction(
        lattice=0.3 * crystal.lattice - level,
        coords=jnp.sin(2 * jnp.pi * crystal.frac_coords) + level,
        types=3 * kinds + crystal.frac_coords.sum(-1, keepdims=True) * jnp.linspace(0, 1, 100),
    )


def as_jax(numbers):
    """Integers as int32, the rest as float32."""
    return {
        name: jnp.asarray(x, jnp.int32 if x.dtype.kind == "i" else jnp.float32)
        for name, x in numbers.items()
        if x.dtype.kind in "if"
    }


def with_lambda(diffusion, score_sq_mean):
    table = replace(diffusion.coords, score_sq_mean=score_sq_mean)
    return replace(diffusion, coords=table)


# The published numbers.


def test_noising_and_losses_equal_the_published(golden, published):
    numbers = golden("losses")
    g = as_jax(numbers)
    diffusion = with_lambda(published, g["coord_score_sq_mean"])
    mask = jnp.ones((5, 8), bool)
    clean = Crystal(g["lattice0"], g["frac0"], g["types0"], mask)
    noised = Crystal(g["lattice_t"], g["frac_t"], g["types_t"], mask)
    noise = Noise(g["lattice_noise"], g["coord_noise"], jnp.ones((5, 8)), g["types0"])

    ours = joint.noised(diffusion, clean, g["t"], noise)
    np.testing.assert_allclose(ours.lattice, g["lattice_t"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.frac_coords, g["frac_t"], rtol=1e-4, atol=1e-5)

    real = real_atom_mask(clean)
    assert 0 < real.sum() < real.size, "the file must hold mirage atoms"
    per_atom = coords.loss(
        g["pred_coords"], coords.target(diffusion.coords, g["t"], noise.coords), real
    )
    np.testing.assert_allclose(
        per_atom * (real.size / real.sum()), g["loss_coords"], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        lattice.loss(g["pred_lattice"], noise.lattice), g["loss_lattice"], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        types.loss(
            diffusion.types, g["pred_types"], clean.atom_types, noised.atom_types, g["t"], mask
        ),
        g["loss_types"],
        rtol=1e-4,
        atol=3e-3,
    )

    prediction = Prediction(g["pred_lattice"], g["pred_coords"], g["pred_types"])
    terms = joint.loss_terms(diffusion, prediction, clean, noised, g["t"], noise)
    np.testing.assert_allclose(terms.total(LossWeights()), numbers["total"], rtol=1e-4)
    np.testing.assert_allclose(terms.coords, g["loss_coords"].mean(), rtol=1e-4)


@pytest.mark.parametrize("t", REVERSE_TIMES)
def test_reverse_step_equals_the_published(golden, published, same_coords, t):
    numbers = golden("reverse_steps")
    g = as_jax({k.removeprefix(f"t{t}_"): x for k, x in numbers.items() if k.startswith(f"t{t}_")})
    own = make_diffusion(ending="published", corrector_gamma=float(numbers["step_lr"]))
    diffusion = with_lambda(own, jnp.asarray(numbers["coord_score_sq_mean"]))
    mask, rows = jnp.ones((5, 8), bool), jnp.full(5, t)
    crystal = Crystal(g["lattice_t"], g["frac_t"], g["types_t"], mask)
    seen = []

    def denoise(crystal, time):
        np.testing.assert_array_equal(time, rows)
        seen.append(crystal)
        which = "corrector" if len(seen) == 1 else "predictor"
        return Prediction(g["pred_lattice"], g[f"pred_coords_{which}"], g["pred_types"])

    noise = joint.ReverseNoise(
        g["noise_lattice"], g["noise_corrector"], g["noise_predictor"], jnp.full((5, 8), 0.5)
    )
    before = joint.step_back(diffusion, denoise, crystal, rows, noise)

    # The second evaluation sees the corrected coordinates, at the old lattice and types.
    np.testing.assert_allclose(seen[1].frac_coords, g["frac_half"], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(seen[1].lattice, g["lattice_t"])
    np.testing.assert_array_equal(seen[1].atom_types, g["types_t"])
    same_coords(before.frac_coords, g["frac_next"], atol=1e-5)
    np.testing.assert_allclose(before.lattice, g["lattice_next"], rtol=1e-4, atol=1e-5)
    probs = types.posterior(diffusion.types, g["types_t"], jax.nn.softmax(g["pred_types"]), rows)
    np.testing.assert_allclose(probs, g["type_probs_next"], rtol=1e-4, atol=1e-5)
    if t == 0:
        np.testing.assert_array_equal(before.atom_types, g["type_probs_next"].argmax(-1))
    else:
        cumulative = np.cumsum(np.float64(g["type_probs_next"]), -1)
        cumulative /= cumulative[..., -1:]
        at = np.asarray(before.atom_types)[..., None]
        upper = np.take_along_axis(cumulative, at, -1)[..., 0]
        width = np.take_along_axis(np.float64(g["type_probs_next"]), at, -1)[..., 0]
        assert (upper >= 0.5 - 1e-4).all()
        assert (upper - width <= 0.5 + 1e-4).all()


# What does not count.


def test_mirage_atoms_count_for_the_types_but_not_for_the_coordinates(short, crystals):
    key = jax.random.key(0)
    _, masked = loss(short, plain_denoise, key, crystals)
    _, unmasked = loss(short, plain_denoise, key, crystals, mask_mirage=False)

    assert masked.num_coords == 3 + 1 + 2 + 2
    assert unmasked.num_coords == unmasked.num_atoms == masked.num_atoms == 16
    assert masked.num_crystals == 4
    np.testing.assert_array_equal(masked.types_sum, unmasked.types_sum)
    assert masked.coords_sum < unmasked.coords_sum

    # Only the coordinates of mirage atoms change: the masked loss must not notice.
    def denoise_otherwise(crystal, time):
        prediction = plain_denoise(crystal, time)
        return replace(prediction, coords=prediction.coords.at[:, :2].add(10.0))

    _, other = loss(short, denoise_otherwise, key, crystals)
    _, other_unmasked = loss(short, denoise_otherwise, key, crystals, mask_mirage=False)
    np.testing.assert_array_equal(other.coords_sum, masked.coords_sum)
    assert other_unmasked.coords_sum > 2 * unmasked.coords_sum


@pytest.mark.parametrize("kind", ["analytic", "network"])
def test_padding_changes_nothing(short, crystals, tiny_denoise, kind):
    def network(crystal, time):
        with jax.numpy_dtype_promotion("standard"):
            return tiny_denoise(crystal, time)

    denoise = plain_denoise if kind == "analytic" else network
    pad = ~crystals.mask
    garbage = Crystal(
        crystals.lattice,
        jnp.where(pad[..., None], 1e3 * crystals.frac_coords - 77.3, crystals.frac_coords),
        jnp.where(pad, 99 - crystals.atom_types, crystals.atom_types),
        crystals.mask,
    )
    key, real = jax.random.key(1), np.asarray(crystals.mask)

    for term, same in zip(
        jax.tree.leaves(loss(short, denoise, key, crystals)),
        jax.tree.leaves(loss(short, denoise, key, garbage)),
        strict=True,
    ):
        np.testing.assert_allclose(term, same, rtol=1e-6)
    before = reverse_step(short, denoise, key, crystals, 11)
    same = reverse_step(short, denoise, key, garbage, 11)
    np.testing.assert_allclose(before.lattice, same.lattice, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(before.frac_coords[real], same.frac_coords[real], atol=1e-6)
    np.testing.assert_array_equal(before.atom_types[real], same.atom_types[real])
    # Padding itself stays as it is.
    np.testing.assert_array_equal(same.frac_coords[~real], garbage.frac_coords[~real])
    np.testing.assert_array_equal(same.atom_types[~real], garbage.atom_types[~real])


def test_a_crystal_that_is_all_padding_does_not_count(short, random_crystals):
    crystals = random_crystals([5, 4, 0, 0], 5)
    _, noise = add_noise(short, jax.random.key(0), crystals, 4)

    @jax.jit
    def terms_of(crystals, noise):
        t = jnp.full(crystals.batch_shape, 4)
        crystals_t = joint.noised(short, crystals, t, noise)
        prediction = plain_denoise(crystals_t, t)
        return joint.loss_terms(short, prediction, crystals, crystals_t, t, noise)

    terms = terms_of(crystals, noise)
    alone = terms_of(crystals[:2], jax.tree.map(lambda x: x[:2], noise))
    assert terms.num_crystals == 2
    assert terms.num_atoms == 9
    np.testing.assert_allclose(jax.tree.leaves(terms), jax.tree.leaves(alone), rtol=1e-6)


# Keys and batches.


def test_one_key_is_folded_with_the_index(short, crystals):
    key = jax.random.key(3)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(4))
    raw = jax.random.key_data(key)
    for run in (
        lambda k: add_noise(short, k, crystals, 5),
        lambda k: loss(short, plain_denoise, k, crystals),
        lambda k: reverse_step(short, plain_denoise, k, crystals, 5),
        lambda k: joint.prior(k, crystals.mask),
    ):
        leaves = jax.tree.leaves(run(key))
        for other in (keys, raw):
            for a, b in zip(leaves, jax.tree.leaves(run(other)), strict=True):
                np.testing.assert_array_equal(a, b)


def test_keys_that_fit_nothing_are_refused(short, crystals):
    with pytest.raises(ValueError, match=r"shape \(2,\) do not fit .* \(4,\): give one key"):
        add_noise(short, jax.random.split(jax.random.key(0), 2), crystals, 5)


def test_a_crystal_does_not_depend_on_its_batch(short, crystals):
    key = jax.random.key(4)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(4))
    whole, noise = add_noise(short, key, crystals, 7)
    back = reverse_step(short, plain_denoise, key, crystals, 7)
    for part in (slice(1, 3), 1):
        alone, alone_noise = add_noise(short, keys[part], crystals[part], 7)
        alone_back = reverse_step(short, plain_denoise, keys[part], crystals[part], 7)
        for a, b in zip(
            jax.tree.leaves((whole, noise, back)),
            jax.tree.leaves((alone, alone_noise, alone_back)),
            strict=True,
        ):
            np.testing.assert_allclose(a[part], b, rtol=1e-6, atol=1e-6)
    # Different crystals get different noise.
    assert np.abs(noise.lattice[0] - noise.lattice[1]).max() > 0.1
    assert np.abs(noise.coords[0] - noise.coords[1]).max() > 0.1


def test_jit_equals_eager_and_the_second_call_does_not_trace(short, crystals):
    traces = []

    @jax.jit
    def compiled_loss(diffusion, key, crystals):
        def denoise(crystal, time):
            traces.append(None)
            return plain_denoise(crystal, time)

        return loss(diffusion, denoise, key, crystals)

    compiled = compiled_loss(short, jax.random.key(0), crystals)
    eager = loss(short, plain_denoise, jax.random.key(0), crystals)
    for a, b in zip(jax.tree.leaves(compiled), jax.tree.leaves(eager), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)
    compiled_loss(make_diffusion(20, ending="published"), jax.random.key(1), crystals[::-1])
    assert len(traces) == 1


# Sums and counts.


def test_two_halves_add_up_to_the_whole(short, crystals):
    keys = jax.random.split(jax.random.key(5), 4)
    value, whole = loss(short, plain_denoise, keys, crystals)
    _, one = loss(short, plain_denoise, keys[:2], crystals[:2])
    _, two = loss(short, plain_denoise, keys[2:], crystals[2:])
    added = one + two
    for field in fields(whole):
        np.testing.assert_allclose(
            getattr(added, field.name), getattr(whole, field.name), rtol=1e-5
        )
    np.testing.assert_allclose(added.total(LossWeights()), value, rtol=1e-5)


def test_the_weights_weigh(short, crystals):
    key, weights = jax.random.key(0), LossWeights(lattice=2.0, coords=0.5, types=0.25)
    value, terms = loss(short, plain_denoise, key, crystals, weights=weights)
    expected = 2 * terms.lattice + 0.5 * terms.coords + 0.25 * terms.types
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    plain, _ = loss(short, plain_denoise, key, crystals)
    np.testing.assert_allclose(plain, terms.lattice + terms.coords + terms.types, rtol=1e-6)


def test_times_are_uniform_with_both_ends(short):
    t = np.asarray(joint.draw_times(short, jax.random.key(0), (4000,)))
    counts = np.bincount(t, minlength=20)
    assert len(counts) == 20
    assert (np.abs(counts - 200) < 4.5 * np.sqrt(200)).all()


def test_the_prior_is_pure_noise():
    crystal = joint.prior(jax.random.key(0), jnp.ones((2000, 2), bool))
    assert abs(crystal.lattice.mean()) < 4 / np.sqrt(18000)
    assert abs(crystal.lattice.std() - 1) < 4 / np.sqrt(36000)
    assert crystal.frac_coords.min() >= 0
    assert crystal.frac_coords.max() < 1
    assert abs(crystal.frac_coords.mean() - 0.5) < 4 / np.sqrt(12 * 12000)
    counts = np.bincount(np.ravel(crystal.atom_types), minlength=NUM_TYPES)
    assert len(counts) == NUM_TYPES
    assert (np.abs(counts - 40) < 4.5 * np.sqrt(40)).all()


# The two endings, and respacing.


def test_the_published_ending_does_not_move_in_the_last_predictor_step(crystals):
    diffusion = make_diffusion(20, ending="published", corrector_gamma=0.0)
    last = reverse_step(diffusion, plain_denoise, jax.random.key(0), crystals, 0)
    np.testing.assert_array_equal(last.frac_coords, crystals.frac_coords)
    noisy = make_diffusion(20, ending="published")
    one, two = (
        reverse_step(noisy, plain_denoise, jax.random.key(i), crystals, 0) for i in range(2)
    )
    assert np.abs(one.frac_coords - two.frac_coords).max() > 1e-4, "the corrector is noisy"


def test_the_clean_ending_follows_the_score_without_noise(crystals, same_coords):
    gamma = 1e-3
    diffusion = make_diffusion(20, ending="clean", corrector_gamma=gamma)
    last = reverse_step(diffusion, plain_denoise, jax.random.key(0), crystals, 0)
    sigma, rms = 0.005, np.sqrt(np.float64(diffusion.coords.score_sq_mean[0]))
    half = np.float64(crystals.frac_coords)
    half = half - gamma * rms * np.sin(2 * np.pi * half)
    expected = half - sigma**2 * rms * np.sin(2 * np.pi * half)
    real = np.asarray(crystals.mask)
    same_coords(last.frac_coords[real], expected[real], atol=1e-6)
    assert diffusion.coords.sigma_prev[0] == 0


def test_the_denoiser_is_told_the_time_of_the_full_process(crystals):
    diffusion = make_diffusion(1000, num_kept=11)
    np.testing.assert_array_equal(diffusion.times[jnp.array([0, 5, 10])], [0, 500, 999])
    told = []

    def denoise(crystal, time):
        told.append(np.asarray(time))
        return plain_denoise(crystal, time)

    reverse_step(diffusion, denoise, jax.random.key(0), crystals, 10)
    reverse_step(diffusion, denoise, jax.random.key(0), crystals, jnp.array([0, 5, 10, 0]))
    np.testing.assert_array_equal(told[:2], [[999] * 4] * 2)
    np.testing.assert_array_equal(told[2:], [[0, 500, 999, 0]] * 2)
    told.clear()
    loss(diffusion, denoise, jax.random.key(0), crystals)
    assert np.isin(told[0], diffusion.times).all()
