"""Pictures of a set of crystals: what it holds in numbers, and what some of its cells look like.

Figures are made without pyplot, so that drawing one changes no global state; save with
`figure.savefig(path)`.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from miad_jax.crystal import Crystal, real_atom_mask

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers.
SAMPLE_COLOUR = "#0072B2"
REFERENCE_COLOUR = "#D55E00"
TEXT_COLOUR, QUIET_COLOUR = "#222222", "#777777"

MAX_ELEMENTS = 25
NUM_CELLS, CELLS_A_LINE = 8, 4
MAX_FORMULA_LENGTH, MAX_LEGEND_ELEMENTS = 22, 4
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
    _label(axes, "Atoms per cell", "atoms", "crystals [%]")


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
    _label(axes, title, "", "crystals that hold it [%]")
    axes.tick_params(axis="x", length=0, labelsize=8.5)


def plot_densities(axes: Axes, densities_g_per_cm3: Sequence[float]) -> None:
    """Histogram of the densities; what is off the axis is counted in words."""
    densities = np.asarray(densities_g_per_cm3, float)
    inside = densities[densities <= MAX_DENSITY_G_PER_CM3]
    upper = np.ceil(inside.max()) if inside.size else 1
    num_bins = int(np.clip(2 * np.sqrt(inside.size), 8, 40))
    axes.hist(
        inside,
        bins=np.linspace(0, upper, num_bins + 1).tolist(),
        color=SAMPLE_COLOUR,
        edgecolor="white",
        linewidth=0.5,
    )
    axes.set_xlim(0, upper)
    if outside := densities.size - inside.size:
        text = f"{outside} above {MAX_DENSITY_G_PER_CM3:g} g/cm³"
        axes.text(0.98, 0.95, text, transform=axes.transAxes, ha="right", va="top", fontsize=9)
    _label(axes, "Density", "g/cm³", "crystals")


def draw_cell(axes: Axes, crystal: Crystal, row: Mapping[str, Any]) -> None:
    """One cell in parallel projection: atoms as shaded balls in the colours of Jmol.

    Mirage atoms and padding are left out; atoms on a face are repeated on the opposite one.
    """
    from ase.data import covalent_radii
    from ase.data.colors import jmol_colors
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Circle

    real = np.asarray(real_atom_mask(crystal))
    real_types = np.asarray(crystal.atom_types)[real]
    lattice = _upright(np.asarray(crystal.lattice, np.float64))
    frac_coords, atom_types = _with_boundary(np.asarray(crystal.frac_coords)[real], real_types)
    centres, radii = _project(frac_coords @ lattice), 0.1 + 0.43 * covalent_radii[atom_types]
    for line in _edges(lattice):
        _draw_edge(axes, line, centres, radii)
    for (x, y, depth), radius, number in zip(centres, radii, atom_types, strict=True):
        rings = np.linspace(0, 1, 16)
        discs = [
            Circle((x - 0.28 * radius * s, y + 0.32 * radius * s), radius * (1 - 0.9 * s))
            for s in rings
        ]
        colours = [_shade(jmol_colors[number], s) for s in rings]
        axes.add_collection(PatchCollection(discs, facecolors=colours, linewidths=0, zorder=depth))
        rim = Circle((x, y), radius, fill=False, color=TEXT_COLOUR, linewidth=0.5, zorder=depth)
        axes.add_patch(rim)
    axes.set_aspect("equal", adjustable="datalim")
    axes.autoscale_view()
    axes.margins(0.06)
    axes.axis("off")
    _caption(axes, row)
    _element_legend(axes, real_types)


def _caption(axes: Axes, row: Mapping[str, Any]) -> None:
    """Formula, space group and number of atoms above a cell."""
    formula = row["reduced_formula"]
    if len(formula) > MAX_FORMULA_LENGTH:
        formula = formula[: MAX_FORMULA_LENGTH - 1] + "…"
    formula = re.sub(r"(\d+)", r"$_{\1}$", formula)
    symbol = row["spacegroup_0.1"] or "no space group"
    symbol = re.sub(r"_(\d)", r"$_\1$", re.sub(r"-(\d)", r"$\\bar{\1}$", symbol))
    atoms = f"{row['num_atoms']} atom{'s' * (row['num_atoms'] != 1)}"
    style: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "bottom"}
    axes.text(0.5, 1.10, formula, fontsize=12, color=TEXT_COLOUR, **style)
    axes.text(0.5, 1.02, f"{symbol} · {atoms}", fontsize=9, color=QUIET_COLOUR, **style)


def _element_legend(axes: Axes, atom_types: Int[np.ndarray, " n"]) -> None:
    """The colours of a cell's elements below it; those that find no room are counted."""
    from ase.data import chemical_symbols
    from ase.data.colors import jmol_colors
    from matplotlib.lines import Line2D

    elements = [z for z, _ in sorted(Counter(atom_types.tolist()).items(), key=lambda x: -x[1])]
    shown = elements[:MAX_LEGEND_ELEMENTS]
    style: dict[str, Any] = {"marker": "o", "markersize": 7, "markeredgecolor": TEXT_COLOUR}
    handles = [
        Line2D([], [], linestyle="", color=jmol_colors[z], markeredgewidth=0.5, **style)
        for z in shown
    ]
    labels = [chemical_symbols[z] for z in shown]
    if len(elements) > len(shown):
        labels[-1] += f" and {len(elements) - len(shown)} more"
    axes.legend(
        handles,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncol=len(handles),
        frameon=False,
        fontsize=9,
        handlelength=1.0,
        handletextpad=0.2,
        columnspacing=0.9,
    )


