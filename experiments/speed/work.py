"""The least work the mathematics needs, in floating-point operations of matrix products."""

from __future__ import annotations

from miad_jax import CSPNet
from miad_jax.network import Network


def forward_work(net: Network, num_atoms: int, batch_size: int) -> float:
    """Operations of one pass over fully connected crystals."""
    return batch_size * net.flops(num_atoms)


def training_work(net: Network, num_atoms: int, batch_size: int) -> float:
    """Operations of a pass and its gradient: three products for one, two where no input has one.

    Of the networks here only CSPNet has many products whose input needs no gradient, its waves.
    """
    waves = net.products(num_atoms)["waves"] if isinstance(net, CSPNet) else 0.0
    return batch_size * (3 * net.flops(num_atoms) - waves)
