"""Figures of crystals and of sets of them. They know crystals and rows, not who made these."""

from miad_jax.plots.data_set import data_set_figure
from miad_jax.plots.periodic_table import plot_periodic_table
from miad_jax.plots.summary import (
    plot_atoms_per_cell,
    plot_densities,
    plot_elements,
    summary_figure,
)
from miad_jax.plots.trajectory import trajectory_gif
from miad_jax.plots.unit_cell import draw_cell

__all__ = [
    "data_set_figure",
    "draw_cell",
    "plot_atoms_per_cell",
    "plot_densities",
    "plot_elements",
    "plot_periodic_table",
    "summary_figure",
    "trajectory_gif",
]
