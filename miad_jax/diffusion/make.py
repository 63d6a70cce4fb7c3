"""The joint process from the names of its parts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from miad_jax.diffusion.coords import SIGMA_MIN, WrappedNormal
from miad_jax.diffusion.joint import Diffusion
from miad_jax.diffusion.lattice import LatticeDDPM
from miad_jax.diffusion.lattice_flow import LatticeFlow
from miad_jax.diffusion.lattice_vp import LatticeVP
from miad_jax.diffusion.masked import MaskedTypes
from miad_jax.diffusion.process import CoordsProcess, LatticeProcess, TypesProcess
from miad_jax.diffusion.torus_flow import TorusFlow
from miad_jax.diffusion.types import UniformD3PM
from miad_jax.diffusion.types_flow import TypesFlow

T = TypeVar("T")

LATTICES: dict[str, Callable[..., LatticeProcess]] = {
    "ddpm": LatticeDDPM.make,
    "log": LatticeVP.make,
    "limit": LatticeVP.limit,
    "flow": LatticeFlow.make,
    "lengths_angles": LatticeFlow.lengths_angles,
}
"""Processes of the lattice by the name that `config.diffusion.lattice` gives."""

COORDS: dict[str, Callable[..., CoordsProcess]] = {
    "wrapped_normal": WrappedNormal.make,
    "flow": TorusFlow.make,
}
"""Processes of the fractional coordinates, by the name in `config.diffusion.coords`."""

TYPES: dict[str, Callable[..., TypesProcess]] = {
    "uniform": UniformD3PM.make,
    "masked": MaskedTypes.make,
    "flow": TypesFlow.make,
}
"""Processes of the atom types, by the name in `config.diffusion.types`."""


def make_diffusion(
    num_steps: int = 1000,
    *,
    lattice: str = "ddpm",
    coords: str = "wrapped_normal",
    types: str = "uniform",
    sigma_max: float = 0.5,
    limit_num_atoms: int = 25,
    **moved: Any,
) -> Diffusion:
    """Build the tables of a process; the defaults are the published one.

    Args:
        num_steps: T.
        lattice: "ddpm", noise on the nine numbers of the lattice as published; "log", noise on
            the six of its logarithm, whose cells stay cells at every noise level; "limit",
            MatterGen's symmetric noise around a cube; "flow", CrystalFlow's flow matching of the
            six; or "lengths_angles", FlowMM's flow matching of lengths and angles.
        coords: "wrapped_normal", score matching as published; or "flow", flow matching on a torus.
        types: "uniform", types that are redrawn, as published; "masked", types that are hidden; or
            "flow", types that jump once to where they belong.
        sigma_max: Of a wrapped normal, in fractions of the cell; ½ as published.
        limit_num_atoms: Of "limit", how many atoms the cube holds.
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
    for name, value in (("num_steps", num_steps), ("limit_num_atoms", limit_num_atoms)):
        if value < 1:
            raise ValueError(f"{name} is {value}; allowed: a whole number from 1 on")
    if not sigma_max > SIGMA_MIN:
        raise ValueError(f"sigma_max is {sigma_max}; allowed: a number above {SIGMA_MIN}")
    for field, name, allowed in (
        ("lattice", lattice, LATTICES),
        ("coords", coords, COORDS),
        ("types", types, TYPES),
    ):
        if name not in allowed:
            raise ValueError(f"{field} is {name!r}; allowed: {', '.join(allowed)}")
    settings = {"sigma_max": sigma_max, "limit_num_atoms": limit_num_atoms}
    return Diffusion(
        _made(LATTICES[lattice], num_steps, settings),
        _made(COORDS[coords], num_steps, settings),
        _made(TYPES[types], num_steps, settings),
    )


def _made(make: Callable[..., T], num_steps: int, settings: dict[str, Any]) -> T:
    """A process of T steps; settings of others are left out."""
    takes = inspect.signature(make).parameters
    return make(num_steps, **{name: settings[name] for name in takes if name in settings})


_TAKES = "num_steps, lattice, coords, types, sigma_max, limit_num_atoms"
_MOVED = {
    "num_kept": "solver=PredictorCorrector(steps=...)",
    "corrector_gamma": "solver=PredictorCorrector(corrector_gamma=...)",
    "ending": 'solver=PredictorCorrector(last_step="denoise" or "hold")',
    "type_temperature": "control=Control(type_temperature=...)",
    "coords_score": "control=Control(coords_score=...)",
}
"""Arguments of version 0.1, and where they went."""
