"""What is asked of a sample, and how predictions are used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import miad_jax
from miad_jax.condition import Condition
from miad_jax.crystal import MIRAGE, NUM_TYPES, Crystal, Prediction, real_atom_mask
from miad_jax.diffusion import make_diffusion
from miad_jax.diffusion.keys import sample_keys
from miad_jax.sampling import Control, PredictorCorrector, Sampler
from miad_jax.sampling.control import LED_UNTIL, bounded
from miad_jax.sampling.elements import allow
from miad_jax.sampling.sample import sample
from tests.sampling.known import CENTERS, PAIR_PROBS, exact_denoise_of_mirage

KEY = jax.random.key(5)
NUM_SAMPLES = 1000


# Elements that are allowed.


@pytest.mark.parametrize("mirage", [-1e5, -20.0, 0.0, 20.0, 1e5])
def test_what_is_not_allowed_has_no_probability_and_mirage_keeps_its_own(mirage):
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=(6, NUM_TYPES))
    logits[:, MIRAGE] = mirage
    logits[1, [3, 8, 26]] = -1e4  # the network believes in none of the allowed
    allowed = np.zeros(NUM_TYPES, bool)
    allowed[[3, 8, 26]] = True  # mirage need not be named
    found = allow(jnp.asarray(logits, jnp.float32), jnp.asarray(allowed))
    assert np.isfinite(found).all()
    probs, before = (np.float64(jax.nn.softmax(x)) for x in (found, jnp.float32(logits)))
    np.testing.assert_allclose(probs.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(probs[:, MIRAGE], before[:, MIRAGE], rtol=1e-5, atol=1e-7)
    real = np.arange(NUM_TYPES) != MIRAGE
    assert (probs[:, real & ~allowed] == 0).all()
    # Among those that are allowed the odds are what they were.
    np.testing.assert_allclose(
        np.float64(found)[:, 3] - np.float64(found)[:, 8],
        logits[:, 3] - logits[:, 8],
        rtol=1e-4,
        atol=1e-4 + 1e-7 * abs(mirage),
    )
    # The temperature does not bring them back.
    assert (np.asarray(jax.nn.softmax(found / 10))[:, real & ~allowed] == 0).all()


def test_where_nothing_is_allowed_atoms_are_mirage():
    probs = jax.nn.softmax(allow(jnp.zeros((2, NUM_TYPES)), jnp.zeros(NUM_TYPES, bool)))
    assert probs[:, MIRAGE].tolist() == [1, 1]


def test_what_is_allowed_is_each_crystals_own_and_that_of_all_changes_nothing():
    logits = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, NUM_TYPES)), jnp.float32)
    everything = allow(logits, jnp.ones((2, 1, NUM_TYPES), bool))
    np.testing.assert_allclose(everything, jax.nn.log_softmax(logits), atol=1e-5)
    own = jnp.arange(NUM_TYPES) == jnp.array([8, 26])[:, None]
    probs = jax.nn.softmax(allow(logits, own[:, None]))
    assert (probs.at[:, :, MIRAGE].set(0).argmax(-1) == jnp.array([[8], [26]])).all()


def test_a_condition_of_elements():
    condition = Condition.of_elements([3, 8], 4)
    assert condition.allowed_types.shape == (4, NUM_TYPES)
    assert np.flatnonzero(condition.allowed_types[2]).tolist() == [MIRAGE, 3, 8]
    for wrong in ([], [0], [100], [8, -1]):
        with pytest.raises(ValueError, match=r"allowed: at least one, each from 1 to 99"):
            Condition.of_elements(wrong, 1)


@pytest.fixture(scope="module")
def weights():
    diffusion, denoise, config = miad_jax.load_pretrained()
    return diffusion, denoise, config.infusion.num_atoms


@pytest.mark.slow
def test_the_weights_of_the_package_make_crystals_of_allowed_elements(weights):
    diffusion, denoise, num_atoms = weights
    asked = [3, 8, 26]
    crystals = sample(
        diffusion, denoise, KEY, 4, num_atoms,
        solver=PredictorCorrector(steps=20), condition=Condition.of_elements(asked, 4),
        chunk_size=2,
    )  # fmt: skip
    real = np.asarray(crystals.atom_types)[real_atom_mask(crystals)]
    assert len(real) > 4
    assert set(real.tolist()) <= set(asked)
    assert (np.asarray(crystals.atom_types) == MIRAGE).any(), "mirage atoms always may be"
    assert np.isfinite(crystals.lattice).all()


# The temperature, and the score of atoms that may be mirage.


def test_a_temperature_below_one_trusts_the_likeliest_types(full):
    num = 20_000
    rng = np.random.default_rng(3)
    uniform = jnp.asarray(rng.random(num), jnp.float32)
    logits = jnp.asarray(rng.normal(size=NUM_TYPES), jnp.float32)
    crystal = Crystal(jnp.eye(3), jnp.zeros((num, 3)), jnp.full(num, 8), jnp.ones(num, bool))

    def denoise(crystal, time):
        return Prediction(jnp.eye(3), crystal.frac_coords, jnp.tile(logits, (num, 1)))

    @jax.jit
    def draw(control):
        t = jnp.int32(999)
        said = control.applied(full, denoise, None)(crystal, t)
        drawn = full.types.step(said.types, crystal.atom_types, t[None], t[None] - 1, uniform)
        return said, drawn

    said, drawn = draw(Control(type_temperature=0.5, cell_bounds_angstrom=None))
    squared = jax.nn.softmax(logits) ** 2
    t = jnp.array([999])
    expected = full.types.posterior(jnp.array([8]), (squared / squared.sum())[None], t, t - 1)[0]
    found = np.bincount(np.asarray(drawn), minlength=NUM_TYPES) / num
    expected = np.asarray(expected)
    assert (np.abs(found - expected) < 5 * np.sqrt(expected / num) + 1e-4).all()
    np.testing.assert_array_equal(said.lattice, np.eye(3))  # nothing else is changed
    np.testing.assert_array_equal(said.coords, crystal.frac_coords)


@pytest.mark.parametrize("coords_score", ["marginal", "conditional"])
@pytest.mark.slow
def test_the_number_of_atoms_wants_the_marginal_score(full, coords_score):
    exact = jax.tree_util.Partial(exact_denoise_of_mirage, full)
    crystals = sample(
        full, exact, jax.random.key(1), NUM_SAMPLES, 2,
        solver=PredictorCorrector(steps=250), control=Control(coords_score=coords_score),
        chunk_size=NUM_SAMPLES // 2,
    )  # fmt: skip
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
        assert np.abs(np.exp(2j * np.pi * CENTERS[1])).min() > 0.99


def test_an_unknown_score_is_refused():
    with pytest.raises(ValueError, match="coords_score is 'both'; allowed: marginal, conditional"):
        Control(coords_score="both")


# Properties.


def told(crystal, time, condition=None):
    """A stand-in for a network that is told `x`; NaN is what it says where nothing is asked."""
    x = jnp.zeros(crystal.batch_shape) if condition is None else condition.properties["x"]
    assert x.shape == crystal.batch_shape
    known = jnp.nan_to_num(x, nan=-1.0)[..., None, None]
    return Prediction(
        lattice=known * crystal.lattice,
        coords=known + crystal.frac_coords,
        types=known * jnp.arange(NUM_TYPES, dtype=jnp.float32) / 500
        + jnp.zeros((*crystal.atom_types.shape, NUM_TYPES)),
    )


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_guidance_is_its_formula(full, crystals, weight):
    asked = Condition(properties={"x": jnp.array([1.0, -2.0, 0.5, jnp.nan])})
    calls, t = [], jnp.full(4, 300)

    def counted(*arguments):
        calls.append(arguments)
        return told(*arguments)

    found = Control(guidance=weight, cell_bounds_angstrom=None).applied(full, counted, asked)(
        crystals, t
    )
    with_ = told(crystals, t, asked)
    without = told(crystals, t, Condition(properties={"x": jnp.full(4, jnp.nan)}))
    expected = jax.tree.map(lambda a, b: b + weight * (a - b), with_, without)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    assert len(calls) == (1 if weight == 1 else 2)
    assert np.abs(with_.lattice - without.lattice).max() > 1


def test_whole_numbers_are_guided_as_others(full, crystals):
    def types(values):
        asked = Condition(properties={"x": values})
        return Control(guidance=2.0).applied(full, told, asked)(crystals, jnp.full(4, 300)).types

    whole = jnp.array([1, 2, 3, 4])
    np.testing.assert_array_equal(types(whole), types(whole.astype(jnp.float32)))
    assert np.isfinite(types(whole)).all()


def test_the_order_is_guidance_elements_temperature_score(full, crystals):
    allowed = Condition.of_elements([3, 8, 26], 4).allowed_types
    asked = Condition(allowed, {"x": jnp.array([1.0, -2.0, 0.5, 3.0])})
    t, control = jnp.full(4, 900), Control(2.0, "marginal", 2.0)
    found = control.applied(full, told, asked)(crystals, t)
    guided = Control(guidance=2.0).applied(full, told, Condition(properties=asked.properties))
    plain = guided(crystals, t)
    logits = allow(plain.types, allowed[:, None]) / 2.0
    np.testing.assert_allclose(found.types, logits, rtol=1e-6)
    probs = jax.nn.softmax(logits) * full.types.transition(crystals.atom_types, t[:, None])
    # q(x_t | x_0) is symmetric, so that of x_0 = x_t is the evidence for every x_0.
    real = 1 - probs[..., MIRAGE] / probs.sum(-1)
    assert 0.2 < np.asarray(real)[np.asarray(crystals.mask)].min() < 0.8
    np.testing.assert_allclose(found.coords, plain.coords * real[..., None], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.lattice, plain.lattice)


@pytest.mark.parametrize("t", [900, 250, 150, 0])
def test_a_sample_that_is_led_to_a_number_of_atoms_decides_itself_at_the_end(full, crystals, t):
    two = jnp.full((len(crystals.lattice), 2), 2)
    odd = jnp.arange(len(two)) % 2 == 1

    def logits(**fields):
        asked = Control(cell_bounds_angstrom=None).applied(full, told, Condition(**fields))
        return np.asarray(asked(crystals, jnp.full(len(two), t)).types)

    free, held = logits(), logits(num_atoms=two)
    led = logits(num_atoms=two, num_is_led=odd)
    assert (free != held).any((1, 2)).all()
    np.testing.assert_array_equal(led[~odd], held[~odd])
    np.testing.assert_array_equal(led[odd], held[odd] if t >= LED_UNTIL * 1000 else free[odd])


@pytest.mark.parametrize("t", [0, 300, 999])
def test_a_cell_within_its_bounds_stays_bit_for_bit(full, t):
    rng = np.random.default_rng(5)
    cells = jnp.asarray(4 * np.eye(3) + rng.normal(size=(64, 3, 3)), jnp.float32)
    noise = jnp.asarray(rng.normal(size=(64, 3, 3)), jnp.float32)
    time = jnp.full(64, t)
    noised = full.lattice.add_noise(cells, time, noise)
    said = full.lattice.predicting(cells, noised, time)
    clean = np.asarray(full.lattice.clean(said, noised, time))
    values = np.linalg.svd(clean)[1]
    found = bounded(full.lattice, said, noised, time, (2.0, 6.0))
    inside = ((values > 2.01) & (values < 5.99)).all(-1)
    outside = ((values < 1.99) | (values > 6.01)).any(-1)
    assert inside.sum() > 5
    assert outside.sum() > 5
    np.testing.assert_array_equal(found[inside], said[inside])
    # The others are the nearest cell of those singular values, turned as they were.
    left, values, right = np.linalg.svd(clean.astype(float))
    nearest = (left * np.clip(values, 2, 6)[:, None]) @ right
    kept = full.lattice.clean(found, noised, time)
    np.testing.assert_allclose(
        kept[outside], nearest[outside], rtol=1e-3, atol=5e-2 if t == 999 else 1e-4
    )
    # Known cells, and no bounds, leave the prediction as it is.
    known = bounded(full.lattice, said, cells, jnp.full(64, -1), (2.0, 6.0))
    np.testing.assert_array_equal(known, said)


def test_bounds_mend_the_first_step(full):
    """A network that is 1 % off at the noisiest time makes cells of any size without them."""
    rng = np.random.default_rng(6)
    noised = jnp.asarray(rng.normal(size=(64, 3, 3)), jnp.float32)
    crystal = Crystal(
        noised, jnp.zeros((64, 1, 3)), jnp.ones((64, 1), jnp.int32), jnp.ones((64, 1), bool)
    )
    error = jnp.asarray(0.01 * rng.normal(size=(64, 3, 3)), jnp.float32)

    def denoise(crystal, time):
        return Prediction(
            crystal.lattice + error, jnp.zeros((64, 1, 3)), jnp.zeros((64, 1, NUM_TYPES))
        )

    t, s = jnp.full(64, 999), jnp.full(64, 979)
    widths = []
    for bounds in ((2.0, 50.0), None):
        said = Control(cell_bounds_angstrom=bounds).applied(full, denoise, None)(crystal, t)
        after = full.lattice.step(said.lattice, noised, t, s, jnp.zeros((64, 3, 3)))
        widths.append(np.abs(after).max())
    assert widths[0] < 3
    assert widths[1] > 20


def test_where_nothing_is_asked_the_network_is_given_no_condition(full, crystals):
    def two_arguments(crystal, time):
        return told(crystal, time)

    t = jnp.full(4, 300)
    plain = two_arguments(crystals, t)
    for condition in (None, Condition(), Condition.of_elements(range(1, 100), 4)):
        found = Control(cell_bounds_angstrom=None).applied(full, two_arguments, condition)(
            crystals, t
        )
        np.testing.assert_array_equal(found.lattice, plain.lattice)
        np.testing.assert_array_equal(found.coords, plain.coords)
        np.testing.assert_allclose(
            jax.nn.log_softmax(found.types), jax.nn.log_softmax(plain.types), atol=1e-5
        )


# A condition is carried beside each sample.


SHORT = make_diffusion(2)
SIZE, CHUNK = 3, 2


def says_its_property(crystal, time, condition):
    """Makes all atoms the element that its property names."""
    x = condition.properties["x"]
    assert x.shape == crystal.batch_shape
    types = 50 * jax.nn.one_hot(x.astype(jnp.int32), NUM_TYPES)[..., None, :]
    return Prediction(
        jnp.zeros_like(crystal.lattice),
        jnp.zeros_like(crystal.frac_coords),
        jnp.broadcast_to(types, (*crystal.atom_types.shape, NUM_TYPES)),
    )


def says_nothing(crystal, time):
    return told(crystal, time)


@pytest.fixture(scope="module")
def asked():
    return Condition(properties={"x": np.array([8, 3, 26, 11, 17, 50, 1], np.float32)})


@pytest.fixture(scope="module")
def seven(asked):
    return sample(SHORT, says_its_property, KEY, 7, SIZE, condition=asked, chunk_size=CHUNK)


def test_each_sample_is_asked_its_own(seven, asked):
    assert jax.local_device_count() == 2
    expected = np.tile(asked.properties["x"][:, None], SIZE)  # two rounds of two chunks of two
    np.testing.assert_array_equal(seven.atom_types, expected)


def test_a_condition_goes_with_its_sample_whatever_is_drawn_beside_it(monkeypatch, seven, asked):
    late = jax.tree.map(lambda x: x[3:6], asked)
    part = sample(
        SHORT, says_its_property, KEY, 3, SIZE,
        condition=late, first_index=3, chunk_size=CHUNK,
    )  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, part, seven[3:6])
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    alone = sample(SHORT, says_its_property, KEY, 7, SIZE, condition=asked, chunk_size=CHUNK)
    jax.tree.map(np.testing.assert_array_equal, alone, seven)


def test_each_sample_has_its_own_elements():
    own = np.array([8, 3, 26, 11, 17, 50, 1])
    condition = Condition(allowed_types=np.arange(NUM_TYPES) == own[:, None])
    crystals = sample(SHORT, says_nothing, KEY, 7, 5, condition=condition, chunk_size=CHUNK)
    types = np.asarray(crystals.atom_types)
    assert ((types == own[:, None]) | (types == MIRAGE)).all()
    assert (types == own[:, None]).any(1).all()
    # Without it, they hold other elements.
    free = np.asarray(sample(SHORT, says_nothing, KEY, 7, 5, chunk_size=CHUNK).atom_types)
    assert not ((free == own[:, None]) | (free == MIRAGE)).all()


def test_asking_nothing_changes_no_number():
    none, empty = (
        sample(SHORT, says_nothing, KEY, 3, SIZE, condition=condition, chunk_size=CHUNK)
        for condition in (None, Condition())
    )
    jax.tree.map(np.testing.assert_array_equal, none, empty)


@pytest.mark.parametrize("shape", [(6,), (8,), ()])
def test_a_condition_of_another_number_of_samples_is_refused(shape):
    condition = Condition(properties={"x": jnp.ones(shape)})
    with pytest.raises(ValueError, match=r"one entry for each of the 7 samples"):
        sample(SHORT, says_its_property, KEY, 7, SIZE, condition=condition)
    sampler = Sampler(SHORT, says_its_property, SIZE)
    with pytest.raises(ValueError, match=r"one entry for each of the 7 samples"):
        sampler.draw(sample_keys(KEY, np.arange(7)), np.full(7, SIZE), condition)
