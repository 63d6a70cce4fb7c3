"""The frames of an extended XYZ, each read by itself: one that is bad costs itself alone."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator, Mapping
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np

from miad_jax.data.row import Row
from miad_jax.data.text import TooLarge, table_lines

_HYDROGENS = ("D", "T")
_LISTS = re.compile(r"""[^\s=]+\s*=\s*(["'])_JSON (?:\\.|(?!\1).)*\1""")
"""Lists and dictionaries in a comment, which are no columns; ASE stumbles over ragged ones."""

_PERIODS = re.compile(
    r"""(?<![^\s])pbc\s*=\s*("[^"]*"|'[^']*'|\[[^\]]*\]|\{[^}]*\}|\([^)]*\)|\S+)""", re.IGNORECASE
)
_TRUE, _FALSE = ("t", "true", ".true.", "1", "yes"), ("f", "false", ".false.", "0", "no")


def read_extxyz(path: Path) -> Iterator[Row]:
    """Read extended XYZ; the columns are a frame's single values, such as its energy.

    The id is the value `material_id`, else `id`, else the number of the frame, from 0. Deuterium
    is hydrogen. A frame that is not periodic in all directions is no crystal. Blank lines
    between frames do not count.

    Raises:
        ValueError: If the file is not extended XYZ, or ends within a frame.
    """
    try:
        for number, frame in enumerate(_frames(path)):
            yield _row(frame, str(number))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read as extended XYZ: it is not UTF-8 text") from error
    except (ValueError, TooLarge, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as extended XYZ: {error}") from error


def _frames(path: Path) -> Iterator[list[str]]:
    """The lines of every frame.

    Raises:
        ValueError: If a frame does not begin with its number of atoms, or is cut.
    """
    lines = enumerate(table_lines(path), 1)
    for at, line in lines:
        if not line.strip():
            continue
        if not re.fullmatch(r"\s*\d+\s*", line):
            raise ValueError(f"line {at} is {line.strip()[:80]!r} in place of a number of atoms")
        frame = [_ended(line)]
        # The comment and the atoms; ASE also knows cell vectors behind them.
        for _ in range(int(line) + 1):
            at, line = next(lines, (at, ""))
            if not line:
                raise ValueError(f"it ends at line {at}, within a frame of {int(frame[0])} atoms")
            frame.append(_ended(line))
        yield frame


def _ended(line: str) -> str:
    """A line that ends as ASE wants it."""
    return line.rstrip("\r\n") + "\n"


def _row(frame: list[str], name: str) -> Row:
    """The crystal of a frame, or why there is none."""
    from ase.io import read

    try:
        count, comment, *atom_lines = _with_hydrogen(frame)
        comment = _with_periods(comment)
        text = "".join([count, _LISTS.sub("", comment), *atom_lines])
        atoms: Any = read(io.StringIO(text), format="extxyz")
    except Exception as error:  # ASE raises whatever it meets
        said = f"{error}".strip() or type(error).__name__
        if isinstance(error, KeyError):
            said = f"{error.args[0]!r} is no element"
        return Row(name, reason=f"cannot be read as extended XYZ: {said}")
    known = {**atoms.info, **(atoms.calc.results if atoms.calc else {})}
    name, columns = name_and_columns(known, name)
    return Row(name, atoms, columns, not_periodic(atoms) if atoms.cell.rank == 3 else "")


def _with_periods(comment: str) -> str:
    """A comment with `pbc` as ASE knows it, which takes other spellings for periodic.

    Raises:
        ValueError: If it is not understood.
    """
    found = _PERIODS.search(comment)
    if not found:
        return comment
    words = re.findall(r"[^\s,\[\](){}\"']+", found[1].lower())
    if len(words) == 1 and re.fullmatch("[tf]{3}", words[0]):
        words = list(words[0])
    if len(words) not in (1, 3) or not all(x in _TRUE + _FALSE for x in words):
        raise ValueError(f'pbc is {found[1]}; allowed: pbc="T T T"')
    said = " ".join("T" if x in _TRUE else "F" for x in words * (3 // len(words)))
    return f'{comment[: found.start()]}pbc="{said}"{comment[found.end() :]}'


def _with_hydrogen(frame: list[str]) -> list[str]:
    """A frame with the isotopes of hydrogen as H.

    Raises:
        ValueError: If it has no positions.
    """
    asked = re.search(r'Properties\s*=\s*"?([^"\s]+)', frame[1], re.IGNORECASE)
    fields = (asked[1] if asked else "species:S:1:pos:R:3").split(":")
    widths = dict(zip(fields[::3], fields[2::3], strict=False))
    if not {"pos", "positions"} & widths.keys():
        raise ValueError("Properties name no positions: pos:R:3 is missing")
    if "species" not in widths or not all(x.isdigit() for x in widths.values()):
        return frame
    before = list(widths)[: list(widths).index("species")]
    column = sum(int(widths[x]) for x in before)
    found = frame[:2]
    for line in frame[2:]:
        values = line.split()
        if len(values) > column and values[column].upper() in _HYDROGENS:
            line = " ".join([*values[:column], "H", *values[column + 1 :]]) + "\n"
        found.append(line)
    return found


def not_periodic(crystal: Any) -> str:
    """Why a Structure or Atoms is no crystal, if it is not periodic in all directions."""
    periodic = sum(map(bool, getattr(crystal, "pbc", (True,) * 3)))
    if periodic == 3:
        return ""
    return f"is periodic in {periodic} of 3 directions (pbc), so it is no crystal"


def name_and_columns(known: Mapping[Any, Any], name: str) -> tuple[str, dict[str, str]]:
    """The name of a crystal, and its single values by column, of what is known of it.

    Args:
        known: Values by key.
        name: Its name if there is neither `material_id` nor `id`.
    """
    columns = {str(key): str(value) for key, value in known.items() if _is_single(value)}
    id_name = next((key for key in ("material_id", "id") if key in columns), None)
    return columns.pop(id_name) if id_name else name, columns


def _is_single(value: Any) -> bool:
    """Whether a value is one number, text or truth value, and no list that was left as text."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        return False
    if isinstance(value, np.ndarray):
        return value.ndim == 0 and value.dtype != object
    return isinstance(value, str | bool | np.generic | Number)
