"""How samples are drawn: a sampler over chunks and devices, solvers, and control of predictions."""

from miad_jax.sampling.control import Control
from miad_jax.sampling.sample import draw_num_atoms, reverse_step, sample
from miad_jax.sampling.sampler import Sampler
from miad_jax.sampling.solvers import SOLVERS, PredictorCorrector, Solver, make_solver
from miad_jax.sampling.trajectory import Trajectory

__all__ = [
    "SOLVERS",
    "Control",
    "PredictorCorrector",
    "Sampler",
    "Solver",
    "Trajectory",
    "draw_num_atoms",
    "make_solver",
    "reverse_step",
    "sample",
]
