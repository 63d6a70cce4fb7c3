"""Noising and denoising, as formulas: no network, no files, no hidden state.

`lattice`, `lattice_vp`, `lattice_flow`, `coords`, `torus_flow`, `types`, `masked` and `types_flow`
each hold a process of one field, whose functions are deterministic and take their noise as an
argument; `log_stretch`, `limit_cell` and `lengths_angles` are the six numbers of a cell that a
lattice's process may work on; `joint` draws the noise from explicit keys and runs three as one
process; `make` builds that by name; `losses` is what training minimises.
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
