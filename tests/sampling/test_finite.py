"""Samples that come to hold NaN are named by their number and the step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.diffusion.keys import sample_keys
from miad_jax.sampling import PredictorCorrector, Sampler, sample
from miad_jax.sampling.finite import first_not_finite, why_not_finite

KEY, SIZE = jax.random.key(3), 4


def breaking(crystal, time):
    """A denoiser that is NaN from time 11 down for crystals whose first atom is at x < 0.5."""
    from miad_jax.crystal import NUM_TYPES, Prediction

    is_bad = (time <= 11) & (crystal.frac_coords[:, 0, 0] < 0.5)
    bad = jnp.where(is_bad, jnp.nan, 0.0)[:, None, None]
    return Prediction(
        lattice=0.3 * crystal.lattice + bad,
        coords=jnp.zeros_like(crystal.frac_coords),
        types=jnp.zeros((*crystal.frac_coords.shape[:-1], NUM_TYPES)),
    )


def always(crystal, time):
    """A denoiser that is NaN."""
    prediction = breaking(crystal, time)
    return jax.tree.map(lambda x: x + jnp.nan, prediction)


@pytest.mark.slow
@pytest.mark.parametrize("every", [None, 3])
def test_the_step_and_the_samples_are_named(short, every):
    solver = PredictorCorrector(steps=20)
    sampler = Sampler(short, breaking, SIZE, solver=solver, chunk_size=2, steps_per_dispatch=7)
    keys = sample_keys(KEY, np.arange(7))
    more = {} if every is None else {"trajectory_every": every}
    crystals, num_real, *_ = sampler.draw(keys, np.full(7, SIZE), **more)
    first = first_not_finite(num_real)
    is_bad = ~np.isfinite(np.asarray(crystals.lattice)).all((1, 2))
    assert 0 < is_bad.sum() < 7
    np.testing.assert_array_equal(first > 0, is_bad)
    assert first[is_bad].min() == 9  # the times are 19, 18, …, 0
    for counts, step in zip(num_real, first, strict=True):
        assert (counts[: step - 1 if step else None] >= 0).all()
        assert not step or (counts[step - 1 :] == -1).all()
    with pytest.warns(UserWarning, match=rf"{is_bad.sum()} of 7 samples .*: sample \d+ from step"):
        sample(short, breaking, KEY, 7, SIZE, solver=solver, chunk_size=2, **more)


def test_only_such_samples_are_an_error(short):
    solver = PredictorCorrector(steps=3)
    expected = r"2 of 2 samples hold NaN .*: sample 5 from step 1, sample 6 from step 1 \(of 3 st"
    with pytest.raises(FloatingPointError, match=expected):
        sample(short, always, KEY, 2, SIZE, solver=solver, first_index=5)


def test_finite_samples_are_not_spoken_of():
    assert why_not_finite(np.full((3, 5), 2), range(3)) == ""
    many = np.full((7, 5), -1)
    assert why_not_finite(many, range(7)).count("from step 1") == 5
