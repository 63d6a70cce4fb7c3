"""The report as one HTML page that opens offline: tables, figures, crystals, settings.

Pictures are inlined and there is no script, so that the page can be mailed and kept. All text
from the input is escaped, and the page forbids the browser to load anything.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from miad_jax.crystal import Crystal
from miad_jax.data.standard import structure_arrays
from miad_jax.evaluation.cells import TEXT_COLOUR, draw_cell
from miad_jax.evaluation.describe import SYMPREC_ANGSTROM
from miad_jax.evaluation.figures import SAMPLE_COLOUR, plot_atoms_per_cell
from miad_jax.evaluation.judgement import Judgement, Table
from miad_jax.evaluation.periodic_table import plot_periodic_table
from miad_jax.evaluation.rates import Quantity, Rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pymatgen.core import Structure

    Row = Mapping[str, Any]

NUM_BEST, NUM_WORST, NUM_SPACEGROUPS, NUM_REASONS = 12, 6, 12, 15
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

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Report on generated samples</title><style>
:root { color-scheme: light dark; --ink: #1c2126; --quiet: #59636e; --line: #d6dce2;
 --paper: #f5f7f9; --card: #fff }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --quiet: #a2aeb9; --line: #37414b;
 --paper: #12171c; --card: #1a2127 } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 76rem; color: var(--ink);
 background: var(--paper); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { margin: 0; font-size: 1.8rem } h2 { margin: 2.2rem 0 .6rem; font-size: 1.3rem }
p { margin: .25rem 0 1rem; color: var(--quiet) } b { color: var(--ink) }
.tables { columns: 30rem; column-gap: 1rem }
.tables table { break-inside: avoid; margin-bottom: 1rem }
.plots, .cells { display: grid; gap: 1rem; align-items: start;
 grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)) }
.cells { grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)) }
.cells h3 { font-size: .9rem }
.wide { grid-column: 1 / -1 } .wide div { overflow-x: auto } .wide img { min-width: 40rem }
figure, table { width: 100%; margin: 0; padding: .8rem; background: var(--card);
 border: 1px solid var(--line); border-radius: .6rem; border-spacing: 0 }
caption, h3 { margin: 0; padding: .2rem 0; text-align: left; font-weight: 650; font-size: 1.05rem }
th, td { padding: .4rem .8rem .4rem 0; text-align: left; vertical-align: top; font-weight: 500;
 border-top: 1px solid var(--line) }
th { overflow-wrap: break-word } td { font-weight: 400 } :is(th, td):last-child { padding-right: 0 }
thead th { border: 0; font-size: .8rem; color: var(--quiet) }
.numbers td, .numbers thead th + th { text-align: right; white-space: nowrap;
 font-variant-numeric: tabular-nums }
figcaption { margin-top: .35rem }
small, figcaption { display: block; font-size: .82rem; line-height: 1.4; color: var(--quiet) }
img { display: block; width: 100%; height: auto; background: #fff; border-radius: .35rem }
@media (max-width: 36rem) { .numbers thead { display: none } .numbers tr { display: flex;
 flex-wrap: wrap; justify-content: space-between; border-top: 1px solid var(--line) }
 .numbers th { flex: 1 0 100% } .numbers th, .numbers td { border: 0; padding: .15rem 0 } }
</style></head><body>
"""


def html_page(judgement: Judgement) -> str:
    """The whole page; whatever is missing is said in its place."""
    rows = judgement.rows
    settings = [[escape(name), escape(text)] for name, text in _flatten(judgement.settings)]
    parts = [
        f"{HEAD}<h1>Report on {len(rows)} generated samples</h1>",
        f"<p>{_headline(rows)}</p>",
        "<h2>Results</h2><p>Ranges in brackets are 95 % intervals.</p>",
        _group("tables", (_numbers(*item) for item in judgement.tables.items())),
        "<h2>What was generated</h2>",
        *_figures(judgement),
        "<h2>The best crystals</h2>",
        "<p>S.U.N. crystals by energy above the hull, then others that are valid and not known to "
        "match an earlier sample or the reference. Cells as generated, not relaxed.</p>",
        _sheet(judgement, _best(judgement)),
        "<h2>The worst crystals</h2>",
        "<p>Invalid structures as generated, the closest atoms first, as far as they have a cell "
        "to draw.</p>",
        _sheet(judgement, _worst(judgement)),
        "<h2>What failed, and why</h2>",
        _table(["outcome", "reason", "samples"], _reasons(rows)) or "<p>Nothing failed.</p>",
        "<h2>Settings</h2>",
        _table(["setting", "value"], settings) or "<p>None were recorded.</p>",
        "</body></html>\n",
    ]
    return "\n".join(parts)


