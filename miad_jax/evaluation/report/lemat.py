"""Crystals as LeMat-GenBench reads them (arXiv:2512.04562).

    uv run scripts/run_benchmarks.py --csv generated.csv --config comprehensive --name NAME

in a checkout of that benchmark reads a table whose column `structure` holds pymatgen structures as
JSON, as its README recommends; `material_id` is kept beside it. The benchmark computes its own
energies. Its leaderboard marks entries whose crystals were relaxed before, so the two kinds are two
files. Samples that are no crystal cannot be in them: its shares are of the crystals alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from miad_jax.data.formats import csv_text
from miad_jax.evaluation.results import EvaluationResult
from miad_jax.storage.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure


def write_lemat_tables(result: EvaluationResult, folder: Path) -> dict[str, int]:
    """Write generated.csv and, if crystals were relaxed, relaxed.csv.

    Args:
        result: What was found.
        folder: Made if it is not there; earlier files of these names are replaced.

    Returns:
        Number of crystals in each file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ids = [str(row["id"]) for row in result.rows]
    written = {}
    for name, structures in (("generated.csv", result.structures), ("relaxed.csv", result.relaxed)):
        if num := sum(structure is not None for structure in structures):
            text = lemat_text(ids, structures)
            write_atomically(folder / name, text.encode(errors="backslashreplace"))
            written[name] = num
        else:
            (folder / name).unlink(missing_ok=True)  # of an earlier run
    return written


def lemat_text(ids: Sequence[str], structures: Sequence[Structure | None]) -> str:
    """A table of the crystals among the structures."""
    return csv_text(
        [
            {"material_id": name, "structure": json.dumps(structure.as_dict(), default=str)}
            for name, structure in zip(ids, structures, strict=True)
            if structure is not None
        ]
    )
