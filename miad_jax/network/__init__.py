"""The denoiser: Flax modules over `jraph.GraphsTuple`. It knows no noise schedule."""

from miad_jax.network.cspnet import CSPNet
from miad_jax.network.graph import connect_fully, crystals_per_chunk, to_graph

__all__ = ["CSPNet", "connect_fully", "crystals_per_chunk", "to_graph"]
