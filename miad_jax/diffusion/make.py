"""The joint process from the names of its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from miad_jax.diffusion.coords import WrappedNormal
from miad_jax.diffusion.joint import Diffusion
from miad_jax.diffusion.lattice import LatticeDDPM
from miad_jax.diffusion.log_lattice import LogLattice
from miad_jax.diffusion.masked import MaskedTypes
from miad_jax.diffusion.process import CoordsProcess, LatticeProcess, TypesProcess
from miad_jax.diffusion.torus_flow import TorusFlow
from miad_jax.diffusion.types import UniformD3PM

LATTICES: dict[str, Callable[[int], LatticeProcess]] = {
    "ddpm": LatticeDDPM.make,
    "log": LogLattice.make,
}
"""Processes of the lattice by the name that `config.diffusion.lattice` gives."""

COORDS: dict[str, Callable[[int], CoordsProcess]] = {
    "wrapped_normal": WrappedNormal.make,
    "flow": TorusFlow.make,
}
"""Processes of the fractional coordinates, by the name in `config.diffusion.coords`."""

TYPES: dict[str, Callable[[int], TypesProcess]] = {
    "uniform": UniformD3PM.make,
    "masked": MaskedTypes.make,
}
"""Processes of the atom types, by the name in `config.diffusion.types`."""


def make_diffusion(
    num_steps: int = 1000,
    *,
    lattice: str = "ddpm",
    coords: str = "wrapped_normal",
    types: str = "uniform",
    **moved: Any,
) -> Diffusion:
    """Build the tables of a process; the defaults are the published one.

    Args:
        num_steps: T.
        lattice: "ddpm", noise on the nine numbers of the lattice as published; or "log", noise on
            the six of its logarithm, whose cells stay cells at every noise level.
        coords: "wrapped_normal", score matching as published; or "flow", flow matching on a torus.
        types: "uniform", types that are redrawn, as published; or "masked", types that are hidden.
        **moved: Refused: what a sampler does is the solver's.

    Raises:
        ValueError: If `num_steps` is not positive, a field has no process of that name, or an
            argument is one of the sampler's.

    Example:
        >>> miad_jax.make_diffusion(50).num_steps
        50
    """
    for name in moved:
        place = _MOVED.get(name)
        raise ValueError(
            f"make_diffusion has no argument {name!r}"
            + (f": give {place} to miad_jax.sample" if place else f"; it takes {_TAKES}")
        )
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}; allowed: a whole number from 1 on")
    for field, name, allowed in (
        ("lattice", lattice, LATTICES),
        ("coords", coords, COORDS),
        ("types", types, TYPES),
    ):
        if name not in allowed:
            raise ValueError(f"{field} is {name!r}; allowed: {', '.join(allowed)}")
    return Diffusion(
        LATTICES[lattice](num_steps), COORDS[coords](num_steps), TYPES[types](num_steps)
    )


_TAKES = "num_steps, lattice, coords, types"
_MOVED = {
    "num_kept": "solver=PredictorCorrector(steps=...)",
    "corrector_gamma": "solver=PredictorCorrector(corrector_gamma=...)",
    "ending": 'solver=PredictorCorrector(last_step="denoise" or "hold")',
    "type_temperature": "control=Control(type_temperature=...)",
    "coords_score": "control=Control(coords_score=...)",
}
"""Arguments of version 0.1, and where they went."""
