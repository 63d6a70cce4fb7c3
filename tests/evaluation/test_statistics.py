import warnings

import numpy as np
import pytest
from scipy.stats import binomtest

from miad_jax.evaluation.statistics import Rate, bootstrap, wilson


@pytest.mark.parametrize(("count", "total"), [(0, 5), (5, 5), (1, 1), (7, 20), (140, 1000)])
def test_the_interval_is_wilsons(count, total):
    expected = binomtest(count, total).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(wilson(count, total), (expected.low, expected.high), atol=1e-12)


@pytest.mark.parametrize(("count", "total"), [(1, 0), (-1, 5), (6, 5)])
def test_what_is_no_share_is_refused(count, total):
    with pytest.raises(ValueError, match=f"{count} of {total} is no share"):
        wilson(count, total)


def test_a_rate_of_nothing_has_no_value():
    nothing = Rate("stable", 0, 0, "")
    assert nothing.value is None
    assert nothing.interval is None
    assert Rate("stable", 1, 4, "").value == 0.25


def test_the_bootstrap_covers_the_mean_of_a_normal():
    sample = np.random.default_rng(3).normal(2.0, 1.0, 400)
    low, high = bootstrap(np.mean, sample)
    error = sample.std() / 20
    np.testing.assert_allclose(
        [low, high], sample.mean() + np.array([-1.96, 1.96]) * error, atol=0.02
    )
    assert bootstrap(np.mean, sample) == (low, high)


@pytest.mark.parametrize(
    ("samples", "interval"),
    [
        ([[3.0]], (3, 3)),
        ([[2.0, 2.0]], (2, 2)),
        ([[1.0], [1.0, 4.0]], (-3, 0)),
        ([[1.0], [0.5]], (0.5, 0.5)),
    ],
)
def test_samples_with_little_to_draw_have_an_interval(samples, interval):
    def difference(first, second=0.0):
        return np.mean(first) - np.mean(second)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bootstrap(difference, *map(np.array, samples)) == interval
