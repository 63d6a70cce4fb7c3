"""The cell as a network sees it: numbers that no rotation changes, and the way back to vectors.

The lattice of a noised crystal is anything from a standard normal matrix, whose volume may be near
0, to cell vectors of 30 Å. All that is computed of it here grows like a logarithm.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from miad_jax.crystal import volume

SHORT = 0.1
"""A length in Å below which a cell vector counts as none, squared: the square root stays smooth."""


def gram_matrix(lattice: Float[Array, "batch 3 3"]) -> Float[Array, "batch 3 3"]:
    """G = L Lᵀ, the scalar products of the cell vectors in Å²."""
    return jnp.einsum("bij,bkj->bik", lattice, lattice, precision="highest")


def cell_lengths(gram: Float[Array, "batch 3 3"]) -> Float[Array, "batch 3"]:
    """Lengths of the cell vectors in Å, never 0."""
    return jnp.sqrt(jnp.diagonal(gram, axis1=1, axis2=2) + SHORT**2)


def cell_features(lattice: Float[Array, "batch 3 3"]) -> Float[Array, "batch 13"]:
    """Invariants of the cell: lengths on two scales, cosines, scalar products and the volume.

    Lengths and scalar products go through asinh, linear near 0 and logarithmic far from it; the
    volume V enters as log(1 + V)/3, close to log V^(1/3) for a cell that holds atoms.
    """
    gram = gram_matrix(lattice)
    lengths = cell_lengths(gram)
    products = jnp.stack([gram[:, 1, 2], gram[:, 0, 2], gram[:, 0, 1]], 1)
    cosines = products / (lengths[:, jnp.array([1, 0, 0])] * lengths[:, jnp.array([2, 2, 1])])
    scale = jnp.log1p(volume(lattice))[:, None] / 3
    return jnp.concatenate(
        [jnp.arcsinh(4 * lengths), jnp.arcsinh(lengths / 4), cosines, jnp.arcsinh(products), scale],
        1,
    )


def along_cell(
    coefficients: Float[Array, "batch 18"], lattice: Float[Array, "batch 3 3"]
) -> Float[Array, "batch 3 3"]:
    """ε̂ = M L with M = A + B diag(1/|l_i|), of the 18 entries of A and B.

    The noisiest lattice is its own noise, ε̂ = L, which is A = I. Of one of several Å the noise is a
    small part, of size 1 whatever the lengths of the cell are, which is B along unit vectors.
    """
    a, b = jnp.moveaxis(coefficients.reshape(-1, 2, 3, 3), 1, 0)
    matrix = a + b / cell_lengths(gram_matrix(lattice))[:, None]
    return jnp.einsum("bij,bjk->bik", matrix, lattice, precision="highest")
