"""Solvers: how a sampler goes from one time to the next, and the solvers by name.

A solver is an object with `times` and `step`, and holds its own settings. It asks the denoiser,
and moves the three fields by their processes' own steps.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from miad_jax.sampling.solvers.ancestral import Ancestral
from miad_jax.sampling.solvers.base import Solver
from miad_jax.sampling.solvers.heun import Heun
from miad_jax.sampling.solvers.predictor_corrector import Corrector, LastStep, PredictorCorrector
from miad_jax.spelling import did_you_mean

__all__ = [
    "SOLVERS",
    "Ancestral",
    "Corrector",
    "Heun",
    "LastStep",
    "PredictorCorrector",
    "Solver",
    "make_solver",
    "settings_of_solver",
]

SOLVERS: dict[str, type] = {
    "predictor_corrector": PredictorCorrector,
    "ancestral": Ancestral,
    "heun": Heun,
}
"""Solvers by the name that `config.sampling.solver` gives."""


def make_solver(name: str, **settings: Any) -> Solver:
    """A solver by its name.

    Args:
        name: A key of `SOLVERS`.
        **settings: Its fields; those of other solvers are left out.

    Raises:
        ValueError: If the name is unknown, or a field has an impossible value.

    Example:
        >>> miad_jax.make_solver("predictor_corrector", steps=250).steps
        250
    """
    if name not in SOLVERS:
        hint = did_you_mean(name, SOLVERS)
        raise ValueError(f"no solver is called {name!r}{hint}; allowed: {', '.join(SOLVERS)}")
    known = settings_of_solver(name)
    return SOLVERS[name](**{field: value for field, value in settings.items() if field in known})


def settings_of_solver(name: str) -> set[str]:
    """What can be set of a solver, by its name in `SOLVERS`.

    Example:
        >>> "churn" in settings_of_solver("ancestral"), "churn" in settings_of_solver("heun")
        (True, False)
    """
    return {field.name for field in fields(SOLVERS[name])}
