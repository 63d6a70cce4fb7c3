"""The report as files.

report.json     the tables: values, 95 % intervals, counts, definitions; the settings; and which
                stages of the evaluation are done and to come
crystals.csv    a row for every sample, with every outcome and reason
relaxed.extxyz  the relaxed crystals, if there are any
report.html     one page with figures, crystals and tables that opens offline
cif/            the crystals that the page shows, as generated and as relaxed
viewer/         3Dmol.js and its licence: what turns the crystals of the page
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from miad_jax.data.formats import plain_cell
from miad_jax.evaluation.describe import COLUMNS
from miad_jax.evaluation.report.crystals import cif_files, forms_shown
from miad_jax.evaluation.report.page import Cards, html_page
from miad_jax.evaluation.results import SAMPLE_COLUMNS, EvaluationResult
from miad_jax.evaluation.stability.frames import frame_of, frames_text
from miad_jax.evaluation.statistics import Quantity, Rate
from miad_jax.plots.scene import VIEWER
from miad_jax.storage.files import replace_files, write_atomically

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

FORMAT = "miad_jax report 1"


def write_report(directory: Path, result: EvaluationResult, cards: Cards | None = None) -> None:
    """Write the report's files, each whole or not at all; report.json comes last.

    Args:
        directory: An existing folder. Earlier files of these names are replaced.
        result: What was found.
        cards: Pictures of an earlier page of the same samples; see `html_page`.
    """
    empty = dict.fromkeys(("id", *COLUMNS, *SAMPLE_COLUMNS))
    result = replace(result, rows=[{**empty, **row} for row in result.rows])
    cells = [{name: plain_cell(x) for name, x in row.items()} for row in result.rows]
    table = replace(result, rows=cells).table.to_csv(
        index=False, float_format="%.6g", lineterminator="\n"
    )
    _write(directory / "crystals.csv", table)
    if any(structure is not None for structure in result.relaxed):
        write_atomically(directory / "relaxed.extxyz", _relaxed_text(result))
    else:
        (directory / "relaxed.extxyz").unlink(missing_ok=True)  # of an earlier report
    forms = forms_shown(result)
    cifs = {Path(x).name: text.encode() for x, text in cif_files(forms).items()}
    replace_files(directory / "cif", cifs, r"\d{6,}_.*\.cif")
    _copy_viewer(directory / "viewer")
    _write(directory / "report.html", html_page(result, cards, forms))
    _write(directory / "report.json", _report_text(result))


def _write(path: Path, text: str) -> None:
    """Write text as UTF-8; what is no character, as in some file names, is spelt out."""
    write_atomically(path, text.encode(errors="backslashreplace"))


def _copy_viewer(folder: Path) -> None:
    """Copy the viewer, unless it is there."""
    folder.mkdir(exist_ok=True)
    for path in sorted(VIEWER.iterdir()):
        content = path.read_bytes()
        copy = folder / path.name
        if not copy.exists() or copy.read_bytes() != content:
            write_atomically(copy, content)


def _report_text(result: EvaluationResult) -> str:
    """The content of report.json; numbers that are not finite become null."""
    content = {
        "format": FORMAT,
        "num_samples": len(result.rows),
        "tables": [
            {"title": title, "entries": [_entry(entry) for entry in table]}
            for title, table in result.tables.items()
        ],
        "columns": SAMPLE_COLUMNS,
        "stages": {"done": result.done, "to_come": result.to_come},
        "settings": result.settings,
    }
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _entry(entry: Rate | Quantity) -> dict[str, Any]:
    """A line of a table, with the same keys for shares and quantities."""
    return {
        "name": entry.name,
        "value": entry.value,
        "interval_95": entry.interval,
        "count": entry.count if isinstance(entry, Rate) else None,
        "total": entry.total if isinstance(entry, Rate) else None,
        "unit": "share" if isinstance(entry, Rate) else entry.unit,
        "definition": entry.definition,
    }


def _plain(value: Any) -> Any:
    """The same in values that JSON knows; what it does not know becomes text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def _relaxed_text(result: EvaluationResult) -> bytes:
    """The relaxed crystals as extxyz, each with `id`, `energy` of the cell and `e_above_hull`."""
    pairs = zip(result.relaxed, result.rows, strict=True)
    return frames_text(
        [_frame(structure, row) for structure, row in pairs if structure is not None]
    )


def _frame(structure: Structure, row: Mapping[str, Any]) -> Atoms:
    """A relaxed crystal with what is known of it."""
    energy = row["energy_ev_per_atom"]
    return frame_of(
        structure,
        id=row["id"],
        energy=None if energy is None else energy * len(structure),
        e_above_hull=row["e_above_hull_ev_per_atom"],
        relaxation=row["relaxation"],
    )
