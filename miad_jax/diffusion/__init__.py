"""Noising and denoising, as formulas: no network, no files, no hidden state.

`lattice`, `coords` and `types` are deterministic and take their noise as an argument;
`joint` draws it from explicit keys and runs the three as one process.
"""

from miad_jax.diffusion import coords, joint, lattice, schedules, types
from miad_jax.diffusion.joint import (
    Denoise,
    Diffusion,
    Noise,
    add_noise,
    loss,
    make_diffusion,
    reverse_step,
)
from miad_jax.diffusion.losses import LossTerms, LossWeights

__all__ = [
    "Denoise",
    "Diffusion",
    "LossTerms",
    "LossWeights",
    "Noise",
    "add_noise",
    "coords",
    "joint",
    "lattice",
    "loss",
    "make_diffusion",
    "reverse_step",
    "schedules",
    "types",
]
