"""Building blocks: a product and an activation with hand-written gradients, a norm, and Linear."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float


def activations(dtype: DTypeLike) -> DTypeLike:
    """Precision of what stands between products in `dtype`: on a CPU float32.

    CPUs have instructions for products of bfloat16 with sums in float32, and for little else.
    """
    return jnp.float32 if jax.default_backend() == "cpu" else dtype


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(
    x: Float[Array, "*rows n"], kernel: Float[Array, "n m"], dtype: DTypeLike | None = None
) -> Float[Array, "*rows m"]:
    """X @ kernel as one two-dimensional product, in the precision of x.

    The gradient of the kernel is a contraction over rows, accumulated in the kernel's
    precision; automatic differentiation of the batched product would write transposed copies.

    Args:
        x: What is multiplied.
        kernel: By what.
        dtype: Precision of the factors; None for that of x.
    """
    rows = x.reshape(-1, x.shape[-1])
    product = _product(rows, kernel, (1, 0), dtype or x.dtype, x.dtype)
    return product.reshape(*x.shape[:-1], kernel.shape[1])


def _product(x, y, axes, dtype, sums):
    """The contraction of one axis of each, factors in `dtype`, sums in `sums`."""
    dimensions = (((axes[0],), (axes[1],)), ((), ()))
    factors = x.astype(dtype), y.astype(dtype)
    return jax.lax.dot_general(*factors, dimensions, preferred_element_type=sums)


def _matmul_forward(x, kernel, dtype):
    return matmul(x, kernel, dtype), (x, kernel)


def _matmul_backward(dtype, residuals, gradient):
    x, kernel = residuals
    dtype = dtype or x.dtype
    rows = x.reshape(-1, x.shape[-1])
    gradient_rows = gradient.reshape(-1, gradient.shape[-1])
    x_gradient = _product(gradient_rows, kernel, (1, 1), dtype, x.dtype)
    if x.dtype == dtype:
        kernel_gradient = _product(rows, gradient_rows, (0, 0), dtype, kernel.dtype)
    else:
        # XLA's products of bfloat16 on a CPU are quick only where the first factor's last axis is
        # contracted, and its transpositions are slow. The product with 1 turns it, and is exact.
        one = jnp.eye(rows.shape[1], dtype=dtype)
        turned = _product(one, rows, (1, 1), dtype, jnp.float32)
        kernel_gradient = _product(turned, gradient_rows, (1, 0), dtype, kernel.dtype)
    return x_gradient.reshape(x.shape), kernel_gradient


matmul.defvjp(_matmul_forward, _matmul_backward)


@jax.custom_vjp
def silu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """X · sigmoid(x) = x/2 · (1 + tanh(x/2)); the backward pass keeps x alone.

    Each pass has a formula of its own: where both hold the same sigmoid, the compiler computes
    it once, and writes and keeps it, which on a CPU costs more than computing it again.
    """
    half = _wide(x) / 2
    return (half + half * jnp.tanh(half)).astype(x.dtype)


def _silu_forward(x):
    return silu(x), x


def _silu_backward(x, gradient):
    wide = _wide(x)
    sigmoid = jax.nn.sigmoid(wide)
    return ((_wide(gradient) * sigmoid * (1 + wide * (1 - sigmoid))).astype(x.dtype),)


silu.defvjp(_silu_forward, _silu_backward)


def _wide(x: Array) -> Array:
    """Float32 for bfloat16, in which 1 + tanh has no digits left where x is negative."""
    return x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x


def normalised(x: Float[Array, "*rows n"]) -> Float[Array, "*rows n"]:
    """(x − mean)/√(variance + 1e-5) over the last dimension, computed in float32."""
    wide = _wide(x)
    centred = wide - wide.mean(-1, keepdims=True)
    variance = jnp.square(centred).mean(-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + 1e-5)).astype(x.dtype)


class Linear(nn.Module):
    """x @ kernel + bias, both drawn from U(±1/√fan_in), as in the published network.

    A Linear over concatenated inputs splits into one Linear for each input, added up; each then
    takes the fan-in of the whole, and one of them the bias.

    Attributes:
        features: Width of the output.
        fan_in: Width of the whole input; None for the width of x.
        use_bias: Whether to add a bias.
        dtype: Precision of the product's factors; parameters are float32.
        zero: Whether the parameters start at 0 instead.
    """

    features: int
    fan_in: int | None = None
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    zero: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*rows n"]) -> Float[Array, "*rows m"]:
        """Apply the layer to the last dimension."""
        bound = 0.0 if self.zero else (self.fan_in or x.shape[-1]) ** -0.5

        def uniform(key, shape):
            return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

        kernel = self.param("kernel", uniform, (x.shape[-1], self.features))
        y = matmul(x.astype(activations(self.dtype)), kernel, self.dtype)
        if not self.use_bias:
            return y
        return y + self.param("bias", uniform, (self.features,)).astype(y.dtype)
