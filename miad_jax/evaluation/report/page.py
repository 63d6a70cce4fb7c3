"""The report as one HTML page that opens offline: summary, figures, crystals, tables, settings.

`page.html.jinja` is the page, with `page.css` and `page.js`; here is what it shows. Pictures are
inlined, so that the page can be mailed and kept alone. Crystals turn, and their CIF files are
found, where the folders `viewer` and `cif` are beside it. All text from the input is escaped; the
page forbids the browser to run anything but its own script and to load anything but the viewer.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from miad_jax.evaluation.report.crystals import (
    NUM_RANKED,
    NUM_UNJUDGED,
    NUM_WORST,
    Forms,
    forms_shown,
    ranked,
    scenes,
    unjudged,
    worst,
)
from miad_jax.evaluation.report.pictures import (
    Picture,
    Row,
    atoms_picture,
    cell_picture,
    elements_picture,
    energies_of,
    energies_picture,
    spacegroups_picture,
    subject,
)
from miad_jax.evaluation.results import EvaluationResult
from miad_jax.evaluation.stability.hull_report import judge_sentences, phases_by_system
from miad_jax.evaluation.tables import shown
from miad_jax.plots.scene import DRAWING

FOLDER = Path(__file__).parent
NUM_BEST, NUM_REASONS = 12, 15

FACTS = ("samples", "reference", "potential")
"""Settings that are shown above everything else, if they are known."""

IN_SHORT = {
    "Validity": ("valid", "plausible structure"),
    "Uniqueness and novelty": ("unique and novel",),
    "Stability": ("stable", "metastable", "S.U.N.", "M.S.U.N."),
}
"""Lines of the tables, by title, that make the summary."""

Cards = dict[str, dict[str, Any]]
"""Drawn pictures by what they show: a page that is made again draws only what has changed."""


def html_page(
    result: EvaluationResult, cards: Cards | None = None, forms: Forms | None = None
) -> str:
    """The whole page; whatever is missing is said in its place.

    Args:
        result: What was found.
        cards: Pictures of an earlier page of the same samples; new ones are added.
        forms: What `forms_shown` returns for the result, if it is known already.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    cards = {} if cards is None else cards
    forms = forms_shown(result) if forms is None else forms
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    rows = result.rows
    tables = {
        title: [{"name": x.name, "definition": x.definition, "shown": shown(x)} for x in table]
        for title, table in result.tables.items()
    }
    script = "".join(x.read_text(encoding="utf-8") for x in (DRAWING, FOLDER / "page.js"))
    best, rest = ranked(rows), unjudged(rows)
    return environment.get_template("page.html.jinja").render(
        style=(FOLDER / "page.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=_csp_hash(script),
        num_samples=len(rows),
        facts=list(_flatten({x: result.settings[x] for x in FACTS if result.settings.get(x)})),
        headline=_headline(rows),
        judge=judge_sentences(result.rows, result.settings),
        phases=phases_by_system(result.rows),
        done=result.done,
        to_come=result.to_come,
        in_short=[
            entry
            for title, names in IN_SHORT.items()
            for entry in tables.get(title, [])
            if entry["name"] in names
        ],
        tables=tables,
        subject=subject(rows)[2],
        has_energies=bool(energies_of(rows)),
        figures=_figures(result, cards),
        num_ranked=len(best),
        best=_cells(result, best[:NUM_BEST], cards, forms),
        ranking=[_ranked_row(rows[i], i, forms) for i in best[:NUM_RANKED]],
        num_unjudged=len(rest),
        unjudged=_cells(result, rest[:NUM_UNJUDGED], cards, forms),
        worst=_cells(result, worst(rows)[:NUM_WORST], cards, forms),
        reasons=_reasons(rows),
        settings=list(_flatten(result.settings)),
        scenes=scenes(rows, forms),
    )


def _csp_hash(script: str) -> str:
    """How a content security policy names the one inline script that may run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


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


def _cells(
    result: EvaluationResult, indices: Sequence[int], cards: Cards, forms: Forms
) -> list[dict[str, Any]]:
    """Pictures of crystals, with their files."""
    found = []
    for i in indices:
        row, structure = result.rows[i], result.structures[i]
        if structure:
            key = ["cell", i, row["sun"], row["msun"], energies_of([row])]
            card = _card(cards, key, lambda: cell_picture(row, structure))  # noqa: B023
            found.append(card | {"index": i, "files": forms[i]})
    return found


def _ranked_row(row: Row, index: int, forms: Forms) -> dict[str, Any]:
    """A line of the table of the best crystals."""
    verdicts = [text for name, text in (("sun", "S.U.N."), ("msun", "M.S.U.N.")) if row[name]]
    return {
        "index": index,
        "id": str(row["id"]),
        "formula": row["reduced_formula"],
        "spacegroup": row["spacegroup_0.1"] or "none found",
        "energy": f"{energies_of([row])[0]:+.3f}".replace("-", "−"),
        "verdict": verdicts[0] if verdicts else "",
        "files": forms[index],
    }


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
