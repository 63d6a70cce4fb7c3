"""The smallest distance against brute force, and where a structure becomes valid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miad_jax.evaluation.validity.structure import is_valid_structure, min_distance


@pytest.mark.parametrize(
    ("distance", "volume", "valid"),
    [(0.5, 0.1, True), (0.499, 9.0, False), (3.0, 0.099, False), (np.inf, 0.1, True)],
)
def test_the_thresholds_belong_to_the_valid(distance, volume, valid):
    assert is_valid_structure(distance, volume) is valid


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), squeeze=st.floats(0.02, 1), shear=st.integers(-6, 6))
def test_min_distance_equals_brute_force(seed, squeeze, shear):
    rng = np.random.default_rng(seed)
    lattice = 4 * rng.normal(size=(3, 3))
    lattice[2] *= squeeze
    lattice[1] += shear * lattice[0]
    frac_coords = rng.normal(size=(3, 3))
    found = min_distance(lattice, frac_coords)

    normals = np.cross(lattice[[1, 2, 0]], lattice[[2, 0, 1]])
    heights = abs(np.linalg.det(lattice)) / np.linalg.norm(normals, axis=1)
    reach = np.ceil(found / heights).astype(int) + 1
    if np.prod(2 * reach + 1) > 500_000:
        return
    shifts = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach]), -1).reshape(-1, 3)
    expected = min(
        np.linalg.norm(((frac_coords[j] - frac_coords[i]) % 1 + shifts) @ lattice, axis=1).min()
        for i, j in [(0, 1), (0, 2), (1, 2)]
    )
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("pair", [0, 4095, 4096, -1])
def test_min_distance_of_many_atoms(pair):
    frac_coords = np.random.default_rng(1).random((150, 3))
    first, second = np.triu_indices(150, k=1)
    frac_coords[second[pair]] = frac_coords[first[pair]] + [0.001, 0, 1]
    assert min_distance(10 * np.eye(3), frac_coords) == pytest.approx(0.01)
