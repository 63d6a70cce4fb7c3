"""Mirage Atom Diffusion in JAX: crystals generated together with their number of atoms.

A crystal is infused with mirage atoms, noised, denoised by one network, stepped back through
time, and reduced again (arXiv:2511.14426). Pytrees and pure functions of explicit keys, and what
reads, writes and loads them:

    import jax, miad_jax

    crystals, records = miad_jax.load_dataset("prototypes", "train")
    diffusion = miad_jax.make_diffusion()
    infused = miad_jax.infuse(jax.random.key(0), crystals[:8], 25)
    noised, noise = miad_jax.add_noise(diffusion, jax.random.key(1), infused, t=500)
"""

from miad_jax.config import default_config
from miad_jax.crystal import Crystal, Prediction, real_atom_mask
from miad_jax.data import (
    from_atoms,
    from_structures,
    load_dataset,
    to_atoms,
    to_structures,
)
from miad_jax.diffusion import (
    Diffusion,
    LossTerms,
    LossWeights,
    add_noise,
    loss,
    make_diffusion,
    reverse_step,
)
from miad_jax.mirage import infuse, reduce
from miad_jax.model import load_model, load_pretrained, save_pretrained
from miad_jax.network import CSPNet
from miad_jax.sampling.sample import draw_num_atoms, sample

__all__ = [
    "CSPNet",
    "Crystal",
    "Diffusion",
    "LossTerms",
    "LossWeights",
    "Prediction",
    "add_noise",
    "default_config",
    "draw_num_atoms",
    "from_atoms",
    "from_structures",
    "infuse",
    "load_dataset",
    "load_model",
    "load_pretrained",
    "loss",
    "make_diffusion",
    "real_atom_mask",
    "reduce",
    "reverse_step",
    "sample",
    "save_pretrained",
    "to_atoms",
    "to_structures",
]
