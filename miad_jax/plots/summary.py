"""Pictures of a set of crystals: what it holds in numbers, and what some of its cells look like.

Figures are made without pyplot, so that drawing one changes no global state; save with
`figure.savefig(path)`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from miad_jax.crystal import Crystal
from miad_jax.plots.unit_cell import QUIET_COLOUR, TEXT_COLOUR, draw_cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers.
SAMPLE_COLOUR = "#0072B2"
REFERENCE_COLOUR = "#D55E00"

MAX_ELEMENTS = 25
NUM_CELLS, CELLS_A_LINE = 8, 4
MAX_DENSITY_G_PER_CM3 = 25.0
"""Right end of the density axis; osmium, the densest element, has 22.6."""


def summary_figure(
    rows: Sequence[Mapping[str, Any]],
    crystals: Sequence[Crystal] | Crystal,
    reference_histogram: Float[np.ndarray, " sizes"] | None = None,
    title: str = "Generated crystals",
) -> Figure:
    """Atoms per cell, elements, densities, and the first eight cells.

    Args:
        rows: A row each, from `describe`; rows with a reason count as failed and are not drawn.
        crystals: The crystals of the rows, in the same order.
        reference_histogram: Entry n is the number, or the share, of the training crystals
            with n atoms; drawn beside the samples.
        title: The figure's headline.

    Raises:
        ValueError: If there is not one crystal for every row.
    """
    from matplotlib.figure import Figure

    if len(rows) != len(crystals):
        raise ValueError(f"{len(rows)} rows, but {len(crystals)} crystals: give one for each row")
    good = [i for i, row in enumerate(rows) if not row["reason"]]
    good_rows = [rows[i] for i in good]

    shown = good[:NUM_CELLS]
    what = f"The first {len(shown)} crystals, not selected" if shown else "No crystal to draw"
    num_lines = -(-len(shown) // CELLS_A_LINE)
    height = 4.6 + 3.1 * num_lines
    figure = Figure(figsize=(12, height), dpi=120, facecolor="white")

    def up(inches_from_top: float) -> float:
        return 1 - inches_from_top / height

    _text(figure, up(0.37), title, size=17, weight="bold")
    _text(figure, up(0.64), _headline(len(rows), good_rows), size=11, color=QUIET_COLOUR)
    plots = figure.add_gridspec(
        1,
        3,
        left=0.06,
        right=0.98,
        top=up(1.2),
        bottom=up(3.45),
        wspace=0.2,
        width_ratios=(3, 6, 3),
    )
    axes = [figure.add_subplot(plots[0, i]) for i in range(3)]
    plot_atoms_per_cell(axes[0], [row["num_atoms"] for row in good_rows], reference_histogram)
    plot_elements(axes[1], [row["chemical_system"] for row in good_rows])
    plot_densities(axes[2], [row["density_g_per_cm3"] for row in good_rows])

    _text(figure, up(4.25), what, size=12, weight="bold")
    for place, i in enumerate(shown):
        line, column = divmod(place, CELLS_A_LINE)
        cell = (0.03 + 0.24 * column, up(6.95 + 3.1 * line), 0.22, 2.05 / height)
        draw_cell(figure.add_axes(cell), crystals[i], rows[i])
    return figure


def plot_atoms_per_cell(
    axes: Axes, num_atoms: Sequence[int], reference: Float[np.ndarray, " sizes"] | None = None
) -> None:
    """Share of the crystals with each number of atoms, beside a reference."""
    from matplotlib.ticker import MaxNLocator

    counts = np.bincount(np.asarray(num_atoms, int))
    axes.bar(
        np.arange(len(counts)),
        100 * counts / max(counts.sum(), 1),
        width=0.85,
        color=SAMPLE_COLOUR,
        label="samples",
    )
    if reference is not None:
        share = 100 * np.asarray(reference, float) / np.sum(reference)
        edges = np.arange(len(share) + 1) - 0.5
        axes.stairs(share, edges, color=REFERENCE_COLOUR, linewidth=1.6, label="training data")
        axes.legend(frameon=False, fontsize=9, loc="upper right")
        axes.margins(y=0.22)
    largest = max(len(counts), 0 if reference is None else len(reference))
    axes.set_xlim(0.4, max(largest, 5) - 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    label_axes(axes, "Atoms per cell", "atoms", "crystals [%]")


def plot_elements(axes: Axes, chemical_systems: Sequence[str]) -> None:
    """Share of the crystals that hold each of the most frequent elements."""
    counts = Counter(itertools.chain.from_iterable(x.split("-") for x in chemical_systems))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_ELEMENTS]
    heights = [100 * count / len(chemical_systems) for _, count in ranked]
    axes.bar(range(len(ranked)), heights, width=0.8, color=SAMPLE_COLOUR)
    axes.set_xticks(range(len(ranked)), [symbol for symbol, _ in ranked])
    axes.set_xlim(-0.7, max(len(ranked), 8) - 0.3)
    few = len(counts) <= len(ranked)
    title = "Elements" if few else f"The {len(ranked)} most frequent of {len(counts)} elements"
    label_axes(axes, title, "", "crystals that hold it [%]")
    axes.tick_params(axis="x", length=0, labelsize=8.5)


def plot_densities(axes: Axes, densities_g_per_cm3: Sequence[float]) -> None:
    """Histogram of the densities; what is off the axis is counted in words."""
    densities = np.asarray(densities_g_per_cm3, float)
    inside = densities[densities <= MAX_DENSITY_G_PER_CM3]
    upper = np.ceil(inside.max()) if inside.size else 1
    axes.hist(
        inside,
        bins=np.linspace(0, upper, num_bins(inside.size) + 1).tolist(),
        color=SAMPLE_COLOUR,
        edgecolor="white",
        linewidth=0.5,
    )
    axes.set_xlim(0, upper)
    if outside := densities.size - inside.size:
        text = f"{outside} above {MAX_DENSITY_G_PER_CM3:g} g/cm³"
        axes.text(0.98, 0.95, text, transform=axes.transAxes, ha="right", va="top", fontsize=9)
    label_axes(axes, "Density", "g/cm³", "crystals")


def num_bins(num: int) -> int:
    """Bins of a histogram of so many values."""
    return int(np.clip(2 * np.sqrt(num), 8, 40))


def _headline(num_samples: int, good_rows: Sequence[Mapping[str, Any]]) -> str:
    """The numbers of samples, crystals and valid structures in words."""
    valid = sum(bool(row["valid_structure"]) for row in good_rows)
    return f"{num_samples} samples · {len(good_rows)} crystals · {valid} valid structures"


def _text(figure: Figure, y: float, text: str, **style: Any) -> None:
    """A line at the left edge of the figure."""
    figure.text(0.03, y, text, ha="left", va="center", **({"color": TEXT_COLOUR} | style))


def label_axes(axes: Axes, title: str, x: str, y: str) -> None:
    """Titles, spines and ticks that all plots share."""
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.set_title(title, loc="left", fontsize=11, weight="bold", color=TEXT_COLOUR)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
