import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.crystal import NUM_TYPES, Prediction, real_atom_mask
from miad_jax.diffusion import coords, make_diffusion
from miad_jax.mirage import reduce
from miad_jax.sampling.sample import (
    Sampler,
    draw_num_atoms,
    reverse,
    sample,
    sample_keys,
    start,
)

# A distribution of crystals of two atoms whose denoiser is known in closed form.
LATTICE_MEAN = 4 * np.eye(3) + np.array([[0, 0.5, 0], [0, 0, -1.0], [0.3, 0, 0]])
LATTICE_STD = 0.5
CENTERS = np.array([[0.99, 0.5, 0.2], [0.3, 0.01, 0.75]])
COORDS_STD = 0.03
PAIRS = ((6, 0), (8, 13))
"""Carbon and a mirage atom, or oxygen and aluminium: the types of the two slots are bound."""
PAIR_PROBS = (0.7, 0.3)
NUM_SAMPLES = 1000


def exact_types(full, crystal, time, likelihood=1.0):
    """Logits of the types; `likelihood` is what else is known of each pair [batch, pair, 1]."""
    # With p(x_s | x_t) ∝ (x_t Qᵀ) ⊙ (x̂_0 Q̄_s), x̂_0 is what the *other* atom says of this one.
    pairs = jnp.asarray(PAIRS)
    keep, redrawn = (
        column[time][:, None, None]
        for column in (full.types.keep, full.types.one_minus_keep / NUM_TYPES)
    )
    evidence = keep * (crystal.atom_types[:, None] == pairs) + redrawn  # [batch, pair, slot]
    weight = jnp.asarray(PAIR_PROBS)[:, None] * evidence[:, :, ::-1] * likelihood
    probs_0 = jnp.einsum("bps,psk->bsk", weight, jax.nn.one_hot(pairs, NUM_TYPES))
    return jnp.log(probs_0)


def exact_denoise(full, crystal, time):
    """The best possible prediction, from the tables of the full process."""
    alpha_bar = full.lattice.alpha_bar[time][:, None, None]
    noise_variance = full.lattice.one_minus_alpha_bar[time][:, None, None]
    centred = crystal.lattice - jnp.sqrt(alpha_bar) * jnp.asarray(LATTICE_MEAN, jnp.float32)
    eps_hat = jnp.sqrt(noise_variance) * centred / (alpha_bar * LATTICE_STD**2 + noise_variance)

    # Noise widens the wrapped normal of the data: it stays a wrapped normal.
    displacement = crystal.frac_coords - jnp.asarray(CENTERS, jnp.float32)
    width = jnp.sqrt(COORDS_STD**2 + jnp.square(full.coords.sigma[time]))[:, None, None]
    score = coords.negative_score(displacement, jnp.broadcast_to(width, displacement.shape))
    rms = jnp.sqrt(full.coords.score_sq_mean[time])[:, None, None]

    return Prediction(lattice=eps_hat, coords=score / rms, types=exact_types(full, crystal, time))


def coords_std(diffusion):
    """What the sampler makes of the width of one coordinate: its steps are linear near a centre."""
    table = {k: np.float64(x) for k, x in vars(diffusion.coords).items()}
    variance = COORDS_STD**2 + table["sigma"][-1] ** 2
    for row in range(diffusion.num_steps)[::-1]:
        sigma, sigma_prev, step = (table[k][row] for k in ("sigma", "sigma_prev", "corrector_size"))
        noised_variance = COORDS_STD**2 + sigma**2
        variance *= (1 - step / noised_variance) ** 2
        variance += table["corrector_noise"][row] ** 2 * 2 * step
        gap = sigma**2 - sigma_prev**2
        variance *= (1 - gap / noised_variance) ** 2
        variance += sigma_prev**2 * gap / sigma**2
    return np.sqrt(variance)


@pytest.fixture(scope="module")
def exact():
    return jax.tree_util.Partial(exact_denoise, make_diffusion(1000))


