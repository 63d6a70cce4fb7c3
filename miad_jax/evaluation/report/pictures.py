"""The report's pictures: what the crystals are in four figures, and single cells, with captions.

A picture is a figure with its title, its notes, and what it shows in words.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from miad_jax.data.symmetry import PYMATGEN_ANGLE_TOLERANCE_DEGREES as ANGLE
from miad_jax.data.written import structure_as_written
from miad_jax.evaluation.describe import SYMPREC_ANGSTROM
from miad_jax.plots.periodic_table import plot_periodic_table
from miad_jax.plots.summary import SAMPLE_COLOUR, plot_atoms_per_cell
from miad_jax.plots.unit_cell import TEXT_COLOUR, draw_cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pymatgen.core import Structure

Row = Mapping[str, Any]

NUM_SPACEGROUPS = 12
LEGEND: dict[str, Any] = {
    "frameon": False,
    "fontsize": 9,
    "handlelength": 1.2,
    "columnspacing": 1.2,
}
LIGHT_SAMPLE_COLOUR = "#9CCBE8"
STABLE_COLOUR, METASTABLE_COLOUR, UNSTABLE_COLOUR = "#009E73", "#E69F00", "#B4BBC2"
BIN_EV_PER_ATOM, FIRST_BIN, LAST_BIN = 0.02, -25, 50
"""Bins of the energies above the hull; 0 and 0.1 eV/atom are edges of bins."""


class Picture(NamedTuple):
    """A figure and what is said of it.

    Attributes:
        title: Its headline.
        notes: Lines below it.
        alt: What it shows, in words.
        figure: Of matplotlib.
        kind: "wide" for a figure as wide as the page.
    """

    title: str
    notes: list[str]
    alt: str
    figure: Figure
    kind: str = ""


def subject(rows: Sequence[Row]) -> tuple[str, list[Row], str]:
    """Name of the crystals that the figures show, these crystals, and why they are shown."""
    if sun := [row for row in rows if row["sun"]]:
        which = f"the {len(sun)} S.U.N. crystals; energies above the hull are of all"
        return "S.U.N. crystals", sun, f"The figures show {which} that have one."
    valid = [row for row in rows if is_valid(row)]
    why = "No crystal is known to be stable, unique and novel"
    return "valid crystals", valid, f"{why}: the figures show all {len(valid)} valid crystals."


def is_valid(row: Row) -> bool:
    """Whether the structure is valid, and the composition is not known to be invalid."""
    return bool(row["valid_structure"]) and not is_denied(row["valid_composition"])


def is_denied(outcome: Any) -> bool:
    """Whether an outcome is known and false."""
    return outcome is not None and not outcome


def energies_of(rows: Iterable[Row]) -> list[float]:
    """The known energies above the hull in eV/atom."""
    values = (row["e_above_hull_ev_per_atom"] for row in rows)
    return [float(x) for x in values if x is not None and math.isfinite(x)]


def atoms_picture(name: str, rows: Sequence[Row], histogram: np.ndarray) -> Picture:
    """Atoms per cell beside the reference."""
    sizes = [row["num_atoms"] for row in rows]
    figure, axes = _canvas()
    has_reference = np.sum(histogram) > 0
    plot_atoms_per_cell(axes, sizes, histogram if has_reference else None)
    axes.set_title("", loc="left")
    if has_reference:
        handles, labels = axes.get_legend_handles_labels()
        names = {"samples": name, "training data": "reference"}
        axes.legend(handles, [names[label] for label in labels], **LEGEND)
    middle = f"{np.mean(sizes):.1f} on average, {min(sizes)} to {max(sizes)}"
    alt = f"Bar chart of the atoms per cell: {middle}."
    return Picture("Atoms per cell", [f"{len(rows)} {name}; {middle}"], alt, figure)


def spacegroups_picture(rows: Sequence[Row]) -> Picture:
    """The most frequent space groups, and the shares of P1."""
    figure, axes = _canvas()
    axes.set_position((0.27, 0.17, 0.7, 0.79))
    plot_spacegroups(axes, rows)
    counts = Counter(row[f"spacegroup_{SYMPREC_ANGSTROM[0]:g}"] or "none found" for row in rows)

    def p1(column: str) -> str:
        shares = [sum(row[f"{column}_{s:g}"] == 1 for row in rows) for s in SYMPREC_ANGSTROM]
        return " and ".join(
            f"{100 * share / len(rows):.1f} % at {s:g}"
            for share, s in zip(shares, SYMPREC_ANGSTROM, strict=True)
        )

    common = ", ".join(f"{symbol} {count}" for symbol, count in counts.most_common(8))
    unknown = counts.get("none found", 0)
    none_found = f"; spglib finds none for {unknown} of {len(rows)}" if unknown else ""
    notes = [
        f"{len(counts) - bool(unknown)} different; P1 are {p1('spacegroup_number')} Å tolerance"
        f"{none_found}",
        f"These are spglib's with its own rule for angles. With pymatgen's {ANGLE:g}°, which "
        f"papers print, P1 are {p1('spacegroup_number_pymatgen')} Å",
    ]
    return Picture("Space groups", notes, f"Bar chart of space groups: {common}.", figure)


def energies_picture(energies: Sequence[float]) -> Picture:
    """Energies above the hull of all crystals that have one."""
    figure, axes = _canvas()
    axes.set_position((0.14, 0.17, 0.83, 0.73))
    plot_energies(axes, energies)
    below = [sum(x < limit for x in energies) for limit in (0, 0.1)]
    note = f"{len(energies)} crystals: {below[0]} below 0 and {below[1]} below 0.1 eV/atom"
    return Picture("Energy above the hull", [note], f"Histogram of {note}.", figure)


def elements_picture(name: str, rows: Sequence[Row]) -> Picture:
    """The periodic table."""
    counts = Counter(symbol for row in rows for symbol in row["chemical_system"].split("-"))
    figure, axes = _canvas(10, 5.4)
    axes.set_position((0.005, 0.005, 0.99, 0.99))
    plot_periodic_table(axes, counts, f"{name} that hold the element")
    common = ", ".join(f"{symbol} {count}" for symbol, count in counts.most_common(10))
    note = f"{len(counts)} elements; the most frequent are {common}"
    return Picture("Elements", [note], f"Periodic table: {note}.", figure, "wide")


def cell_picture(row: Row, structure: Structure) -> Picture:
    """A picture of one crystal as generated, and what is known of it."""
    facts = [f"sample {row['id']}"]
    facts += [text for name, text in (("sun", "S.U.N."), ("msun", "M.S.U.N.")) if row[name]][:1]
    facts += [
        f"{energy:+.3f} eV/atom above the hull".replace("-", "−") for energy in energies_of([row])
    ]
    if not row["valid_structure"] and row["min_distance_angstrom"] is not None:
        facts.append(f"atoms {row['min_distance_angstrom']:.2f} Å apart")
    if row["implausible_because"]:
        facts.append(f"not plausible: {row['implausible_because']}")
    figure, axes = _canvas(2.6, 2.9)
    axes.set_position((0.02, 0.12, 0.96, 0.68))
    try:
        draw_cell(axes, structure_as_written(structure), row)
    except ValueError as error:
        axes.axis("off")
        facts.append(f"not drawn: {error}")
    symmetry = row["spacegroup_0.1"] or "no space group"
    alt = f"Unit cell of {row['reduced_formula']}, {symmetry}, {row['num_atoms']} atoms."
    return Picture(row["reduced_formula"], facts, alt, figure)


def plot_spacegroups(axes: Axes, rows: Sequence[Row]) -> None:
    """Shares of the most frequent space groups, at both tolerances."""
    counts = [
        Counter((row[f"spacegroup_number_{s:g}"], row[f"spacegroup_{s:g}"]) for row in rows)
        for s in SYMPREC_ANGSTROM
    ]
    groups = [group for group, _ in counts[0].most_common(NUM_SPACEGROUPS)]
    for i, colour in enumerate((SAMPLE_COLOUR, LIGHT_SAMPLE_COLOUR)):
        shares = [100 * counts[i][group] / len(rows) for group in groups]
        places = np.arange(len(groups)) + 0.4 * i - 0.2
        axes.barh(places, shares, 0.4, color=colour, label=f"at {SYMPREC_ANGSTROM[i]:g} Å")
    labels = []
    for number, symbol in groups:
        bars = re.sub(r"-(\d)", r"$\\bar{\1}$", symbol or "none found")
        labels.append(re.sub(r"_(\d)", r"$_\1$", bars) + (f"  {number}" if number else ""))
    axes.set_yticks(range(len(groups)), labels)
    axes.set_ylim(max(len(groups), 4) - 0.5, -0.5)
    axes.legend(**LEGEND, loc="lower right")
    axes.set_xlabel("crystals [%]")


def plot_energies(axes: Axes, energies: Sequence[float]) -> None:
    """Histogram of the energies above the hull in eV/atom, with lines at 0 and 0.1."""
    values = np.asarray(energies)
    first = int(np.clip(np.floor(values.min() / BIN_EV_PER_ATOM), FIRST_BIN, -2))
    last = int(np.clip(np.floor(values.max() / BIN_EV_PER_ATOM) + 1, 8, LAST_BIN))
    edges = BIN_EV_PER_ATOM * np.arange(first, last + 1)
    limits = (-np.inf, 0, 0.1, np.inf)
    colours = (STABLE_COLOUR, METASTABLE_COLOUR, UNSTABLE_COLOUR)
    names = ("below 0", "0 to 0.1", "0.1 and above")
    for name, colour, low, high in zip(names, colours, limits[:-1], limits[1:], strict=True):
        part = values[(values >= low) & (values < high)]
        style: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.5}
        axes.hist(part, edges.tolist(), color=colour, label=f"{name}: {len(part)}", **style)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.04, 1), ncols=3, **LEGEND)
    for limit in limits[1:-1]:
        axes.axvline(limit, color=TEXT_COLOUR, linewidth=1, linestyle="--")
    if outside := int(((values < edges[0]) | (values > edges[-1])).sum()):
        text = f"{outside} beyond the axis"
        axes.text(0.98, 0.95, text, transform=axes.transAxes, ha="right", va="top", fontsize=9)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel("energy above the hull [eV/atom]")
    axes.set_ylabel("crystals")


def _canvas(width: float = 4.6, height: float = 3.3) -> tuple[Figure, Axes]:
    """A figure of this size in inches with one plot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=180, facecolor="white", layout=None)
    axes = figure.add_axes((0.14, 0.17, 0.83, 0.79))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    return figure, axes
