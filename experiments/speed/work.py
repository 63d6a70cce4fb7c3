"""The least work the mathematics needs, in floating-point operations of matrix products."""

from __future__ import annotations

from miad_jax import CSPNet


def forward_work(net: CSPNet, num_atoms: int, batch_size: int) -> float:
    """Operations of one pass over fully connected crystals."""
    return batch_size * net.flops(num_atoms)


def training_work(net: CSPNet, num_atoms: int, batch_size: int) -> float:
    """Operations of a pass and its gradient: three products for one, two where no input has one."""
    products = net.products(num_atoms)
    return batch_size * (3 * sum(products.values()) - products["waves"])
