"""The cell as a network sees it: numbers that no rotation changes, and the way back to vectors.

The lattice of a noised crystal is anything from a standard normal matrix, whose volume may be near
0, to cell vectors of 30 Å. All that is computed of it here grows like a logarithm.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from miad_jax.crystal import volume

SMOOTH = 0.1
"""Å² added to what a square root is taken of: a cell without volume has no sharp edge there."""

ITERATIONS = 18
"""Enough for cells whose longest side is 150 times √SMOOTH; a longer one is still bounded."""


def gram_matrix(lattice: Float[Array, "batch 3 3"]) -> Float[Array, "batch 3 3"]:
    """G = L Lᵀ, the scalar products of the cell vectors in Å²."""
    return _product(lattice, jnp.swapaxes(lattice, 1, 2))


def polar(
    lattice: Float[Array, "batch 3 3"],
) -> tuple[Float[Array, "batch 3 3"], Float[Array, "batch 3 3"]]:
    """L ≈ S Q: the symmetric stretch S = (G + δ)^(1/2) in Å, and the frame Q = (G + δ)^(−1/2) L.

    S does not change under a rotation or reflection of L, and Q turns with it. Both roots come of
    one Newton–Schulz iteration (Higham, "Functions of Matrices", Eq. 6.35), which is nothing but
    products of G: smooth, where the eigenvectors of a cubic cell are not.
    """
    gram = gram_matrix(lattice) + SMOOTH * jnp.eye(3)
    size = jnp.trace(gram, axis1=1, axis2=2)[:, None, None]

    def improve(_: Array, roots: tuple[Array, Array]) -> tuple[Array, Array]:
        root, inverse = roots
        step = 1.5 * jnp.eye(3) - 0.5 * _product(inverse, root)
        return _product(root, step), _product(step, inverse)

    start = gram / size, jnp.broadcast_to(jnp.eye(3), gram.shape)
    root, inverse = jax.lax.fori_loop(0, ITERATIONS, improve, start)
    return root * jnp.sqrt(size), _product(inverse, lattice) / jnp.sqrt(size)


def cell_features(
    lattice: Float[Array, "batch 3 3"], stretch: Float[Array, "batch 3 3"]
) -> Float[Array, "batch features"]:
    """`NUM_FEATURES` invariants: lengths on two scales, cosines, scalar products, volume, stretch.

    Lengths and products go through asinh, linear near 0 and logarithmic far from it; the volume V
    enters as log(1 + V)/3, close to log V^(1/3) for a cell that holds atoms.
    """
    gram = gram_matrix(lattice)
    lengths = jnp.sqrt(jnp.diagonal(gram, axis1=1, axis2=2) + SMOOTH**2)
    first, second = np.array([1, 0, 0]), np.array([2, 2, 1])
    products = gram[:, first, second]
    every = (
        jnp.arcsinh(4 * lengths),
        jnp.arcsinh(lengths / 4),
        products / (lengths[:, first] * lengths[:, second]),
        jnp.arcsinh(products),
        jnp.log1p(volume(lattice))[:, None] / 3,
        jnp.arcsinh(stretch[:, *np.triu_indices(3)]),
    )
    return jnp.concatenate(every, 1)


NUM_FEATURES = 19
"""Invariants that `cell_features` gives."""


def along_cell(
    coefficients: Float[Array, "batch 18"],
    lattice: Float[Array, "batch 3 3"],
    frame: Float[Array, "batch 3 3"],
) -> Float[Array, "batch 3 3"]:
    """ε̂ = A L/(1 + tr G/12) + B Q, of the 18 entries of A and B.

    That is M L with M invariant. The noisiest lattice is its own noise, which A ∝ I says. Of a cell
    of several Å the noise is a small part, of size 1 whatever the cell is, which B says: A is
    divided by the size of the cell, so that it does not disturb there.
    """
    a, b = jnp.moveaxis(coefficients.reshape(-1, 2, 3, 3), 1, 0)
    size = jnp.square(lattice).sum((1, 2), keepdims=True)
    return _product(a, lattice / (1 + size / 12)) + _product(b, frame)


def _product(a: Float[Array, "batch 3 3"], b: Float[Array, "batch 3 3"]) -> Array:
    """Products of 3×3 matrices in full precision, which fuse with what is around them."""
    return (a[:, :, :, None] * b[:, None]).sum(2)
