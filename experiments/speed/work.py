"""The least work the mathematics needs, in floating-point operations of matrix products."""

from __future__ import annotations

from miad_jax import CSPNet
from miad_jax.crystal import NUM_TYPES


def forward_work(net: CSPNet, num_atoms: int, batch_size: int) -> float:
    """Operations of one pass over fully connected crystals.

    The first Linear of the messages is split into nodes, cell and pairs i < j; the Fourier
    features of a pair serve both of its edges.
    """
    edges, nodes, cells = _products(net, num_atoms)
    return batch_size * (edges["waves"] + edges["messages"] + nodes + cells)


def training_work(net: CSPNet, num_atoms: int, batch_size: int) -> float:
    """Operations of a pass and its gradient: three products for one, two where no input has one."""
    edges, nodes, cells = _products(net, num_atoms)
    return batch_size * (2 * edges["waves"] + 3 * (edges["messages"] + nodes + cells))


def _products(net: CSPNet, num_atoms: int) -> tuple[dict[str, float], float, float]:
    width, layers, pairs = net.hidden_dim, net.num_layers, num_atoms * (num_atoms - 1) / 2
    edges = {
        "waves": layers * 2 * pairs * (6 * net.num_freqs) * width,
        "messages": layers * 2 * num_atoms**2 * width**2,
    }
    # Sender, receiver, self, message, out in every layer; embedding and outputs once.
    nodes = 2 * num_atoms * width * (5 * layers * width + width + NUM_TYPES + 3)
    cells = 2 * width * (9 * layers + net.time_dim + 9)
    return edges, nodes, cells