def shown(entry: Rate | Quantity) -> tuple[str, str, str]:
    """Value, 95 % interval, and count or unit of a number, as people read them."""
    share = isinstance(entry, Rate)
    of = f"{entry.count} of {entry.total}" if isinstance(entry, Rate) else entry.unit
    if entry.value is None or not math.isfinite(entry.value):
        return "not known", "", of
    interval = entry.interval if np.isfinite(entry.interval or np.nan).all() else ()
    numbers = [(100 if share else 1) * x for x in (entry.value, *(interval or ()))]
    if isinstance(entry, Rate):
        form = ".2f" if entry.total >= 1000 else ".1f"
    else:
        form = _form(numbers)
    value, *low_high = (format(x, form) for x in numbers)
    return value + " %" * share, f"[{', '.join(low_high)}]" if low_high else "", of


def _form(numbers: list[float]) -> str:
    """A format with four digits of the first number, the same decimals for all; whole in full."""
    if all(x == round(x) for x in numbers):
        return ".0f"
    size = math.floor(math.log10(abs(numbers[0]))) if numbers[0] else 0
    return f".{max(3 - size, 0)}f" if size > -4 else ".3e"


def _headline(rows: Sequence[Row]) -> str:
    """How far the samples came, in one line."""
    counts = {
        "samples": len(rows),
        "crystals": sum(not row["reason"] for row in rows),
        "valid structures": sum(bool(row["valid_structure"]) for row in rows),
        "energies above the hull": len(_energies(rows)),
        "S.U.N.": sum(bool(row["sun"]) for row in rows),
    }
    return " · ".join(f"<b>{count}</b> {name}" for name, count in counts.items())


def _numbers(title: str, table: Table) -> str:
    """A table of numbers, each with its definition below its name."""
    names = [f"{escape(x.name)}<small>{escape(x.definition)}</small>" for x in table]
    cells = [[name, *map(escape, shown(x))] for name, x in zip(names, table, strict=True)]
    return _table(["", "value", "interval", "count or unit"], cells, title, "numbers")


def _table(head: list[str], cells: list[list[str]], title: str = "", kind: str = "") -> str:
    """A table of HTML cells, the first of each row its header; nothing without a row."""
    if not cells:
        return ""
    top = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "\n".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>'
        for name, *others in cells
    )
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    return (
        f'<table class="{kind}">{caption}\n'
        f"<thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
    )


def _group(kind: str, parts: Iterable[str]) -> str:
    """Parts beside and below each other, as the width allows."""
    return "\n".join([f'<div class="{kind}">', *parts, "</div>"])


def _card(picture: Picture) -> str:
    """A picture with its title, the notes below it, and its text for who does not see it."""
    image = io.BytesIO()
    picture.figure.savefig(image, format="png")
    data = base64.b64encode(image.getvalue()).decode()
    notes = "<br>".join(map(escape, picture.notes))
    return (
        f'<figure class="{picture.kind}"><h3>{escape(picture.title)}</h3>\n'
        f'<div><img alt="{escape(picture.alt)}" src="data:image/png;base64,{data}"></div>\n'
        f"<figcaption>{notes}</figcaption></figure>"
    )


def _figures(judgement: Judgement) -> Iterator[str]:
    """Atoms per cell, space groups, energies above the hull, and the periodic table."""
    name, rows, why = _subject(judgement.rows)
    energies = _energies(judgement.rows)
    yield f"<p>{why}</p>"
    pictures = []
    if rows:
        pictures.append(_atoms_picture(name, rows, judgement.reference_histogram))
        pictures.append(_spacegroups_picture(rows))
    if energies:
        pictures.append(_energies_picture(energies))
    else:
        yield "<p>No energy above the hull is known, so there is no histogram of them.</p>"
    if rows:
        pictures.append(_elements_picture(name, rows))
    yield _group("plots", map(_card, pictures))


def _sheet(judgement: Judgement, indices: Sequence[int]) -> str:
    """Pictures of crystals, or that there is none."""
    drawn = [(judgement.rows[i], judgement.structures[i]) for i in indices]
    cards = [_card(_cell_picture(row, structure)) for row, structure in drawn if structure]
    return _group("cells", cards) if cards else "<p><b>There is none.</b></p>"


def _best(judgement: Judgement) -> list[int]:
    """S.U.N. crystals by energy above the hull, then others that nothing speaks against."""
    rows = judgement.rows

    def good(row: Row) -> bool:
        return _is_valid(row) and not (_denied(row["unique"]) or _denied(row["novel"]))

    def rank(i: int) -> tuple[bool, float]:
        return not rows[i]["sun"], min(_energies([rows[i]]), default=math.inf)

    return sorted((i for i, row in enumerate(rows) if row["sun"] or good(row)), key=rank)[:NUM_BEST]


def _worst(judgement: Judgement) -> list[int]:
    """Invalid structures, those with the closest atoms first; what is no crystal is left out."""
    rows = judgement.rows
    invalid = [i for i, row in enumerate(rows) if not (row["valid_structure"] or row["reason"])]
    return sorted(invalid, key=lambda i: rows[i]["min_distance_angstrom"] or 0)[:NUM_WORST]


