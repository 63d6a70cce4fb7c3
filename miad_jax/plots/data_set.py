"""The picture of a data set: its sizes, elements, densities, edges, and properties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from miad_jax.plots.summary import (
    REFERENCE_COLOUR,
    SAMPLE_COLOUR,
    label_axes,
    num_bins,
    plot_atoms_per_cell,
    plot_densities,
    plot_elements,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PROPERTIES = 3
MANY = 300
"""From so many crystals on a bar of one would not be seen on a linear axis."""


def data_set_figure(
    title: str,
    *,
    num_atoms: Int[np.ndarray, " n"],
    chemical_systems: Sequence[str],
    densities_g_per_cm3: Float[np.ndarray, " n"],
    longest_edges_angstrom: Float[np.ndarray, " n"],
    max_edge_angstrom: float,
    properties: Mapping[str, Float[np.ndarray, " n"]],
) -> Figure:
    """Draw a data set.

    Args:
        title: The headline.
        num_atoms: Of each crystal.
        chemical_systems: Of each crystal, such as "Cl-Na".
        densities_g_per_cm3: Of each crystal.
        longest_edges_angstrom: Of each crystal.
        max_edge_angstrom: Where a line is drawn.
        properties: Columns by name, NaN where unknown; the first `MAX_PROPERTIES` are drawn.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.4), dpi=120, facecolor="white", layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, weight="bold")
    above, below = figure.subfigures(2, 1, squeeze=False)[:, 0]
    first = above.subplots(1, 3, width_ratios=(3, 6, 3))
    plot_atoms_per_cell(first[0], num_atoms.tolist())
    plot_elements(first[1], chemical_systems)
    plot_densities(first[2], densities_g_per_cm3.tolist())
    shown = dict(list(properties.items())[:MAX_PROPERTIES])
    second = below.subplots(1, 1 + len(shown), squeeze=False)[0]
    _histogram(second[0], longest_edges_angstrom, "Longest edge of the cell", "Å")
    if len(longest_edges_angstrom) >= MANY:
        second[0].set_yscale("symlog")  # the few long ones are what one looks for
    second[0].axvline(max_edge_angstrom, color=REFERENCE_COLOUR, linewidth=1.2)
    for axes, (name, values) in zip(second[1:], shown.items(), strict=True):
        _histogram(axes, values[np.isfinite(values)], name, "")
    return figure


def _histogram(axes: Axes, values: np.ndarray, title: str, unit: str) -> None:
    axes.hist(values, bins=num_bins(len(values)), color=SAMPLE_COLOUR)
    label_axes(axes, title, unit, "crystals")
