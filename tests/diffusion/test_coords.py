import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miad_jax.diffusion.coords import WrappedNormal, negative_score
from miad_jax.diffusion.schedules import score_sq_mean
from miad_jax.sampling.corrector import langevin_step

SIGMA = 0.005 * 100 ** (np.arange(1000) / 999)


@pytest.fixture(scope="module")
def process(full):
    return full.coords


@pytest.fixture(scope="module")
def score():
    return jax.jit(negative_score)


def score_oracle(d, sigma, num_images=10):
    """Ratio of the two sums, in float64; d within a cell of 0."""
    images = np.asarray(d, np.float64)[..., None] + np.arange(-num_images, num_images + 1)
    variance = np.float64(sigma)[..., None] ** 2
    exponent = -(images**2) / (2 * variance)
    weight = np.exp(exponent - exponent.max(-1, keepdims=True))
    return (weight * images / variance).sum(-1) / weight.sum(-1)


def each_atom(t):
    """One time for all atoms of a crystal."""
    return jnp.asarray(t)[:, None]


def test_the_score_is_that_of_the_explicit_mixture(score):
    """Automatic differentiation of log Σ_k exp(−(d+k)²/2σ²) in float64."""
    d = np.linspace(-0.49, 0.49, 99)
    with jax.enable_x64():

        def log_mixture(d, sigma):
            image = jnp.arange(-10.0, 11.0)
            return jax.nn.logsumexp(-((d + image) ** 2) / (2 * sigma**2))

        gradient = jax.vmap(jax.vmap(jax.grad(log_mixture), (0, None)), (None, 0))
        autodiff = -np.asarray(gradient(jnp.asarray(d), jnp.asarray(SIGMA[::37])))
    np.testing.assert_allclose(
        autodiff, score_oracle(d, SIGMA[::37, None] + 0 * d), rtol=1e-9, atol=1e-9
    )
    x, sigma = np.broadcast_arrays(np.float32(d), np.float32(SIGMA[::37, None]))
    ours = score(jnp.asarray(x), jnp.asarray(sigma))
    np.testing.assert_allclose(ours, score_oracle(x, sigma), rtol=1e-4, atol=3e-4)


def test_the_score_equals_the_published_where_that_is_finite(golden, score):
    g = golden("schedules")
    x, sigma = np.meshgrid(g["score_x"], g["score_sigma"], indexing="ij")
    ours = np.asarray(score(jnp.asarray(x), jnp.asarray(sigma)))
    finite = np.isfinite(g["score_value"])
    assert (~finite).sum() == 146
    assert np.isfinite(ours).all()
    np.testing.assert_allclose(ours[finite], g["score_value"][finite], rtol=1e-4, atol=3e-4)
    # Where the published code divides 0 by 0, the exact value.
    wrapped = np.float64(x) - np.round(np.float64(x))
    np.testing.assert_allclose(
        ours[~finite], score_oracle(wrapped, sigma)[~finite], rtol=2e-3, atol=3e-4
    )


@settings(max_examples=100)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_the_score_is_finite_everywhere(score, d):
    sigma = jnp.asarray(SIGMA, jnp.float32)
    value = np.asarray(score(jnp.full(1000, d, jnp.float32), sigma))
    assert np.isfinite(value).all()
    assert (np.abs(value) * SIGMA**2 <= 0.5 + 1e-6).all()


@pytest.mark.parametrize("cell", [-1.0, 0.0, 1.0, 6.0])
def test_the_score_is_finite_at_the_jump(score, cell):
    """Half a cell away the two nearest images weigh the same, and their pulls cancel."""
    jump = np.float32(0.5 + cell)
    sigma = jnp.asarray(SIGMA, jnp.float32)
    at, below, above = (
        np.asarray(score(jnp.full(1000, d, jnp.float32), sigma))
        for d in (jump, jump - np.float32(0.01), jump + np.float32(0.01))
    )
    np.testing.assert_allclose(at * SIGMA**2, 0, atol=1e-6)
    assert np.isfinite(below).all()
    np.testing.assert_allclose(above, -below, rtol=1e-2, atol=3e-4)
    assert (below[:500] > 0).all(), "the negative score points away from the nearest image"


def test_noising_wraps(process):
    rng = np.random.default_rng(0)
    clean = rng.random((3, 4, 3)).astype(np.float32)
    noise = rng.normal(size=(3, 4, 3)).astype(np.float32)
    t = np.array([0, 500, 999])
    noised = process.add_noise(jnp.asarray(clean), each_atom(t), jnp.asarray(noise))
    expected = np.float64(clean) + SIGMA[t][:, None, None] * np.float64(noise)
    assert (expected > 1).any()
    assert (expected < 0).any()
    difference = np.float64(noised) - expected
    np.testing.assert_allclose(difference, np.round(difference), atol=1e-6)
    assert noised.min() >= 0
    assert noised.max() < 1


def test_the_target_is_the_score_with_unit_variance(process):
    noise = np.random.default_rng(1).normal(size=(5, 4000, 3)).astype(np.float32)
    t = np.array([0, 300, 600, 900, 999])
    target = np.float64(process.target(each_atom(t), jnp.asarray(noise)))
    rms = np.sqrt(np.float64(process.score_sq_mean)[t])[:, None, None]
    sigma = SIGMA[t][:, None, None] + 0 * noise
    d = sigma * noise
    expected = score_oracle(d - np.round(d), sigma) / rms
    np.testing.assert_allclose(target, expected, rtol=1e-3, atol=1e-3)
    # The score itself is the target in its own unit, with its sign.
    np.testing.assert_allclose(
        process.score(jnp.asarray(target, jnp.float32), each_atom(t)), -rms * target, rtol=1e-5
    )
    # Four standard errors, the fourth moment taken from the draws.
    square = target.reshape(5, -1) ** 2
    error = 4 * square.std(-1) / np.sqrt(square.shape[1])
    assert (np.abs(square.mean(-1) - 1) < error).all()


