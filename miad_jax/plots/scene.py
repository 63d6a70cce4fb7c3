"""A cell as the viewer in 3-D draws it: balls and edges, seen from where pictures see them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from miad_jax.crystal import Crystal
from miad_jax.plots.unit_cell import ball_radii, closed_cell, project

VIEWER = Path(__file__).parent / "viewer"
"""The folder of 3Dmol.js and its licence."""

DRAWING = Path(__file__).parent / "drawing.js"
"""How a page draws a scene with it."""


def scene(crystal: Crystal) -> Mapping[str, Any]:
    """A cell as balls and edges: right, up and towards the viewer, in Å.

    Args:
        crystal: One crystal.

    Returns:
        `cell`, its three edges; `balls`, an element and a place each; `elements`, radius and
        colour of the balls of each.
    """
    from ase.data import chemical_symbols
    from ase.data.colors import jmol_colors

    lattice, frac_coords, atom_types = closed_cell(crystal)
    kinds, radii = np.unique(atom_types), ball_radii(np.unique(atom_types))
    places = project(frac_coords @ lattice)
    return {
        "cell": _rounded(project(lattice)),
        "balls": [
            [chemical_symbols[z], *place]
            for z, place in zip(atom_types, _rounded(places), strict=True)
        ],
        "elements": {
            chemical_symbols[z]: [round(float(radius), 3), _hex(jmol_colors[z])]
            for z, radius in zip(kinds, radii, strict=True)
        },
    }


def _rounded(values: np.ndarray) -> list[list[float]]:
    return np.round(values, 3).tolist()


def _hex(colour: Sequence[float]) -> str:
    """A colour as HTML writes it."""
    return "#" + "".join(f"{math.floor(255 * x + 0.5):02x}" for x in colour)