@pytest.mark.parametrize(
    ("num_kept", "ending"), [(1000, "clean"), (250, "clean"), (250, "published")]
)
def test_the_sampler_recovers_a_known_distribution(exact, num_kept, ending):
    diffusion = make_diffusion(1000, num_kept=num_kept, ending=ending)
    crystals = sample(diffusion, exact, jax.random.key(0), NUM_SAMPLES, 2, chunk_size=NUM_SAMPLES)

    # Four standard errors, and the bias of the finite number of steps.
    bias = 0.01 * 1000 / num_kept
    entries = NUM_SAMPLES * 9
    deviation = (np.float64(crystals.lattice) - LATTICE_MEAN) / LATTICE_STD
    np.testing.assert_allclose(
        deviation.mean(0), 0, atol=4 / np.sqrt(NUM_SAMPLES) + bias, err_msg="mean of the lattice"
    )
    np.testing.assert_allclose(deviation.std(), 1, atol=4 / np.sqrt(2 * entries) + bias)

    assert crystals.frac_coords.min() >= 0
    assert crystals.frac_coords.max() < 1
    displacement = np.float64(crystals.frac_coords) - CENTERS
    displacement = (displacement - np.round(displacement)) / COORDS_STD
    entries = NUM_SAMPLES * 6
    np.testing.assert_allclose(displacement.mean(0), 0, atol=4 / np.sqrt(NUM_SAMPLES) + bias)
    # The endings leave a few per cent too little or too much noise; see `coords_std`.
    expected = coords_std(diffusion) / COORDS_STD
    assert (expected < 1) == (ending == "clean")
    np.testing.assert_allclose(expected, 1, atol=0.05)
    np.testing.assert_allclose(displacement.std(), expected, atol=4 / np.sqrt(2 * entries))

    types = np.asarray(crystals.atom_types)
    drawn = [(types == pair).all(1).mean() for pair in PAIRS]
    assert sum(drawn) > 0.99, "the two types of a crystal must belong together"
    error = 4 * np.sqrt(np.prod(PAIR_PROBS) / NUM_SAMPLES)
    np.testing.assert_allclose(drawn, PAIR_PROBS, atol=error + bias)

    # Mirage atoms vanish, so the number of atoms is distributed as the types say.
    sizes = np.array([len(crystal.atom_types) for crystal in reduce(crystals)])
    np.testing.assert_allclose((sizes == 1).mean(), PAIR_PROBS[0], atol=error + bias)


def exact_denoise_of_mirage(full, crystal, time):
    """As above, but that a mirage atom is uniform in the cell: what MiAD's loss teaches of that.

    The coordinates' score is that of an atom that is real.
    """
    plain = exact_denoise(full, crystal, time)
    width = jnp.sqrt(COORDS_STD**2 + jnp.square(full.coords.sigma[time]))[:, None, None]
    displacement = crystal.frac_coords[:, 1] - jnp.asarray(CENTERS[1], jnp.float32)
    image = jnp.arange(-3.0, 4.0)
    normal = jnp.exp(-0.5 * jnp.square((displacement[..., None] + image) / width)) / width
    density = (normal.sum(-1) / jnp.sqrt(2 * jnp.pi)).prod(-1)  # against that of a mirage atom, 1
    likelihood = jnp.stack([jnp.ones_like(density), density], -1)[..., None]
    return Prediction(plain.lattice, plain.coords, exact_types(full, crystal, time, likelihood))


@pytest.mark.parametrize("coords_score", ["marginal", "conditional"])
def test_the_number_of_atoms_wants_the_marginal_score(coords_score):
    diffusion = make_diffusion(1000, num_kept=250, coords_score=coords_score)
    exact = jax.tree_util.Partial(exact_denoise_of_mirage, make_diffusion(1000))
    crystals = sample(diffusion, exact, jax.random.key(1), NUM_SAMPLES, 2, chunk_size=NUM_SAMPLES)
    types = np.asarray(crystals.atom_types)
    mirage = types[:, 1] == 0
    assert ((types[:, 0] == 6) == mirage).mean() > 0.99
    error = np.abs(mirage.mean() - PAIR_PROBS[0])
    standard = np.sqrt(np.prod(PAIR_PROBS) / NUM_SAMPLES)
    # Mirage atoms that are drawn to where real ones are become real too often.
    assert error < 4 * standard + 0.02 if coords_score == "marginal" else error > 8 * standard
    if coords_score == "marginal":
        wave = np.exp(2j * np.pi * np.float64(crystals.frac_coords[mirage, 1])).mean(0)
        assert np.abs(wave).max() < 4 / np.sqrt(mirage.sum())


# The sampler's promises, with a network that compiles quickly.

SIZE, CHUNK = 3, 2
KEY = jax.random.key(11)


@pytest.fixture(scope="module")
def diffusion():
    return make_diffusion(4)


@pytest.fixture(scope="module")
def denoise(tiny_net, tiny_params):
    return jax.tree_util.Partial(tiny_net.denoise, tiny_params)


@pytest.fixture(scope="module")
def seven(diffusion, denoise):
    return sample(diffusion, denoise, KEY, 7, SIZE, chunk_size=CHUNK)


def assert_equal(one, two):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)


def test_samples_are_crystals(seven):
    assert len(seven) == 7
    assert seven.size == SIZE
    assert seven.mask.all()
    assert all(np.isfinite(x).all() for x in (seven.lattice, seven.frac_coords))
    assert seven.frac_coords.min() >= 0
    assert seven.frac_coords.max() < 1
    assert seven.atom_types.min() >= 0
    assert seven.atom_types.max() < NUM_TYPES
    assert len(np.unique(np.asarray(seven.lattice)[:, 0, 0])) == 7, "samples must differ"


@pytest.mark.parametrize(("num", "first"), [(1, 0), (3, 4), (5, 2)])
def test_a_sample_depends_on_its_index_alone(diffusion, denoise, seven, num, first):
    part = sample(diffusion, denoise, KEY, num, SIZE, first_index=first, chunk_size=CHUNK)
    assert_equal(part, seven[first : first + num])


