"""Who sends messages to whom: all pairs of a dense batch, or the edges of a list.

Two implementations of one interface, with the same results where both apply. The dense one
needs no gather and no scatter; the listed one runs jraph's segment operations.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import jraph
from jaxtyping import Array, Float

from miad_jax.network.embeddings import mirror_pairs, pair_differences
from miad_jax.padding import mean_over_atoms


@runtime_checkable
class Topology(Protocol):
    """What the network asks of a graph's connections."""

    def differences(self, frac_coords: Float[Array, "nodes 3"]) -> Float[Array, "*pairs 3"]:
        """f_sender − f_receiver, for every pair whose Fourier features are needed."""

    def spread(self, x: Float[Array, "batch width"]) -> Float[Array, "nodes width"]:
        """Give every node what its crystal holds."""

    def pool(self, h: Float[Array, "nodes width"]) -> Float[Array, "batch width"]:
        """Mean over the atoms of each crystal, padding left out."""

    def edges(
        self,
        receiver: Float[Array, "nodes width"],
        sender: Float[Array, "nodes width"],
        cell: Float[Array, "batch width"],
        even: Float[Array, "*pairs width"],
        odd: Float[Array, "*pairs width"],
        diagonal: Float[Array, " width"],
    ) -> Float[Array, "*edges width"]:
        """Add up the parts of every edge: its two nodes, its cell and its Fourier features.

        Args:
            receiver: Part of the receiving node.
            sender: Part of the sending node.
            cell: Part of the crystal.
            even: Part of the cosines of the pair.
            odd: Part of the sines of the pair.
            diagonal: Even part of a self-edge.
        """

    def mean(self, messages: Float[Array, "*edges width"]) -> Float[Array, "nodes width"]:
        """Mean of the messages that each node receives, those of padding left out."""


class Dense:
    """Every crystal has the same number of slots, and all its atoms are connected."""

    def __init__(self, graph: jraph.GraphsTuple):
        self.num_crystals = graph.n_node.shape[0]
        self.mask = graph.nodes["mask"].reshape(self.num_crystals, -1)
        self.size = self.mask.shape[1]
        self.count = jnp.maximum(self.mask.sum(1), 1).astype(jnp.float32)

    def differences(self, frac_coords):
        """Differences of pairs i < j alone: their mirror images follow by symmetry."""
        return pair_differences(frac_coords.reshape(self.num_crystals, self.size, 3))

    def spread(self, x):
        """Broadcast over slots."""
        shape = (self.num_crystals, self.size, x.shape[-1])
        return jnp.broadcast_to(x[:, None], shape).reshape(-1, x.shape[-1])

    def pool(self, h):
        """Masked mean over slots."""
        h = h.reshape(self.num_crystals, self.size, -1)
        return mean_over_atoms(h, self.mask[..., None], self.count[:, None], 1)

    def edges(self, receiver, sender, cell, even, odd, diagonal):
        """Broadcast node parts over rows and columns of the N×N edges."""
        batch, size, width = self.num_crystals, self.size, cell.shape[-1]
        edges = mirror_pairs(even, odd, diagonal).reshape(batch, size, size, width)
        receiver = receiver.reshape(batch, size, 1, width) + cell[:, None, None]
        return edges + receiver + sender.reshape(batch, 1, size, width)

    def mean(self, messages):
        """Masked mean over columns."""
        mean = mean_over_atoms(messages, self.mask[:, None, :, None], self.count[:, None, None], 2)
        return mean.reshape(-1, messages.shape[-1])


class Listed:
    """Edges as senders and receivers; padding nodes have none."""

    def __init__(self, graph: jraph.GraphsTuple):
        self.num_crystals = graph.n_node.shape[0]
        self.senders, self.receivers = graph.senders, graph.receivers
        self.mask = graph.nodes["mask"]
        self.crystal_of_node = jnp.repeat(
            jnp.arange(self.num_crystals), graph.n_node, total_repeat_length=self.mask.shape[0]
        )

    def differences(self, frac_coords):
        """Differences of every edge."""
        return frac_coords[self.senders] - frac_coords[self.receivers]

    def spread(self, x):
        """Gather by the crystal of each node."""
        return x[self.crystal_of_node]

    def pool(self, h):
        """Segment mean over the nodes that are no padding."""
        weight = self.mask[:, None].astype(h.dtype)
        total = jraph.segment_sum(h * weight, self.crystal_of_node, self.num_crystals)
        count = jraph.segment_sum(weight, self.crystal_of_node, self.num_crystals)
        return total / jnp.maximum(count, 1)

    def edges(self, receiver, sender, cell, even, odd, diagonal):
        """Gather node parts by the ends of each edge; self-edges need no case of their own."""
        del diagonal
        cell = cell[self.crystal_of_node[self.receivers]]
        return even + odd + cell + receiver[self.receivers] + sender[self.senders]

    def mean(self, messages):
        """Segment mean over receivers."""
        return jraph.segment_mean(messages, self.receivers, self.mask.shape[0])


def topology_of(graph: jraph.GraphsTuple) -> Topology:
    """Dense for a graph without an edge list, else Listed."""
    return Dense(graph) if graph.senders is None else Listed(graph)
