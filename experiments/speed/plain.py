"""CSPNet the plain way: gather, concatenate, segment mean, and automatic differentiation.

This is how the published code and most graph networks are written, and what the package's own
network is timed against. `edges` are arguments: constant indices would be folded by the compiler.
"""

from __future__ import annotations

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Float, Int

from miad_jax.crystal import NUM_TYPES, Crystal, Prediction
from miad_jax.network import CSPNet
from miad_jax.network.embeddings import time_embedding

Edges = tuple[Int[Array, " edges"], Int[Array, " edges"], Int[Array, " edges"]]


class PlainCSPNet(nn.Module):
    """The same function as `miad_jax.CSPNet`, of parameters made by `plain_params`."""

    hidden_dim: int
    num_layers: int
    num_freqs: int
    time_dim: int
    num_steps: int

    @nn.compact
    def __call__(
        self, crystal: Crystal, time: Int[Array, " batch"], edges: Edges
    ) -> tuple[Float[Array, "batch 3 3"], Float[Array, "nodes 3"], Float[Array, "nodes types"]]:
        """Predict the noise; `edges` are receivers, senders, and the crystal of each edge."""
        batch, size = crystal.atom_types.shape
        receivers, senders, crystal_of_edge = edges
        frac_coords = crystal.frac_coords.reshape(-1, 3)
        crystal_of_node = crystal_of_edge.reshape(-1, size)[:, 0]

        h = nn.Dense(self.hidden_dim, name="node_embedding")(
            jax.nn.one_hot(crystal.atom_types.reshape(-1), NUM_TYPES)
        )
        time = time_embedding(time, self.num_steps, self.time_dim)[crystal_of_node]
        h = nn.Dense(self.hidden_dim, name="latent")(jnp.concatenate([h, time], -1))
        gram = jnp.einsum("bij,bkj->bik", crystal.lattice, crystal.lattice).reshape(-1, 9)
        difference = frac_coords[senders] - frac_coords[receivers]
        phase = difference[..., None] * jnp.arange(self.num_freqs, dtype=jnp.float32)
        angle = (2 * jnp.pi * (phase - jnp.round(phase))).reshape(len(senders), -1)
        waves = jnp.sin(angle), jnp.cos(angle)
        for k in range(self.num_layers):
            normed = _layer_norm(f"layer_norm_{k}")(h)
            edge = [normed[receivers], normed[senders], gram[crystal_of_edge], *waves]
            message = nn.silu(self._dense(f"edge_in_{k}")(jnp.concatenate(edge, -1)))
            message = nn.silu(self._dense(f"edge_out_{k}")(message))
            mean = jraph.segment_mean(message, receivers, batch * size)
            update = nn.silu(self._dense(f"node_in_{k}")(jnp.concatenate([normed, mean], -1)))
            h = h + nn.silu(self._dense(f"node_out_{k}")(update))
        h = _layer_norm("final_layer_norm")(h)

        pooled = jraph.segment_mean(h, crystal_of_node, batch)
        matrix = nn.Dense(9, use_bias=False, name="lattice_out")(pooled).reshape(-1, 3, 3)
        return (
            jnp.einsum("bij,bjk->bik", matrix, crystal.lattice),
            nn.Dense(3, use_bias=False, name="coords_out")(h),
            nn.Dense(NUM_TYPES, name="types_out")(h),
        )

    def _dense(self, name: str) -> nn.Dense:
        return nn.Dense(self.hidden_dim, name=name)


@dataclass(frozen=True)
class PlainDenoiser:
    """What `Objective` and the sampler ask of a network; made inside a jitted function.

    Attributes:
        net: The module.
        edges: Of the batch that it will see, as arguments of that function.
    """

    net: PlainCSPNet
    edges: Edges

    def denoise(self, params: dict, crystal: Crystal, time: Int[Array, " batch"]) -> Prediction:
        """Predict the noise of one batch without padding."""
        lattice, coords, types = self.net.apply({"params": params}, crystal, time, self.edges)
        shape = crystal.atom_types.shape
        return Prediction(lattice, coords.reshape(*shape, 3), types.reshape(*shape, NUM_TYPES))


def plain_network(net: CSPNet) -> PlainCSPNet:
    """The plain module of the same size."""
    return PlainCSPNet(net.hidden_dim, net.num_layers, net.num_freqs, net.time_dim, net.num_steps)


def plain_params(params: dict, num_layers: int) -> dict:
    """The package's parameters with the split Linears joined again."""

    def join(source: dict, *names: str) -> dict:
        bias = next(source[name]["bias"] for name in names if "bias" in source[name])
        return {"kernel": jnp.concatenate([source[name]["kernel"] for name in names]), "bias": bias}

    whole = ("node_embedding", "final_layer_norm", "lattice_out", "coords_out", "types_out")
    plain = {name: params[name] for name in whole}
    plain["latent"] = join(params, "latent_node", "latent_time")
    edge_parts = [f"edge_{x}" for x in ("receiver", "sender", "cell", "sine", "cosine")]
    for k in range(num_layers):
        layer = params[f"layer_{k}"]
        plain[f"layer_norm_{k}"] = layer["layer_norm"]
        plain[f"edge_in_{k}"] = join(layer, *edge_parts)
        plain[f"edge_out_{k}"] = layer["edge_out"]
        plain[f"node_in_{k}"] = join(layer, "node_self", "node_message")
        plain[f"node_out_{k}"] = layer["node_out"]
    return plain


def all_edges(batch_size: int, num_atoms: int) -> Edges:
    """Every pair of atoms of every crystal, self-edges included."""
    crystal, receiver, sender = np.indices((batch_size, num_atoms, num_atoms)).reshape(3, -1)
    first = crystal * num_atoms
    return tuple(jnp.asarray(x, jnp.int32) for x in (first + receiver, first + sender, crystal))


def _layer_norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)