def _headline(num_samples: int, good_rows: Sequence[Mapping[str, Any]]) -> str:
    """The numbers of samples, crystals and valid structures in words."""
    valid = sum(bool(row["valid_structure"]) for row in good_rows)
    return f"{num_samples} samples · {len(good_rows)} crystals · {valid} valid structures"


def _text(figure: Figure, y: float, text: str, **style: Any) -> None:
    """A line at the left edge of the figure."""
    figure.text(0.03, y, text, ha="left", va="center", **({"color": TEXT_COLOUR} | style))


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    """Titles, spines and ticks that all plots share."""
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.set_title(title, loc="left", fontsize=11, weight="bold", color=TEXT_COLOUR)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def _upright(lattice: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """The same cell with a along x and b in the xy plane."""
    _, upper = np.linalg.qr(lattice.T)
    sign = np.where(np.diag(upper) < 0, -1, 1)
    return (sign[:, None] * upper).T


def _project(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Right, up and towards the viewer, for a viewer in front of and a little above the cell."""
    azimuth, elevation = np.radians(-68), np.radians(16)
    towards = np.array(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ]
    )
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    return points @ np.stack([right, np.cross(towards, right), towards], -1)


def _with_boundary(
    frac_coords: Float[np.ndarray, "n 3"],
    atom_types: Int[np.ndarray, " n"],
    tolerance: float = 0.02,
) -> tuple[Float[np.ndarray, "m 3"], Int[np.ndarray, " m"]]:
    """Add the images of atoms that lie on a face, so that the cell looks closed."""
    frac_coords = np.asarray(frac_coords, np.float64) % 1
    shifts = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    images = frac_coords[:, None] + shifts
    atom, shift = np.nonzero(((images > -tolerance) & (images < 1 + tolerance)).all(-1))
    return images[atom, shift], np.asarray(atom_types)[atom]


def _edges(
    lattice: Float[np.ndarray, "3 3"], num_points: int = 61
) -> Iterator[Float[np.ndarray, "points 3"]]:
    """The twelve edges, projected, each as points so close that pieces pass atoms cleanly."""
    for axis in range(3):
        for corner in itertools.product((0, 1), repeat=2):
            line = np.empty((num_points, 3))
            line[:, axis] = np.linspace(0, 1, num_points)
            line[:, [i for i in range(3) if i != axis]] = corner
            yield _project(line @ lattice)


def _draw_edge(
    axes: Axes,
    line: Float[np.ndarray, "points 3"],
    centres: Float[np.ndarray, "n 3"],
    radii: Float[np.ndarray, " n"],
) -> None:
    """Draw an edge before and behind the balls, and not inside them."""
    from matplotlib.lines import Line2D

    middles = (line[1:] + line[:-1]) / 2
    inside = (np.linalg.norm(middles[:, None] - centres, axis=-1) < radii).any(-1)
    layers = np.searchsorted(np.sort(centres[:, 2]), middles[:, 2])
    runs = itertools.groupby(range(len(middles)), key=lambda i: (inside[i], layers[i]))
    for (hidden, _), run in runs:
        if not hidden:
            pieces = list(run)
            x, y, _ = line[pieces[0] : pieces[-1] + 2].T
            depth = middles[pieces, 2].mean()
            axes.add_line(Line2D(x, y, color="#555555", linewidth=1, zorder=depth))


def _shade(colour: np.ndarray, light: float) -> np.ndarray:
    """From the dark rim of a ball (light 0) over its colour to its highlight (light 1)."""
    if light < 0.5:
        return colour * (0.72 + 0.56 * light)
    return colour + (1 - colour) * (light - 0.5) * 1.5