def _reasons(rows: Sequence[Row]) -> list[list[str]]:
    """What went wrong with how many samples, most frequent first."""
    columns = {
        "reason": "no crystal",
        "relaxation_reason": "relaxation failed",
        "hull_reason": "no energy above the hull",
    }
    counts = Counter((text, row[name]) for row in rows for name, text in columns.items())
    found = [[text, escape(str(why)), str(n)] for (text, why), n in counts.most_common() if why]
    rest = [["others", f"{len(found) - NUM_REASONS} more reasons, see crystals.csv", ""]]
    return found[:NUM_REASONS] + rest * (len(found) > NUM_REASONS)


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings by dotted name, as text."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", "not known" if value is None else str(value)


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


def _subject(rows: Sequence[Row]) -> tuple[str, list[Row], str]:
    """Name of the crystals that the figures show, these crystals, and why they are shown."""
    if sun := [row for row in rows if row["sun"]]:
        which = f"the {len(sun)} S.U.N. crystals; energies above the hull are of all"
        return "S.U.N. crystals", sun, f"The figures show {which} that have one."
    valid = [row for row in rows if _is_valid(row)]
    why = "No crystal is known to be stable, unique and novel"
    return "valid crystals", valid, f"{why}: the figures show all {len(valid)} valid crystals."


def _is_valid(row: Row) -> bool:
    """Whether the structure is valid, and the composition is not known to be invalid."""
    return bool(row["valid_structure"]) and not _denied(row["valid_composition"])


def _denied(outcome: Any) -> bool:
    """Whether an outcome is known and false."""
    return outcome is not None and not outcome


def _energies(rows: Iterable[Row]) -> list[float]:
    """The known energies above the hull in eV/atom."""
    values = (row["e_above_hull_ev_per_atom"] for row in rows)
    return [float(x) for x in values if x is not None and math.isfinite(x)]


def _atoms_picture(name: str, rows: Sequence[Row], histogram: np.ndarray) -> Picture:
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


def _spacegroups_picture(rows: Sequence[Row]) -> Picture:
    """The most frequent space groups, and the shares of P1."""
    figure, axes = _canvas()
    axes.set_position((0.27, 0.17, 0.7, 0.79))
    plot_spacegroups(axes, rows)
    counts = Counter(row[f"spacegroup_{SYMPREC_ANGSTROM[0]:g}"] or "none found" for row in rows)
    p1 = " and ".join(
        f"{100 * sum(row[f'spacegroup_{s:g}'] == 'P1' for row in rows) / len(rows):.1f} % at {s:g}"
        for s in SYMPREC_ANGSTROM
    )
    common = ", ".join(f"{symbol} {count}" for symbol, count in counts.most_common(8))
    note = f"{len(counts)} different; P1 are {p1} Å tolerance"
    return Picture("Space groups", [note], f"Bar chart of space groups: {common}.", figure)


def _energies_picture(energies: Sequence[float]) -> Picture:
    """Energies above the hull of all crystals that have one."""
    figure, axes = _canvas()
    axes.set_position((0.14, 0.17, 0.83, 0.73))
    plot_energies(axes, energies)
    below = [sum(x < limit for x in energies) for limit in (0, 0.1)]
    note = f"{len(energies)} crystals: {below[0]} below 0 and {below[1]} below 0.1 eV/atom"
    return Picture("Energy above the hull", [note], f"Histogram of {note}.", figure)


def _elements_picture(name: str, rows: Sequence[Row]) -> Picture:
    """The periodic table."""
    counts = Counter(symbol for row in rows for symbol in row["chemical_system"].split("-"))
    figure, axes = _canvas(10, 5.4)
    axes.set_position((0.005, 0.005, 0.99, 0.99))
    plot_periodic_table(axes, counts, f"{name} that hold the element")
    common = ", ".join(f"{symbol} {count}" for symbol, count in counts.most_common(10))
    note = f"{len(counts)} elements; the most frequent are {common}"
    return Picture("Elements", [note], f"Periodic table: {note}.", figure, "wide")


def _cell_picture(row: Row, structure: Structure) -> Picture:
    """A picture of one crystal as generated, and what is known of it."""
    facts = [text for name, text in (("sun", "S.U.N."), ("msun", "M.S.U.N.")) if row[name]][:1]
    facts += [
        f"{energy:+.3f} eV/atom above the hull".replace("-", "−") for energy in _energies([row])
    ]
    if not row["valid_structure"] and row["min_distance_angstrom"] is not None:
        facts.append(f"atoms {row['min_distance_angstrom']:.2f} Å apart")
    figure, axes = _canvas(2.6, 2.9)
    axes.set_position((0.02, 0.12, 0.96, 0.68))
    try:
        arrays: list[Any] = [*structure_arrays(structure), np.ones(len(structure), bool)]
        draw_cell(axes, Crystal(*arrays), row)
    except ValueError as error:
        axes.axis("off")
        facts.append(f"not drawn: {error}")
    symmetry = row["spacegroup_0.1"] or "no space group"
    alt = f"Unit cell of {row['reduced_formula']}, {symmetry}, {row['num_atoms']} atoms."
    return Picture(str(row["id"]), facts, alt, figure)


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
