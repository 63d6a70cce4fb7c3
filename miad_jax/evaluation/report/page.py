"""The report as one HTML page that opens offline: tables, figures, crystals, settings.

Pictures are inlined and there is no script, so that the page can be mailed and kept. All text
from the input is escaped, and the page forbids the browser to load anything.
"""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from miad_jax.evaluation.report.pictures import (
    Picture,
    Row,
    atoms_picture,
    cell_picture,
    elements_picture,
    energies_of,
    energies_picture,
    is_denied,
    is_valid,
    spacegroups_picture,
    subject,
)
from miad_jax.evaluation.results import EvaluationResult, Table
from miad_jax.evaluation.statistics import Quantity, Rate

NUM_BEST, NUM_WORST, NUM_REASONS = 12, 6, 15

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


def html_page(judgement: EvaluationResult) -> str:
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
        "energies above the hull": len(energies_of(rows)),
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


def _figures(judgement: EvaluationResult) -> Iterator[str]:
    """Atoms per cell, space groups, energies above the hull, and the periodic table."""
    name, rows, why = subject(judgement.rows)
    energies = energies_of(judgement.rows)
    yield f"<p>{why}</p>"
    pictures = []
    if rows:
        pictures.append(atoms_picture(name, rows, judgement.reference_histogram))
        pictures.append(spacegroups_picture(rows))
    if energies:
        pictures.append(energies_picture(energies))
    else:
        yield "<p>No energy above the hull is known, so there is no histogram of them.</p>"
    if rows:
        pictures.append(elements_picture(name, rows))
    yield _group("plots", map(_card, pictures))


def _sheet(judgement: EvaluationResult, indices: Sequence[int]) -> str:
    """Pictures of crystals, or that there is none."""
    drawn = [(judgement.rows[i], judgement.structures[i]) for i in indices]
    cards = [_card(cell_picture(row, structure)) for row, structure in drawn if structure]
    return _group("cells", cards) if cards else "<p><b>There is none.</b></p>"


def _best(judgement: EvaluationResult) -> list[int]:
    """S.U.N. crystals by energy above the hull, then others that nothing speaks against."""
    rows = judgement.rows

    def good(row: Row) -> bool:
        return is_valid(row) and not (is_denied(row["unique"]) or is_denied(row["novel"]))

    def rank(i: int) -> tuple[bool, float]:
        return not rows[i]["sun"], min(energies_of([rows[i]]), default=math.inf)

    return sorted((i for i, row in enumerate(rows) if row["sun"] or good(row)), key=rank)[:NUM_BEST]


def _worst(judgement: EvaluationResult) -> list[int]:
    """Invalid structures, those with the closest atoms first; what is no crystal is left out."""
    rows = judgement.rows
    invalid = [i for i, row in enumerate(rows) if not (row["valid_structure"] or row["reason"])]
    return sorted(invalid, key=lambda i: rows[i]["min_distance_angstrom"] or 0)[:NUM_WORST]


def _reasons(rows: Sequence[Row]) -> list[list[str]]:
    """What went wrong with how many samples, most frequent first."""
    columns = {
        "reason": "no crystal",
        "relaxation_reason": "not relaxed",
        "matching_reason": "not compared",
        "hull_reason": "no energy above the hull",
        "dft_reason": "no energy above the hull by DFT",
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
