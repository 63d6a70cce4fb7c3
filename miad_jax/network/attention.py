"""A transformer's layer whose attention knows what stands between two tokens."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from miad_jax.network.layers import Linear, activations, normalised, silu

Tokens = Float[Array, "batch tokens hidden"]


class Block(nn.Module):
    """h ← h + g₁ · Attention(h̃), h ← h + g₂ · MLP(h̃), conditioned by adaLN-Zero.

    h̃ = (1 + s) · normalised(h) + b, where s, b and the gates g are linear in SiLU(c) and start at
    0 (arXiv:2212.09748).

    Attributes:
        hidden_dim: Width of a token.
        num_heads: Heads of the attention; divides the width.
        dtype: Precision of matrix products.
    """

    hidden_dim: int
    num_heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        h: Tokens,
        c: Float[Array, "batch hidden"],
        bias: Float[Array, "batch {self.num_heads} tokens tokens"],
        pairs: Float[Array, "batch tokens tokens channels"],
    ) -> Tokens:
        """Update the tokens.

        Args:
            h: Tokens, float32.
            c: What is known of the whole crystal, after SiLU.
            bias: What is added to the logits; −∞ where the other token is padding.
            pairs: Channels of every pair.
        """
        width, dtype, kept = self.hidden_dim, self.dtype, activations(self.dtype)
        told = Linear(6 * width, zero=True, name="adaptive")(c)[:, None]
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = jnp.split(told, 6, -1)
        x = (normalised(h) * (1 + scale) + shift).astype(kept)
        x = PairAttention(self.num_heads, dtype, name="attention")(x, bias, pairs)
        h = h + gate * x.astype(jnp.float32)
        x = (normalised(h) * (1 + mlp_scale) + mlp_shift).astype(kept)
        x = silu(Linear(3 * width, dtype=dtype, name="mlp_in")(x))
        x = Linear(width, dtype=dtype, name="mlp_out")(x)
        return h + mlp_gate * x.astype(jnp.float32)


class PairAttention(nn.Module):
    """Linear(Σ_j a_ij v_j ‖ Σ_j a_ij p_ij) over heads, a = softmax_j(q̂_i · k̂_j + bias_ij).

    The second sum carries direction: p_ij holds sines of coordinate differences, which are odd.

    Attributes:
        num_heads: Number of heads.
        dtype: Precision of matrix products; the softmax is in float32.
    """

    num_heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        x: Tokens,
        bias: Float[Array, "batch {self.num_heads} tokens tokens"],
        pairs: Float[Array, "batch tokens tokens channels"],
    ) -> Tokens:
        """Attend to all tokens."""
        (batch, size, width), heads, dtype = x.shape, self.num_heads, self.dtype
        qkv = Linear(3 * width, dtype=dtype, name="qkv")(x)
        q, k, v = jnp.moveaxis(qkv.reshape(batch, size, 3, heads, width // heads), 2, 0)
        sharpness = self.param("sharpness", nn.initializers.ones, (heads, width // heads))
        q = normalised(q) * (sharpness * (width // heads) ** -0.5).astype(x.dtype)
        logits = jnp.einsum("bihd,bjhd->bhij", q, normalised(k), preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits + bias.astype(jnp.float32), -1).astype(x.dtype)
        values = jnp.einsum("bhij,bjhd->bihd", weights, v).reshape(batch, size, -1)
        between = jnp.einsum("bhij,bijc->bihc", weights, pairs).reshape(batch, size, -1)
        fan_in = values.shape[-1] + between.shape[-1]
        out = Linear(width, fan_in, True, dtype, name="from_values")(values)
        return out + Linear(width, fan_in, False, dtype, name="from_pairs")(between)
