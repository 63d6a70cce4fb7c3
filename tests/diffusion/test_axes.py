"""Singular values and inverses of 3×3 matrices against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from miad_jax.diffusion.axes import inverse, principal_axes

RNG = np.random.default_rng(0)
MATRICES = {
    "normal": RNG.normal(size=(500, 3, 3)),
    "cells": 4 * np.eye(3) + RNG.normal(size=(500, 3, 3)),
    "large": 1e5 * RNG.normal(size=(50, 3, 3)),
    "needles": np.diag([1e3, 1.0, 1e-2]) @ np.linalg.qr(RNG.normal(size=(50, 3, 3)))[0],
    "diagonal": np.stack([np.diag([1.0, 1, 1]), np.diag([0.0, 2, 0]), np.zeros((3, 3))]),
    "left-handed": -np.eye(3)[None],
    "one row": np.eye(3)[None] * 0 + [[1.0, 2, 3], [0, 0, 0], [0, 0, 0]],
    "rank one": np.ones((1, 3, 3)),
}


@pytest.mark.parametrize("kind", MATRICES)
def test_axes_and_rows_are_a_singular_value_decomposition(kind):
    matrix = MATRICES[kind]
    axes, rows = (np.float64(x) for x in jax.jit(principal_axes)(jnp.float32(matrix)))
    size = np.abs(matrix).max()
    identity = np.broadcast_to(np.eye(3), matrix.shape)
    np.testing.assert_allclose(axes @ axes.swapaxes(1, 2), identity, atol=3e-6)
    np.testing.assert_allclose(axes.swapaxes(1, 2) @ rows, matrix, atol=3e-6 * max(size, 1))
    values = np.sort(np.linalg.norm(rows, axis=-1))[:, ::-1]
    expected = np.linalg.svd(matrix)[1]
    np.testing.assert_allclose(values, expected, rtol=2e-5, atol=1e-6 * size)
    # The rows are at right angles, as far as their lengths let one tell.
    unit = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-3 * size + 1e-30)
    inner = unit @ unit.swapaxes(1, 2)
    assert np.abs(inner - inner * np.eye(3)).max() < 1e-3


def test_small_singular_values_keep_their_digits():
    matrix = np.diag([1e3, 1.0, 1e-2]) @ np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    _, rows = principal_axes(jnp.float32(matrix))
    np.testing.assert_allclose(np.sort(np.linalg.norm(rows, axis=-1)), [1e-2, 1, 1e3], rtol=1e-4)


def test_the_inverse():
    matrix = MATRICES["cells"]
    found = np.float64(inverse(jnp.float32(matrix)))
    expected = np.linalg.inv(matrix)
    well = np.linalg.cond(matrix) < 20
    np.testing.assert_allclose(found[well], expected[well], rtol=1e-3, atol=1e-5)