def test_another_key_gives_other_samples(diffusion, denoise, seven):
    other = sample(diffusion, denoise, jax.random.key(12), 7, SIZE, chunk_size=CHUNK)
    assert (np.abs(other.lattice - seven.lattice).max((1, 2)) > 1e-3).all()


@pytest.fixture(scope="module")
def sharded(diffusion, denoise):
    return Sampler(diffusion, denoise, SIZE, chunk_size=CHUNK, rows_per_dispatch=2)


def test_two_devices_give_what_one_gives(sharded, seven):
    assert jax.local_device_count() == 2
    keys = sample_keys(KEY, np.arange(7))
    reports = []
    crystals, num_real = sharded.draw(keys, np.full(7, SIZE), reports.append)
    assert_equal(crystals, seven)
    assert reports == [0.25, 0.5, 0.75, 1.0]  # two rounds of two chunks, each in two dispatches

    # The number of real atoms after every step; the last is that of the result.
    assert num_real.shape == (7, 4)
    np.testing.assert_array_equal(num_real[:, -1], real_atom_mask(crystals).sum(-1))

    # A batch that is not full is filled up, and the filling left out.
    crystals, num_real = sharded.draw(keys[:3], np.full(3, SIZE))
    assert_equal(crystals, seven[:3])
    assert num_real.shape == (3, 4)


def test_the_trajectory_counts_the_real_atoms_of_every_row(diffusion, denoise, seven):
    keys = sample_keys(KEY, np.arange(8))
    begin = start(keys, jnp.ones((8, SIZE), bool))
    step = jax.jit(reverse)
    counts, crystal = [], begin
    for row in (3, 2, 1, 0):
        crystal, count = step(diffusion, denoise, keys, crystal, jnp.array([row]))
        np.testing.assert_array_equal(count[:, 0], real_atom_mask(crystal).sum(-1))
        counts.append(count[:, 0])
    np.testing.assert_array_equal(crystal.atom_types[:7], seven.atom_types)
    np.testing.assert_allclose(crystal.frac_coords[:7], seven.frac_coords, atol=1e-5)
    np.testing.assert_allclose(crystal.lattice[:7], seven.lattice, rtol=1e-4, atol=1e-5)


def test_the_second_call_does_not_trace(diffusion, denoise):
    traces = []

    def counting(denoise, crystal, time):
        traces.append(None)
        return denoise(crystal, time)

    def draw(denoise, key):
        partial_denoise = jax.tree_util.Partial(counting, denoise)
        return sample(diffusion, partial_denoise, key, 2, SIZE, chunk_size=CHUNK)

    draw(denoise, KEY)
    count = len(traces)
    assert count > 0
    draw(jax.tree.map(lambda x: 2 * x, denoise), jax.random.key(1))
    assert len(traces) == count


def test_the_baseline_keeps_its_number_of_atoms(diffusion, denoise, sharded, seven):
    counts = np.array([1, 3, 2, 3, 1, 2, 3])
    crystals = sample(diffusion, denoise, KEY, 7, counts, chunk_size=CHUNK)
    np.testing.assert_array_equal(crystals.num_atoms, counts)
    np.testing.assert_array_equal(crystals.mask, np.arange(SIZE) < counts[:, None])
    # A full crystal is the same beside others that are not.
    assert_equal(crystals[jnp.array([1, 3, 6])], seven[jnp.array([1, 3, 6])])
    assert np.abs(crystals.lattice[0] - seven.lattice[0]).max() > 1e-4

    alone = sample(diffusion, denoise, KEY, 1, counts[:1], size=SIZE, chunk_size=CHUNK)
    assert_equal(alone, crystals[:1])
    with pytest.raises(ValueError, match="num_atoms is 3: more than size = 2"):
        sample(diffusion, denoise, KEY, 7, counts, size=2)

    shared, num_real = sharded.draw(sample_keys(KEY, np.arange(7)), counts)
    assert_equal(shared, crystals)
    assert (num_real <= counts[:, None]).all()


def test_the_number_of_atoms_follows_the_histogram():
    histogram = np.array([0, 10.0, 0, 30, 60])
    keys = sample_keys(jax.random.key(0), np.arange(2000))
    drawn = draw_num_atoms(keys, histogram)
    counts = np.bincount(drawn, minlength=5)
    expected = 2000 * histogram / histogram.sum()
    assert (np.abs(counts - expected) <= 4 * np.sqrt(expected)).all(), counts
    np.testing.assert_array_equal(draw_num_atoms(keys[:5], histogram), drawn[:5])


@pytest.mark.parametrize("num_atoms", [0, -1, np.array([2, 0, 1])])
def test_crystals_without_atoms_are_refused(diffusion, denoise, num_atoms):
    worst = np.min(num_atoms)
    with pytest.raises(ValueError, match=f"num_atoms is {worst}: .* at least one atom"):
        sample(diffusion, denoise, KEY, 3, num_atoms)


def test_counts_of_another_length_are_refused(diffusion, denoise):
    with pytest.raises(ValueError, match=r"broadcast|num_atoms"):
        sample(diffusion, denoise, KEY, 3, np.array([1, 2]))
