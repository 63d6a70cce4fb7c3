"""Noising and denoising, as formulas: no network, no files, no hidden state.

`lattice`, `coords` and `types` each hold the process of one field, whose functions are
deterministic and take their noise as an argument; `joint` draws it from explicit keys and runs the
three as one process; `losses` is what training minimises.
"""

from miad_jax.diffusion.joint import (
    Denoise,
    Diffusion,
    Noise,
    StepNoise,
    add_noise,
    make_diffusion,
    predict,
    prior,
    step,
)
from miad_jax.diffusion.losses import Example, LossTerms, LossWeights, loss, loss_terms
from miad_jax.diffusion.process import Process

__all__ = [
    "Denoise",
    "Diffusion",
    "Example",
    "LossTerms",
    "LossWeights",
    "Noise",
    "Process",
    "StepNoise",
    "add_noise",
    "loss",
    "loss_terms",
    "make_diffusion",
    "predict",
    "prior",
    "step",
]
