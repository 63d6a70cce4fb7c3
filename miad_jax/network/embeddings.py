"""What the network sees instead of bare numbers: sinusoids of time and of coordinate differences.

For fully connected crystals the Fourier features are needed once for all layers, and for pairs
i < j only: sin(f_i − f_j) = −sin(f_j − f_i), the cosines are equal, and on the diagonal the
sines are 0 and the cosines 1.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def time_embedding(
    time: Int[Array, "*batch"], num_steps: int, width: int
) -> Float[Array, "*batch width"]:
    """[sin(τ ω_k), cos(τ ω_k)] with τ = 1000 t/T + 1 and ω_k = 10000^(−k/(width/2 − 1))."""
    half = width // 2
    tau = 1000 * time.astype(jnp.float32) / num_steps + 1
    frequency = np.exp(-np.log(10000) * np.arange(half) / (half - 1)).astype(np.float32)
    angle = tau[..., None] * frequency
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def fourier_features(
    difference: Float[Array, "*rows 3"], num_freqs: int, first: int = 0
) -> tuple[Float[Array, "*rows waves"], Float[Array, "*rows waves"]]:
    """sin(2πk x_d) and cos(2πk x_d) for `num_freqs` k from `first` on; d outer, k inner.

    The phase k x_d is reduced modulo 1 before it meets π, so that integer shifts of a
    coordinate cost no digits.
    """
    phase = difference[..., None] * jnp.arange(first, first + num_freqs, dtype=difference.dtype)
    turns = (phase - jnp.round(phase)).reshape(*difference.shape[:-1], 3 * num_freqs)
    return _sine_of_turns(turns), _sine_of_turns(0.25 - jnp.abs(turns))


def _sine_of_turns(turns: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """sin(2πr) for |r| ≤ 1/2: Taylor's series after folding to |r| ≤ 1/4, where it ends at 1e-15.

    The compiler's own sine takes arguments of any size, on a CPU one number at a time.
    """
    folded = jnp.minimum(jnp.abs(turns), 0.5 - jnp.abs(turns))
    square = folded * folded
    series = jnp.polyval(jnp.asarray(_SINE_OF_TURNS, square.dtype), square)
    return jnp.where(turns < 0, -folded, folded) * series


_SINE_OF_TURNS = [
    (-1) ** n * (2 * math.pi) ** (2 * n + 1) / math.factorial(2 * n + 1) for n in range(9, -1, -1)
]


def pair_differences(
    frac_coords: Float[Array, "batch atoms 3"],
) -> Float[Array, "batch pairs 3"]:
    """f_j − f_i for all i < j, in row-major order."""
    i, j = np.triu_indices(frac_coords.shape[1], 1)
    return frac_coords[:, j] - frac_coords[:, i]


@jax.custom_vjp
def mirror_pairs(
    even: Float[Array, "batch pairs width"],
    odd: Float[Array, "batch pairs width"],
    diagonal: Float[Array, " width"],
) -> Float[Array, "batch edges width"]:
    """Spread pairs i < j over all edges: E_ij = even + odd, E_ji = even − odd, E_ii = diagonal.

    Edges come in row-major order, E_ij at i · N + j. Both directions are gathers of whole rows:
    the backward pass has no scatter.
    """
    upper, lower, diagonal_rows = _edge_rows(even.shape[1])
    table = jnp.concatenate(
        [even + odd, even - odd, jnp.broadcast_to(diagonal, (even.shape[0], 1, even.shape[2]))], 1
    )
    source = np.empty(diagonal_rows.size**2, np.int32)
    source[upper] = np.arange(upper.size)
    source[lower] = np.arange(lower.size) + upper.size
    source[diagonal_rows] = 2 * upper.size
    return _take_rows(table, source)


def _mirror_forward(even, odd, diagonal):
    return mirror_pairs(even, odd, diagonal), None


def _mirror_backward(_, gradient):
    num_atoms = round(gradient.shape[1] ** 0.5)
    upper, lower, diagonal_rows = _edge_rows(num_atoms * (num_atoms - 1) // 2)
    above, below = _take_rows(gradient, upper), _take_rows(gradient, lower)
    return above + below, above - below, _take_rows(gradient, diagonal_rows).sum((0, 1))


mirror_pairs.defvjp(_mirror_forward, _mirror_backward)


def _edge_rows(num_pairs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the edges ij, ji (i < j) and ii among the N² edges."""
    num_atoms = round((1 + (1 + 8 * num_pairs) ** 0.5) / 2)
    i, j = np.triu_indices(num_atoms, 1)
    return i * num_atoms + j, j * num_atoms + i, np.arange(num_atoms) * (num_atoms + 1)


def _take_rows(x: Float[Array, "batch rows width"], rows: np.ndarray) -> Array:
    """Rows of every crystal, by one gather whose output needs no other layout."""
    batch, size, width = x.shape
    every = (np.arange(batch, dtype=np.int32)[:, None] * size + rows).reshape(-1)
    taken = x.reshape(-1, width).at[every].get(mode="promise_in_bounds")
    return taken.reshape(batch, rows.size, width)
