"""Singular values of 3×3 matrices, in arithmetic alone: no call of a linear algebra library.

A program on two CPU devices that called one in its loop was seen to hang.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Matrix = Float[Array, "*batch 3 3"]

NUM_SWEEPS = 6
"""Jacobi's rotations converge quadratically: after five sweeps float32 has no more digits."""


def principal_axes(matrix: Matrix) -> tuple[Matrix, Matrix]:
    """Uᵀ and Uᵀ A of A = U S Vᵀ, by one-sided Jacobi rotations (Hestenes 1958).

    The rows of Uᵀ A are at right angles, and their lengths are the singular values, each with
    the digits of float32 whatever the others are.

    Args:
        matrix: Any real matrices.

    Returns:
        The left singular vectors as rows, and what they make of the matrix; in no order.

    Example:
        >>> matrix = jnp.array([[0.0, 2.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        >>> axes, rows = principal_axes(matrix)
        >>> jnp.linalg.norm(rows, axis=-1).tolist()
        [2.0, 3.0, 1.0]
    """

    def sweep(_: Int[Array, ""], state: tuple[Matrix, Matrix]) -> tuple[Matrix, Matrix]:
        axes, rows = state
        for p, q in ((0, 1), (0, 2), (1, 2)):
            first, second = rows[..., p, :], rows[..., q, :]
            inner = (first * second).sum(-1)
            gap = jnp.square(second).sum(-1) - jnp.square(first).sum(-1)
            # tan of the angle after which the two rows are at right angles, the smaller of two.
            root = jnp.sqrt(jnp.square(gap) + 4 * jnp.square(inner))
            sign = jnp.where(gap < 0, -1.0, 1.0)
            tan = sign * 2 * inner / jnp.maximum(jnp.abs(gap) + root, _TINY)
            cos = jax.lax.rsqrt(1 + jnp.square(tan))
            sin = cos * tan
            axes, rows = (_rotated(x, p, q, cos, sin) for x in (axes, rows))
        return axes, rows

    axes = jnp.broadcast_to(jnp.eye(3, dtype=matrix.dtype), matrix.shape)
    return jax.lax.fori_loop(0, NUM_SWEEPS, sweep, (axes, matrix))


def inverse(matrix: Matrix) -> Matrix:
    """A⁻¹ from the cross products of the rows of A.

    Example:
        >>> inverse(jnp.diag(jnp.array([1.0, 2.0, 4.0]))).diagonal().tolist()
        [1.0, 0.5, 0.25]
    """
    a, b, c = (matrix[..., i, :] for i in range(3))
    columns = jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)], -1)
    return columns / (a * jnp.cross(b, c)).sum(-1)[..., None, None]


_TINY = 1e-37


def _rotated(
    x: Matrix, p: int, q: int, cos: Float[Array, "*batch"], sin: Float[Array, "*batch"]
) -> Matrix:
    """Rows p and q turned into each other."""
    first, second = x[..., p, :], x[..., q, :]
    cos, sin = cos[..., None], sin[..., None]
    x = x.at[..., p, :].set(cos * first - sin * second)
    return x.at[..., q, :].set(sin * first + cos * second)
