"""The joint process from the names of its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from miad_jax.diffusion.coords import WrappedNormal
from miad_jax.diffusion.joint import Diffusion
from miad_jax.diffusion.lattice import LatticeDDPM
from miad_jax.diffusion.log_lattice import LogLattice
from miad_jax.diffusion.process import LatticeProcess
from miad_jax.diffusion.types import UniformD3PM

LATTICES: dict[str, Callable[[int], LatticeProcess]] = {
    "ddpm": LatticeDDPM.make,
    "log": LogLattice.make,
}
"""Processes of the lattice by the name that `config.diffusion.lattice` gives."""


def make_diffusion(num_steps: int = 1000, *, lattice: str = "ddpm", **moved: Any) -> Diffusion:
    """Build the tables of a process; the defaults are the published one.

    Args:
        num_steps: T.
        lattice: "ddpm", noise on the nine numbers of the lattice as published; or "log", noise on
            the six of its logarithm, whose cells stay cells at every noise level.
        **moved: Refused: what a sampler does is the solver's.

    Raises:
        ValueError: If `num_steps` is not positive, no process of the lattice has that name, or an
            argument is one of the sampler's.

    Example:
        >>> miad_jax.make_diffusion(50).num_steps
        50
    """
    for name in moved:
        place = _MOVED.get(name)
        raise ValueError(
            f"make_diffusion has no argument {name!r}"
            + (f": give {place} to miad_jax.sample" if place else "; it takes num_steps, lattice")
        )
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}; allowed: a whole number from 1 on")
    if lattice not in LATTICES:
        raise ValueError(f"lattice is {lattice!r}; allowed: {', '.join(LATTICES)}")
    return Diffusion(
        LATTICES[lattice](num_steps),
        WrappedNormal.make(num_steps),
        UniformD3PM.make(num_steps),
    )


_MOVED = {
    "num_kept": "solver=PredictorCorrector(steps=...)",
    "corrector_gamma": "solver=PredictorCorrector(corrector_gamma=...)",
    "ending": 'solver=PredictorCorrector(last_step="denoise" or "hold")',
    "type_temperature": "control=Control(type_temperature=...)",
    "coords_score": "control=Control(coords_score=...)",
}
"""Arguments of version 0.1, and where they went."""
