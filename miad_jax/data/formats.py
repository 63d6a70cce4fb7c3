"""What the files of a sample folder hold: npz, extxyz and CSV, from crystals and rows."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from miad_jax.crystal import Crystal
from miad_jax.data.structures import to_atoms

_RUN = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
"""What a cell begins with that a spreadsheet takes for a formula."""

_NUMBER = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?", re.IGNORECASE)


def npz_bytes(arrays: Mapping[str, Any]) -> bytes:
    """A compressed npz; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def plain_formula(formula: str) -> str:
    """A reduced formula for file names, without brackets: "Na4 Cl4" is NaCl."""
    parts = [(symbol, int(count)) for symbol, count in re.findall(r"([A-Z][a-z]?)(\d+)", formula)]
    divisor = math.gcd(*(count for _, count in parts))
    return "".join(s + (str(n // divisor) if n > divisor else "") for s, n in parts)


def extxyz_text(crystals: Sequence[Crystal], rows: Sequence[Mapping[str, Any]]) -> str:
    """All crystals as one extxyz text, each with its `index`."""
    from ase.io import write

    if not crystals:
        return ""
    frames = to_atoms(crystals)
    for atoms, row in zip(frames, rows, strict=True):
        atoms.info["index"] = row["index"]
    buffer = io.StringIO()
    write(buffer, frames, format="extxyz")
    return buffer.getvalue()


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table with a column for every key, numbers to six digits, empty where None.

    Text that a spreadsheet would run, such as `=1+1`, has an apostrophe before it.
    """
    import pandas as pd

    columns = list(dict.fromkeys(name for row in rows for name in row))
    # Values become text before pandas sees them: it would turn integers with gaps into floats.
    values = [[_cell(row.get(name)) for name in columns] for row in rows]
    table = pd.DataFrame(values, columns=columns, dtype=object)
    return table.to_csv(index=False, lineterminator="\n")


def _cell(value: Any) -> Any:
    """A number to six digits, text that a spreadsheet leaves alone."""
    return f"{value:.6g}" if isinstance(value, float) else plain_cell(value)


def plain_cell(value: Any) -> Any:
    """A value; text that a spreadsheet would run has an apostrophe before it."""
    if isinstance(value, str) and value.startswith(_RUN) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
