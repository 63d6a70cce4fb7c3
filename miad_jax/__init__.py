"""Mirage Atom Diffusion in JAX: crystals generated together with their number of atoms.

A crystal is infused with mirage atoms, noised, denoised by one network, stepped back through
time, and reduced again (arXiv:2511.14426). Pytrees and pure functions of explicit keys, and what
reads, writes and loads them:

    import jax, miad_jax

    crystals, records = miad_jax.load_dataset("prototypes", "train")
    diffusion = miad_jax.make_diffusion()
    infused = miad_jax.infuse(jax.random.key(0), crystals[:8], 25)
    noised, noise = miad_jax.add_noise(diffusion, jax.random.key(1), infused, t=500)

Importing the package imports nothing else: a name is loaded from its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from miad_jax.build import control_from, solver_from
    from miad_jax.condition import Condition, Known, Times
    from miad_jax.config import default_config
    from miad_jax.crystal import Crystal, Prediction, real_atom_mask
    from miad_jax.data.load import load_dataset
    from miad_jax.data.structures import from_atoms, from_structures, to_atoms, to_structures
    from miad_jax.diffusion.joint import Diffusion, add_noise
    from miad_jax.diffusion.losses import LossTerms, LossWeights, loss
    from miad_jax.diffusion.make import make_diffusion
    from miad_jax.evaluation.pipeline import evaluate
    from miad_jax.evaluation.stability.relax import relax
    from miad_jax.fine_tuning import fine_tune
    from miad_jax.generation.generate import generate
    from miad_jax.mirage import infuse, reduce
    from miad_jax.model import load_model, load_pretrained, save_pretrained
    from miad_jax.network.cspnet import CSPNet
    from miad_jax.network.transformer import Transformer
    from miad_jax.parallel.progress import Progress
    from miad_jax.plots.show import show
    from miad_jax.request import Request
    from miad_jax.sampling.control import Control
    from miad_jax.sampling.devices import cores_as_devices
    from miad_jax.sampling.sample import draw_num_atoms, reverse_step, sample
    from miad_jax.sampling.solvers import make_solver
    from miad_jax.sampling.solvers.ancestral import Ancestral
    from miad_jax.sampling.solvers.heun import Heun
    from miad_jax.sampling.solvers.predictor_corrector import PredictorCorrector
    from miad_jax.sampling.trajectory import Trajectory
    from miad_jax.scoring import Score, score

_MODULES = {
    "build": ("control_from", "solver_from"),
    "condition": ("Condition", "Known", "Times"),
    "config": ("default_config",),
    "crystal": ("Crystal", "Prediction", "real_atom_mask"),
    "data.load": ("load_dataset",),
    "data.structures": ("from_atoms", "from_structures", "to_atoms", "to_structures"),
    "diffusion.joint": ("Diffusion", "add_noise"),
    "diffusion.losses": ("LossTerms", "LossWeights", "loss"),
    "diffusion.make": ("make_diffusion",),
    "evaluation.pipeline": ("evaluate",),
    "evaluation.stability.relax": ("relax",),
    "fine_tuning": ("fine_tune",),
    "generation.generate": ("generate",),
    "mirage": ("infuse", "reduce"),
    "model": ("load_model", "load_pretrained", "save_pretrained"),
    "network.cspnet": ("CSPNet",),
    "network.transformer": ("Transformer",),
    "parallel.progress": ("Progress",),
    "plots.show": ("show",),
    "request": ("Request",),
    "sampling.control": ("Control",),
    "sampling.devices": ("cores_as_devices",),
    "sampling.sample": ("draw_num_atoms", "reverse_step", "sample"),
    "sampling.solvers": ("make_solver",),
    "sampling.solvers.ancestral": ("Ancestral",),
    "sampling.solvers.heun": ("Heun",),
    "sampling.solvers.predictor_corrector": ("PredictorCorrector",),
    "sampling.trajectory": ("Trajectory",),
    "scoring": ("Score", "score"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Ancestral",
    "CSPNet",
    "Condition",
    "Control",
    "Crystal",
    "Diffusion",
    "Heun",
    "Known",
    "LossTerms",
    "LossWeights",
    "Prediction",
    "PredictorCorrector",
    "Progress",
    "Request",
    "Score",
    "Times",
    "Trajectory",
    "Transformer",
    "add_noise",
    "control_from",
    "cores_as_devices",
    "default_config",
    "draw_num_atoms",
    "evaluate",
    "fine_tune",
    "from_atoms",
    "from_structures",
    "generate",
    "infuse",
    "load_dataset",
    "load_model",
    "load_pretrained",
    "loss",
    "make_diffusion",
    "make_solver",
    "real_atom_mask",
    "reduce",
    "relax",
    "reverse_step",
    "sample",
    "save_pretrained",
    "score",
    "show",
    "solver_from",
    "to_atoms",
    "to_structures",
]


def __getattr__(name: str) -> Any:
    """Load a public name, or a module of the package, when it is first used."""
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    elif name in _ROOMS:
        value = importlib.import_module(f"{__name__}.{name}")
    elif name == "__version__":
        value = importlib.import_module(f"{__name__}.version").VERSION
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted({*globals(), *__all__})


_ROOMS = frozenset({*(module.split(".")[0] for module in _MODULES)})
