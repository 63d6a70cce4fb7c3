"""Numbers that people wrote beside crystals, some of which are missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

_MISSING = frozenset(
    ("", "nan", "na", "n/a", "n.a.", "#n/a", "<na>", "none", "null", "nil", "missing", "unknown")
) | frozenset(("-", "--", "---", "–", "—", ".", "?", "*"))


def is_missing(text: str) -> bool:
    """Whether a cell of a table says that there is no number."""
    return text.strip().lower() in _MISSING


def numbers(column: np.ndarray, ids: Sequence[str], name: str) -> Float[np.ndarray, " n"]:
    """A column as numbers, NaN where there is none.

    Args:
        column: Numbers, or text where a value of it was no number.
        ids: Of the rows.
        name: Of the column, for the message.

    Raises:
        ValueError: Naming the first row whose text is neither a number nor says that there is none.
    """
    if column.dtype.kind in "fiu":
        return np.asarray(column, np.float64)
    found = np.full(len(column), np.nan)
    for i, text in enumerate(map(str, column)):
        if is_missing(text):
            continue
        try:
            found[i] = float(text)
        except ValueError as error:
            raise ValueError(
                f"{name} of {ids[i]} is {text!r}; allowed: a number, or nothing where there is none"
            ) from error
    return found
