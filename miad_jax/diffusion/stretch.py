"""The six numbers of a cell: the logarithm of its stretch, in a basis of symmetric matrices."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from miad_jax.diffusion.axes import principal_axes

Lattice = Float[Array, "*batch 3 3"]
Numbers = Float[Array, "*batch 6"]

BASIS = np.zeros((6, 3, 3), np.float32)
"""B_i, orthonormal: shears ab, ac, bc; a against b; a and b against c; the trace, ln V = √3 k_6."""
for _i, (_row, _column) in enumerate([(0, 1), (0, 2), (1, 2)]):
    BASIS[_i, _row, _column] = BASIS[_i, _column, _row] = np.sqrt(1 / 2)
BASIS[3] = np.diag([1, -1, 0]) / np.sqrt(2)
BASIS[4] = np.diag([1, 1, -2]) / np.sqrt(6)
BASIS[5] = np.eye(3) / np.sqrt(3)


def log_of(lattice: Lattice) -> Numbers:
    """The k of L = exp(Σ k_i B_i) Q: S = ½ log L Lᵀ, whatever the orientation Q.

    With u_i the left singular vectors, S = Σ log|u_i L| u_i u_iᵀ.

    Example:
        >>> k = jnp.array([0.5, 0.25, 0.25, 0.5, 0.25, 3.0])
        >>> bool(jnp.allclose(log_of(exp_of(k)), k, atol=1e-5))
        True
    """
    axes, rows = principal_axes(lattice)
    lengths = jnp.linalg.norm(rows, axis=-1)
    return on_basis(_of_axes(jnp.log(lengths), axes))


def exp_of(k: Numbers) -> Lattice:
    """exp(Σ k_i B_i), symmetric and positive definite.

    Example:
        >>> exp_of(3**0.5 * jnp.log(4) * jnp.eye(6)[5])[0].round(3).tolist()
        [4.0, 0.0, 0.0]
    """
    matrix = product("...k,kij->...ij", k, BASIS)
    # With what makes it positive, eigenvalues are singular values.
    shift = jnp.linalg.norm(k, axis=-1)[..., None]
    axes, rows = principal_axes(matrix + shift[..., None] * jnp.eye(3))
    values = jnp.linalg.norm(rows, axis=-1) - shift
    return _of_axes(jnp.exp(values), axes)


def on_basis(matrix: Lattice) -> Numbers:
    """⟨B_i, A⟩ = Σ (B_i ⊙ A), which an antisymmetric part of A does not change."""
    return product("kij,...ij->...k", BASIS, matrix)


def _of_axes(values: Float[Array, "*batch 3"], axes: Lattice) -> Lattice:
    """Σ λ_i u_i u_iᵀ; the u_i are rows."""
    return product("...ji,...j,...jk->...ik", axes, values, axes)


def product(indices: str, *matrices: Array | np.ndarray) -> Array:
    """A product in full float32, on accelerators too."""
    return jnp.einsum(indices, *matrices, precision="highest")
