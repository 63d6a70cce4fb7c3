"""Drawings of single cells: atoms as shaded balls, edges that pass before and behind them."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from miad_jax.crystal import Crystal, real_atom_mask

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEXT_COLOUR, QUIET_COLOUR = "#222222", "#777777"
MAX_FORMULA_LENGTH, MAX_LEGEND_ELEMENTS = 22, 4


def draw_cell(axes: Axes, crystal: Crystal, row: Mapping[str, Any]) -> None:
    """One cell in parallel projection: atoms as shaded balls in the colours of Jmol.

    `closed_cell` says which atoms are drawn.
    """
    from ase.data.colors import jmol_colors

    lattice, frac_coords, atom_types = closed_cell(crystal)
    centres, radii = project(frac_coords @ lattice), ball_radii(atom_types)
    for line in edges(lattice):
        draw_edge(axes, line, centres, radii)
    for centre, radius, number in zip(centres, radii, atom_types, strict=True):
        draw_ball(axes, centre, radius, jmol_colors[number])
    axes.set_aspect("equal", adjustable="datalim")
    axes.autoscale_view()
    axes.margins(0.06)
    axes.axis("off")
    draw_caption(axes, row)
    _element_legend(axes, np.asarray(crystal.atom_types)[np.asarray(real_atom_mask(crystal))])


def closed_cell(
    crystal: Crystal,
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "m 3"], Int[np.ndarray, " m"]]:
    """The upright cell in Å, fractional coordinates and types of what is drawn of a crystal.

    Mirage atoms and padding are left out; atoms on a face are repeated on the opposite one.
    """
    real = np.asarray(real_atom_mask(crystal))
    lattice = upright(np.asarray(crystal.lattice, np.float64))
    real_types = np.asarray(crystal.atom_types)[real]
    return lattice, *_with_boundary(np.asarray(crystal.frac_coords)[real], real_types)


def ball_radii(atom_types: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Radii of balls in Å of the page, from the covalent radii of their elements."""
    from ase.data import covalent_radii

    return 0.1 + 0.43 * covalent_radii[atom_types]


def draw_ball(
    axes: Axes,
    centre: Float[np.ndarray, " 3"],
    radius: float,
    colour: Float[np.ndarray, " 3"],
    rim: Any = TEXT_COLOUR,
    num_rings: int = 16,
) -> None:
    """A ball that is lit from the upper left.

    Args:
        axes: Where it is drawn.
        centre: Right, up and towards the viewer, as `project` gives them.
        radius: In the same unit.
        colour: Red, green and blue, from 0 to 1.
        rim: Colour of its outline.
        num_rings: Number of shades.
    """
    from matplotlib.collections import EllipseCollection
    from matplotlib.patches import Circle

    x, y, depth = centre
    light = np.linspace(0, 1, num_rings)
    diameters = 2 * radius * (1 - 0.9 * light)
    shades = EllipseCollection(
        diameters,
        diameters,
        np.zeros(num_rings),
        units="xy",
        offsets=np.stack([x - 0.28 * radius * light, y + 0.32 * radius * light], -1),
        offset_transform=axes.transData,
        facecolors=[shade(colour, s) for s in light],
        linewidths=0,
        zorder=depth,
    )
    axes.add_collection(shades, autolim=False)
    outline = Circle((x, y), radius, fill=False, color=rim, linewidth=0.5, zorder=depth)
    axes.add_patch(outline)


def draw_caption(axes: Axes, row: Mapping[str, Any]) -> None:
    """Formula, space group and number of atoms above a cell."""
    formula = row["reduced_formula"]
    if len(formula) > MAX_FORMULA_LENGTH:
        formula = formula[: MAX_FORMULA_LENGTH - 1] + "…"
    formula = re.sub(r"(\d+)", r"$_{\1}$", formula)
    symbol = row["spacegroup_0.1"] or "no space group"
    symbol = re.sub(r"_(\d)", r"$_\1$", re.sub(r"-(\d)", r"$\\bar{\1}$", symbol))
    atoms = f"{row['num_atoms']} atom{'s' * (row['num_atoms'] != 1)}"
    draw_lines(axes, formula, f"{symbol} · {atoms}")


def draw_lines(axes: Axes, first: str, second: str, colour: str = TEXT_COLOUR) -> None:
    """A large line of that colour and a small quiet one above a cell."""
    style: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "bottom"}
    axes.text(0.5, 1.10, first, fontsize=12, color=colour, **style)
    axes.text(0.5, 1.02, second, fontsize=9, color=QUIET_COLOUR, **style)


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


def upright(lattice: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """The same cell with a along x and b in the xy plane."""
    _, upper = np.linalg.qr(lattice.T)
    sign = np.where(np.diag(upper) < 0, -1, 1)
    return (sign[:, None] * upper).T


def project(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
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


def edges(
    lattice: Float[np.ndarray, "3 3"], num_points: int = 61
) -> Iterator[Float[np.ndarray, "points 3"]]:
    """The twelve edges, projected, each as points so close that pieces pass atoms cleanly."""
    for axis in range(3):
        for corner in itertools.product((0, 1), repeat=2):
            line = np.empty((num_points, 3))
            line[:, axis] = np.linspace(0, 1, num_points)
            line[:, [i for i in range(3) if i != axis]] = corner
            yield project(line @ lattice)


def draw_edge(
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


def shade(colour: np.ndarray, light: float) -> np.ndarray:
    """From the dark rim of a ball (light 0) over its colour to its highlight (light 1)."""
    if light < 0.5:
        return colour * (0.72 + 0.56 * light)
    return colour + (1 - colour) * (light - 0.5) * 1.5
