"""Numbers beside crystals: what is missing is left out, what is no number is named."""

import numpy as np
import pytest

from miad_jax.evaluation.labels import numbers


def test_numbers_stay_and_missing_ones_are_nan():
    np.testing.assert_array_equal(numbers(np.array([1, 2]), "ab", "e"), [1.0, 2.0])
    text = np.array(["-2.1", "N/A", " ", "None", "nan", "-", "#N/A", "1e-3", "null", "—", "?"])
    found = numbers(text, list(map(str, range(len(text)))), "e")
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(found)), [0, 7])
    assert found[0] == -2.1


@pytest.mark.parametrize("text", ["-2,1", "-2.1 eV", "low", "1.2.3", "0x10"])
def test_what_is_no_number_is_named_with_its_row(text):
    with pytest.raises(ValueError, match=r"formation_energy of mp-7 is .*; allowed: a number"):
        numbers(np.array(["1.0", text]), ["mp-3", "mp-7"], "formation_energy")
