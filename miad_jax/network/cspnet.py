"""CSPNet, the denoiser of DiffCSP and MiAD (arXiv:2309.04475): message passing over all pairs.

Permutation equivariant, invariant under translations modulo 1; a rotated or reflected lattice
gives the rotated or reflected ε̂, and the same coordinates and types.
"""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph
from jaxtyping import Array, Float, Int, PRNGKeyArray

from miad_jax.condition import Condition, Times
from miad_jax.crystal import NUM_TYPES, Crystal, Prediction
from miad_jax.network.base import one_time, power_of_two_below, register
from miad_jax.network.embeddings import fourier_features, time_embedding
from miad_jax.network.graph import to_graph
from miad_jax.network.layers import Linear, activations, silu
from miad_jax.network.properties import refuse_unknown
from miad_jax.network.topology import Topology, topology_of


@register("cspnet")
class CSPNet(nn.Module):
    """The network: `jraph.GraphsTuple` in, `Prediction` over its flattened nodes out.

    A graph without an edge list is fully connected and takes the dense path: all crystals have
    the same number of slots, messages are broadcasts, and padding is masked. A graph with
    senders and receivers goes through jraph's segment operations. Both give the same numbers.

    Attributes:
        hidden_dim: Width of nodes and messages.
        num_layers: Number of message-passing layers.
        num_freqs: Frequencies of the Fourier features in each direction.
        time_dim: Width of the time embedding.
        num_steps: T of the diffusion process whose times the network is told.
        dtype: Precision of matrix products and messages; parameters, layer norms, the node
            states, what depends on the crystal alone and the output are float32. On a CPU it
            is that of products' factors.

    Example:
        >>> net = miad_jax.CSPNet(hidden_dim=16, num_layers=2, num_freqs=4)
        >>> params = jax.jit(net.init_params)(jax.random.key(0))
        >>> crystals, _ = miad_jax.load_dataset("prototypes", "val")
        >>> jax.jit(net.denoise)(params, crystals[:2], jnp.array([0, 999])).types.shape
        (2, 20, 100)
    """

    takes_times: ClassVar[bool] = False

    hidden_dim: int = 512
    num_layers: int = 6
    num_freqs: int = 128
    time_dim: int = 256
    num_steps: int = 1000
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, graph: jraph.GraphsTuple) -> Prediction:
        """Predict the noise of every crystal of a graph made by `to_graph`."""
        topology = topology_of(graph)
        mask, lattice = graph.nodes["mask"][:, None], graph.globals["lattice"]
        width, dtype = self.hidden_dim, self.dtype

        embedding = Linear(width, dtype=dtype, name="node_embedding")(
            jax.nn.one_hot(graph.nodes["atom_types"], NUM_TYPES)
        )
        fan_in = width + self.time_dim
        time = time_embedding(graph.globals["time"], self.num_steps, self.time_dim)
        time = Linear(width, fan_in, name="latent_time")(time)
        h = Linear(width, fan_in, False, dtype, name="latent_node")(embedding)
        h = h.astype(jnp.float32) + topology.spread(time)

        gram = jnp.einsum("bij,bkj->bik", lattice, lattice, precision="highest").reshape(-1, 9)
        # Whatever stands in padding, NaN included, must not reach a gradient.
        difference = topology.differences(jnp.where(mask, graph.nodes["frac_coords"], 0))
        sine, cosine = fourier_features(difference, self.num_freqs)
        waves = sine.astype(activations(dtype)), cosine.astype(activations(dtype))
        for k in range(self.num_layers):
            h = CSPLayer(width, dtype, name=f"layer_{k}")(h, gram, waves, topology)
        h = jnp.where(mask, _layer_norm("final_layer_norm")(h), 0)

        matrix = Linear(9, use_bias=False, name="lattice_out")(topology.pool(h)).reshape(-1, 3, 3)
        return Prediction(
            lattice=jnp.einsum("bij,bjk->bik", matrix, lattice, precision="highest"),
            coords=Linear(3, use_bias=False, name="coords_out")(h),
            types=jnp.where(mask, Linear(NUM_TYPES, name="types_out")(h), 0),
        )

    def init_params(self, key: PRNGKeyArray) -> dict:
        """Fresh parameters, a pytree of float32 arrays."""
        crystal = Crystal(
            lattice=jnp.eye(3)[None],
            frac_coords=jnp.zeros((1, 2, 3)),
            atom_types=jnp.ones((1, 2), jnp.int32),
            mask=jnp.ones((1, 2), bool),
        )
        return self.init(key, to_graph(crystal, jnp.zeros(1, jnp.int32)))["params"]

    def denoise(
        self,
        params: dict,
        crystal: Crystal,
        time: Int[Array, "*batch"] | Times,
        condition: Condition | None = None,
    ) -> Prediction:
        """Predict the noise; `jax.tree_util.Partial(net.denoise, params)` is a denoiser.

        It has gradients in reverse mode only: products and activations have hand-written ones.

        Args:
            params: The network's parameters.
            crystal: One crystal, or one batch dimension of them.
            time: Integer time of the process, 0 … num_steps − 1: one for all parts of a crystal.
            condition: Refused if it asks for properties, which this network is not told.

        Returns:
            The prediction, with the crystal's shapes; 0 on padding.

        Raises:
            ValueError: If parts have times of their own, or properties are asked.
        """
        time = one_time("CSPNet", time)
        refuse_unknown("CSPNet", (), condition)
        if not crystal.batch_shape:
            batch = jax.tree.map(lambda x: x[None], (crystal, time))
            return jax.tree.map(lambda x: x[0], self.denoise(params, *batch))
        flat = self.apply({"params": params}, to_graph(crystal, time))
        assert isinstance(flat, Prediction)
        shape = crystal.atom_types.shape
        return Prediction(
            flat.lattice, flat.coords.reshape(*shape, 3), flat.types.reshape(*shape, NUM_TYPES)
        )

    def flops(self, num_atoms: int) -> float:
        """Operations of matrix products in one pass over one fully connected crystal.

        The first Linear of the messages is split into nodes, cell and pairs i < j; the Fourier
        features of a pair serve both of its edges.
        """
        return sum(self.products(num_atoms).values())

    def products(self, num_atoms: int) -> dict[str, float]:
        """The same by what is multiplied: waves, messages, nodes and cells."""
        width, layers, pairs = self.hidden_dim, self.num_layers, num_atoms * (num_atoms - 1) / 2
        return {
            "waves": layers * 2 * pairs * (6 * self.num_freqs) * width,
            "messages": layers * 2 * num_atoms**2 * width**2,
            # Sender, receiver, self, message, out in every layer; embedding and outputs once.
            "nodes": 2 * num_atoms * width * (5 * layers * width + width + NUM_TYPES + 3),
            "cells": 2 * width * (9 * layers + self.time_dim + 9),
        }

    def chunk_size(self, num_atoms: int, backend: str) -> int:
        """Crystals at once: on a CPU their messages stay in the cache, some 2.5 MB.

        Args:
            num_atoms: Atom slots of a crystal.
            backend: What `jax.default_backend()` says.
        """
        numbers = 1250 * 512 if backend == "cpu" else 160_000 * 512
        return power_of_two_below(numbers // (self.hidden_dim * num_atoms**2))


class CSPLayer(nn.Module):
    """One round of messages: h ← h + MLP(h̃ ‖ mean_j MLP(h̃_i ‖ h̃_j ‖ L Lᵀ ‖ ψ(f_j − f_i))).

    The first Linear of the messages is split into its node, cell and edge parts, so that only
    the edge part costs a product for each pair of atoms.

    Attributes:
        hidden_dim: Width of nodes and messages.
        dtype: Precision of matrix products and messages.
    """

    hidden_dim: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "nodes hidden"],
        gram: Float[Array, "batch 9"],
        waves: tuple[Float[Array, "*pairs waves"], Float[Array, "*pairs waves"]],
        topology: Topology,
    ) -> Float[Array, "nodes hidden"]:
        """Update the node states.

        Args:
            h: Node states, float32.
            gram: L Lᵀ, flattened.
            waves: Sines and cosines of `topology.differences`.
            topology: Who sends to whom.
        """
        width, dtype, kept = self.hidden_dim, self.dtype, activations(self.dtype)
        normed = _layer_norm("layer_norm")(h).astype(kept)
        fan_in = 2 * width + 9 + 2 * waves[0].shape[-1]
        cosine = Linear(width, fan_in, False, dtype, name="edge_cosine")
        edges = topology.edges(
            receiver=Linear(width, fan_in, False, dtype, name="edge_receiver")(normed),
            sender=Linear(width, fan_in, False, dtype, name="edge_sender")(normed),
            cell=Linear(width, fan_in, name="edge_cell")(gram).astype(kept),
            even=cosine(waves[1]),
            odd=Linear(width, fan_in, False, dtype, name="edge_sine")(waves[0]),
            diagonal=cosine.variables["params"]["kernel"].sum(0).astype(kept),
        )
        messages = silu(Linear(width, dtype=dtype, name="edge_out")(silu(edges)))
        mean = topology.mean(messages)
        update = Linear(width, 2 * width, True, dtype, name="node_self")(normed)
        update += Linear(width, 2 * width, False, dtype, name="node_message")(mean)
        update = silu(Linear(width, dtype=dtype, name="node_out")(silu(update)))
        return h + update.astype(jnp.float32)


def _layer_norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=jnp.float32, name=name)
