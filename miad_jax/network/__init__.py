"""Denoising networks by name, and what they are built of."""

from miad_jax.network.base import NETWORKS, Network, chunk_size_of, network_class
from miad_jax.network.cspnet import CSPNet
from miad_jax.network.transformer import Transformer

__all__ = ["NETWORKS", "CSPNet", "Network", "Transformer", "chunk_size_of", "network_class"]