@pytest.fixture(scope="module")
def moved():
    """Coordinates, a prediction, noise, and times of four crystals."""
    rng = np.random.default_rng(2)
    start = rng.random((4, 2, 3))
    drawn = (start, *rng.normal(size=(2, 4, 2, 3)))
    return [jnp.asarray(x, jnp.float32) for x in drawn], np.array([0, 1, 400, 999])


def test_the_corrector_follows_its_formula(process, moved):
    (start, said, z), t = moved
    gamma = 1e-4
    rms = np.sqrt(np.float64(process.score_sq_mean)[t])[:, None, None]
    size = gamma * (SIGMA[t][:, None, None] / 0.005) ** 2
    expected = np.float64(start) - size * rms * np.float64(said)
    expected += np.sqrt(2 * size) * np.float64(z)
    corrected = langevin_step(process, start, said, each_atom(t), z, gamma=gamma)
    np.testing.assert_allclose(corrected, expected, rtol=1e-4, atol=1e-5)
    assert (corrected < 0).any() or (corrected > 1).any(), "the corrector does not wrap"
    # h = γ (σ_t/σ_0)²: γ itself at the least noisy level, 10⁴ γ at the noisiest.
    size = np.square(langevin_step(process, start * 0, said * 0, each_atom(t), z, gamma=gamma) / z)
    np.testing.assert_allclose(size[jnp.array([0, -1])].mean((1, 2)) / 2, [1e-4, 1], rtol=1e-4)


@pytest.mark.parametrize("gap", [1, 250, 1000], ids=["next", "respaced", "to clean"])
def test_a_step_follows_its_formula(process, moved, gap):
    (start, said, z), t = moved
    s = np.maximum(t - gap, -1)
    sigma, before = (np.append(SIGMA, 0.0)[x][:, None, None] for x in (t, s))
    assert before[0] == 0
    rms = np.sqrt(np.float64(process.score_sq_mean)[t])[:, None, None]
    g = sigma**2 - before**2
    expected = np.float64(start) - g * rms * np.float64(said)
    expected += np.sqrt(before**2 * g / sigma**2) * np.float64(z)
    stepped = process.step(said, start, each_atom(t), each_atom(s), z)
    difference = np.float64(stepped) - expected
    np.testing.assert_allclose(difference, np.round(difference), atol=1e-5)
    assert stepped.min() >= 0
    assert stepped.max() < 1


def test_a_step_to_the_same_time_stays(process, moved):
    (start, said, z), t = moved
    np.testing.assert_array_equal(
        process.step(said, start, each_atom(t), each_atom(t), z), np.asarray(start)
    )


def test_the_loss_is_the_mean_over_three_directions(process):
    rng = np.random.default_rng(3)
    said, noise = (jnp.asarray(x, jnp.float32) for x in rng.normal(size=(2, 2, 3, 3)))
    t = each_atom([0, 700])
    target = np.float64(process.target(t, noise))
    expected = ((np.float64(said) - target) ** 2).mean(-1)
    np.testing.assert_allclose(process.loss(said, said, said, t, noise), expected, rtol=1e-5)


# A wide σ, as of MatterGen.


def test_the_score_of_wide_noise_is_that_of_float64():
    displacement = np.linspace(-0.5, 0.5, 101)
    images = displacement[:, None] + np.arange(-60, 61)
    for sigma in (0.5, 0.7, 0.749, 0.75, 0.751, 0.8):
        weight = np.exp(-0.5 * (images / sigma) ** 2)
        # Sums of images cancel to 1e-7: compared with what they leave of the largest score.
        expected = (weight * images).sum(1) / weight.sum(1) / sigma**2
        found = negative_score(jnp.float32(displacement), jnp.full(101, sigma, jnp.float32))
        np.testing.assert_allclose(found, expected, atol=3e-3 * np.abs(expected).max())


def test_wide_noise_is_finite_at_every_time_and_teaches_nothing_in_the_end():
    process = WrappedNormal.make(1000, sigma_max=5.0)
    t = jnp.arange(1000)[:, None]
    noise = jax.random.normal(jax.random.key(0), (1000, 1, 3))
    target = process.target(t, noise)
    place = process.add_noise(jnp.zeros((1000, 1, 3)), t, noise)
    assert np.isfinite(target).all()
    assert np.abs(target[900:]).max() < 1e-3
    assert np.isfinite(process.predicting(place, jnp.zeros_like(place), t)).all()
    for s in (t - 1, jnp.full_like(t, -1)):
        moved = process.step(noise, place, t, s, noise)
        assert (moved >= 0).all()
        assert (moved < 1).all()


def test_the_mean_square_of_the_score_is_one_curve():
    sigma = np.array([0.74, 0.7499, 0.7501, 0.76])
    wide = 8 * np.pi**2 * np.exp(-4 * np.pi**2 * sigma**2)
    np.testing.assert_allclose(score_sq_mean(sigma), wide, rtol=1e-6)
