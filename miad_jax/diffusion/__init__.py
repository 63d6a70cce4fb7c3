"""Noising and denoising, as formulas: no network, no files, no hidden state.

`lattice`, `log_lattice`, `coords`, `torus_flow`, `types` and `masked` each hold a process of one
field, whose functions are deterministic and take their noise as an argument; `joint` draws it from
explicit keys and runs three as one process; `make` builds that by name; `losses` is what training
minimises.
"""

from miad_jax.diffusion.joint import (
    Denoise,
    Diffusion,
    Noise,
    StepNoise,
    add_noise,
    predict,
    prior,
    step,
)
from miad_jax.diffusion.losses import Example, LossTerms, LossWeights, loss, loss_terms
from miad_jax.diffusion.make import make_diffusion
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
