"""The report as one HTML page that opens offline: tables, figures, crystals, settings.

`page.html.jinja` is the page; here is what it shows. Pictures are inlined and there is no script,
so that the page can be mailed and kept. All text from the input is escaped, and the page forbids
the browser to load anything.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
from miad_jax.evaluation.results import EvaluationResult
from miad_jax.evaluation.stability.hull_report import hull_sentences
from miad_jax.evaluation.tables import shown

NUM_BEST, NUM_WORST, NUM_REASONS = 12, 6, 15

Cards = dict[str, dict[str, Any]]
"""Drawn pictures by what they show: a page that is made again draws only what has changed."""


def html_page(result: EvaluationResult, cards: Cards | None = None) -> str:
    """The whole page; whatever is missing is said in its place.

    Args:
        result: What was found.
        cards: Pictures of an earlier page of the same samples; new ones are added.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    cards = {} if cards is None else cards
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    rows = result.rows
    tables = {
        title: [{"name": x.name, "definition": x.definition, "shown": shown(x)} for x in table]
        for title, table in result.tables.items()
    }
    return environment.get_template("page.html.jinja").render(
        num_samples=len(rows),
        headline=_headline(rows),
        hull=hull_sentences(rows, result.settings.get("hull")),
        done=result.done,
        to_come=result.to_come,
        tables=tables,
        subject=subject(rows)[2],
        has_energies=bool(energies_of(rows)),
        figures=_figures(result, cards),
        best=_cells(result, _best(result), cards),
        worst=_cells(result, _worst(result), cards),
        reasons=_reasons(rows),
        settings=list(_flatten(result.settings)),
    )


def _headline(rows: Sequence[Row]) -> dict[str, int]:
    """How far the samples came."""
    return {
        "samples": len(rows),
        "crystals": sum(not row["reason"] for row in rows),
        "valid structures": sum(bool(row["valid_structure"]) for row in rows),
        "plausible structures": sum(bool(row["plausible"]) for row in rows),
        "energies above the hull": len(energies_of(rows)),
        "S.U.N.": sum(bool(row["sun"]) for row in rows),
    }


def _card(cards: Cards, key: Any, draw: Callable[[], Picture]) -> dict[str, Any]:
    """A picture with its title, the notes below it, and its text for who does not see it."""
    name = json.dumps(key, default=str)
    if name not in cards:
        picture, image = draw(), io.BytesIO()
        picture.figure.savefig(image, format="png")
        cards[name] = {
            "kind": picture.kind,
            "title": picture.title,
            "alt": picture.alt,
            "notes": picture.notes,
            "png": base64.b64encode(image.getvalue()).decode(),
        }
    return cards[name]


def _figures(result: EvaluationResult, cards: Cards) -> list[dict[str, Any]]:
    """Atoms per cell, space groups, energies above the hull, and the periodic table."""
    name, rows, _ = subject(result.rows)
    energies, those = energies_of(result.rows), [row["id"] for row in rows]
    histogram = result.reference_histogram
    found = []
    if rows:
        key = [name, those]
        found.append(_card(cards, ["atoms", *key], lambda: atoms_picture(name, rows, histogram)))
        found.append(_card(cards, ["space groups", *key], lambda: spacegroups_picture(rows)))
    if energies:
        found.append(_card(cards, ["energies", energies], lambda: energies_picture(energies)))
    if rows:
        found.append(_card(cards, ["elements", *key], lambda: elements_picture(name, rows)))
    return found


def _cells(result: EvaluationResult, indices: Sequence[int], cards: Cards) -> list[dict[str, Any]]:
    """Pictures of crystals."""
    found = []
    for i in indices:
        row, structure = result.rows[i], result.structures[i]
        if structure:
            key = ["cell", i, row["sun"], row["msun"], energies_of([row])]
            found.append(_card(cards, key, lambda: cell_picture(row, structure)))  # noqa: B023
    return found


def _best(result: EvaluationResult) -> list[int]:
    """S.U.N. crystals by energy above the hull, then others that nothing speaks against."""
    rows = result.rows

    def good(row: Row) -> bool:
        return is_valid(row) and not (is_denied(row["unique"]) or is_denied(row["novel"]))

    def rank(i: int) -> tuple[bool, float]:
        return not rows[i]["sun"], min(energies_of([rows[i]]), default=math.inf)

    return sorted((i for i, row in enumerate(rows) if row["sun"] or good(row)), key=rank)[:NUM_BEST]


def _worst(result: EvaluationResult) -> list[int]:
    """Invalid structures, those with the closest atoms first; what is no crystal is left out."""
    rows = result.rows
    invalid = [i for i, row in enumerate(rows) if not (row["valid_structure"] or row["reason"])]
    return sorted(invalid, key=lambda i: rows[i]["min_distance_angstrom"] or 0)[:NUM_WORST]


def _reasons(rows: Sequence[Row]) -> list[list[str]]:
    """What went wrong with how many samples, most frequent first."""
    columns = {
        "reason": "no crystal",
        "implausible_because": "not plausible",
        "relaxation_reason": "not relaxed",
        "matching_reason": "not compared",
        "hull_reason": "no energy above the hull",
        "dft_reason": "no energy above the hull by DFT",
    }
    counts = Counter((text, row[name]) for row in rows for name, text in columns.items())
    found = [[text, str(why), str(n)] for (text, why), n in counts.most_common() if why]
    rest = [["others", f"{len(found) - NUM_REASONS} more reasons, see crystals.csv", ""]]
    return found[:NUM_REASONS] + rest * (len(found) > NUM_REASONS)


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings by dotted name, as text."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", "not known" if value is None else str(value)
