"""A periodic table as a heat map: how many crystals hold each element."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from miad_jax.plots.unit_cell import QUIET_COLOUR, TEXT_COLOUR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

LAYOUT = """
H                                                  He
Li Be                               B  C  N  O  F  Ne
Na Mg                               Al Si P  S  Cl Ar
K  Ca Sc Ti V  Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
Rb Sr Y  Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I  Xe
Cs Ba *  Hf Ta W  Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn
Fr Ra *  Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og

      La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu
      Ac Th Pa U  Np Pu Am Cm Bk Cf Es Fm Md No Lr
"""
"""A line is a row of the table and three characters are a column; * stands for the f block."""

PLACES = {
    found[0]: (found.start() // 3, row)
    for row, line in enumerate(LAYOUT.strip("\n").splitlines())
    for found in re.finditer("[A-Z][a-z]?", line)
}
"""Column and row of every element, both from 0."""

GAP_ABOVE_F_BLOCK = 0.6
COLOURS, ABSENT_COLOUR = "YlGnBu", "#eef0f2"


def plot_periodic_table(
    axes: Axes, counts: Mapping[str, int], label: str = "crystals that hold the element"
) -> None:
    """Draw every element in the colour of its count, with the count below its symbol.

    The colour grows with the square root of the count, so that rare elements differ from
    absent ones, which are grey.

    Args:
        axes: Filled by the table; best about twice as wide as high.
        counts: Numbers by element symbol; elements that are left out count as 0.
        label: What is counted, written on the colour bar.

    Raises:
        ValueError: If a key is no element's symbol.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import PowerNorm, to_hex
    from matplotlib.patches import Rectangle

    if unknown := sorted(set(counts) - set(PLACES)):
        raise ValueError(
            f"{', '.join(map(repr, unknown))} is no element: give counts by symbols as 'Fe'"
        )
    largest = max([1, *counts.values()])
    scale = ScalarMappable(PowerNorm(0.5, 0, largest), COLOURS)
    for symbol, (column, row) in PLACES.items():
        count = counts.get(symbol, 0)
        y = row - (row > 7) * (1 - GAP_ABOVE_F_BLOCK)
        colour = to_hex(tuple(scale.to_rgba(np.array(count)))) if count else ABSENT_COLOUR
        axes.add_patch(Rectangle((column + 0.03, y + 0.03), 0.94, 0.94, color=colour, linewidth=0))
        ink = _ink(colour) if count else QUIET_COLOUR
        style: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
        axes.text(column + 0.5, y + 0.36, symbol, fontsize=12, **style)
        if count:
            axes.text(column + 0.5, y + 0.76, _short(count), fontsize=7.5, **style)
    for row, symbols in ((5, "La\u2009–\u2009Lu"), (6, "Ac\u2009–\u2009Lr")):
        style = {"ha": "center", "va": "center", "color": QUIET_COLOUR}
        axes.text(2.5, row + 0.5, symbols, fontsize=8.5, **style)
    axes.set_xlim(0, 18)
    axes.set_ylim(9 + GAP_ABOVE_F_BLOCK, 0)
    axes.set_aspect("equal")
    axes.axis("off")
    if any(counts.values()):
        _colour_bar(axes, scale, label)


def _colour_bar(axes: Axes, scale: ScalarMappable, label: str) -> None:
    """A bar above the transition metals, where the table is empty."""
    from matplotlib.ticker import MaxNLocator

    place = axes.inset_axes((2.9, 1.05, 8.2, 0.4), transform=axes.transData)
    bar = axes.figure.colorbar(
        scale,
        cax=place,
        orientation="horizontal",
        ticks=MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]),
    )
    bar.outline.set_visible(False)
    place.tick_params(labelsize=9, colors=TEXT_COLOUR, length=3)
    place.set_title(label, fontsize=10, color=TEXT_COLOUR, loc="left", pad=5)


def _ink(colour: str) -> str:
    """White on dark colours, dark on light ones (luma of ITU-R BT.601)."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(colour)
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.45 else TEXT_COLOUR


def _short(count: int) -> str:
    """A count in at most four characters below a million."""
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"
