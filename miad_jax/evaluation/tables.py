"""Tables of shares and quantities as people read them: aligned text, with the definitions below."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from miad_jax.evaluation.statistics import Quantity, Rate

Table: TypeAlias = Sequence[Rate | Quantity]

MAX_LINE_LENGTH = 100


def tables_text(tables: Mapping[str, Table], *, with_definitions: bool = True) -> str:
    """The tables in aligned columns, and below them the definitions as footnotes.

    Args:
        tables: Rates and quantities by the title of their table.
        with_definitions: Whether to add the footnotes, and the marks that lead to them.
    """
    entries = [entry for table in tables.values() for entry in table]
    definitions = list(dict.fromkeys(entry.definition for entry in entries))
    cells = [
        (
            f"{x.name} [{definitions.index(x.definition) + 1}]" if with_definitions else x.name,
            *shown(x),
        )
        for x in entries
    ]
    widths = [max((len(row[i]) for row in cells), default=0) for i in range(4)]
    aligned = iter(
        f"  {name:<{widths[0]}}  {value:>{widths[1]}}  {interval:>{widths[2]}}  {of:>{widths[3]}}"
        for name, value, interval, of in cells
    )
    lines: list[str] = []
    for title, table in tables.items():
        lines += [title, *(next(aligned).rstrip() for _ in table), ""]
    if not with_definitions:
        return "\n".join(lines).rstrip()
    if definitions:
        lines.append("Definitions; ranges in brackets are 95 % intervals")
    for number, definition in enumerate(definitions, 1):
        mark = f"  [{number}] "
        lines += textwrap.wrap(
            definition, MAX_LINE_LENGTH, initial_indent=mark, subsequent_indent=" " * len(mark)
        )
    return "\n".join(lines)


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
