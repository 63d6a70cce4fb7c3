"""Crystals as `jraph.GraphsTuple`, the form in which the network takes them.

Nodes are the atom slots of all crystals, flattened; globals hold the lattice and the time.
`senders = receivers = None` means: every crystal is fully connected, self-edges included.
"""

from __future__ import annotations

import jax.numpy as jnp
import jraph
from jaxtyping import Array, Int

from miad_jax.crystal import Crystal


def to_graph(crystal: Crystal, time: Int[Array, " batch"]) -> jraph.GraphsTuple:
    """Fully connected graphs of a batch of crystals, without an edge list.

    Args:
        crystal: Crystals with one batch dimension; padding slots become masked nodes.
        time: Integer time of the full diffusion process.
    """
    num_crystals, size = crystal.atom_types.shape
    return jraph.GraphsTuple(
        nodes={
            "atom_types": crystal.atom_types.reshape(-1),
            "frac_coords": crystal.frac_coords.reshape(-1, 3),
            "mask": crystal.mask.reshape(-1),
        },
        edges=None,
        senders=None,
        receivers=None,
        n_node=jnp.full(num_crystals, size, jnp.int32),
        n_edge=jnp.full(num_crystals, size * size, jnp.int32),
        globals={"lattice": crystal.lattice, "time": time},
    )


def connect_fully(graph: jraph.GraphsTuple) -> jraph.GraphsTuple:
    """The same graphs with their edges listed: all pairs of atoms in a crystal, padding left out.

    The number of edges depends on the values of the mask, so this does not run under jit.
    """
    mask = graph.nodes["mask"].reshape(graph.n_node.shape[0], -1)
    crystal, receiver, sender = jnp.nonzero(mask[:, :, None] & mask[:, None, :])
    size = mask.shape[1]
    return graph._replace(
        senders=crystal * size + sender,
        receivers=crystal * size + receiver,
        n_edge=jnp.square(mask.sum(1)),
    )
