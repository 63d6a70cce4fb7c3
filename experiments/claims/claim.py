"""What the paper says and what was measured of it, in a file that the documentation shows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.claims.numbers import MISSING, NO, OPEN, YES, compared, number_of
from miad_jax.storage.files import write_atomically


@dataclass(frozen=True)
class Claim:
    """A claim of the paper beside our number.

    Attributes:
        source: Table, figure or appendix of arXiv:2511.14426.
        claim: What is tested.
        measured: Our number, with its interval and what it is of.
        holds: One of `YES`, `NO`, `OPEN`, `MISSING`; "shown" where nothing is claimed.
        command: What measures it.
    """

    source: str
    claim: str
    measured: str
    holds: str
    command: str


def no_worse(
    source: str, claim: str, report: Path, other: Path, numbers: Iterable[str], command: str
) -> Claim:
    """The claim that no number of a report is smaller than that of another.

    It holds where one is larger and none is smaller, as far as intervals tell.
    """
    pairs = {x: (number_of([report], x), number_of([other], x)) for x in numbers}
    known = {x: (one, two) for x, (one, two) in pairs.items() if one and two}
    if not known:
        return Claim(source, claim, MISSING, MISSING, command)
    found = [compared(one, two) for one, two in known.values()]
    holds = NO if NO in found else YES if YES in found else OPEN
    said = "; ".join(f"{x} {one} against {two}" for x, (one, two) in known.items())
    return Claim(source, claim, said, holds, command)


def write_claims(path: Path, claims: Iterable[Claim]) -> None:
    """Write claims as the documentation reads them."""
    text = json.dumps([asdict(claim) for claim in claims], indent=1, ensure_ascii=False)
    write_atomically(path, text + "\n")


def markdown(rows: list[list[object]]) -> str:
    """Rows as a table, the first as its head; a dash for None."""
    lines = [["–" if cell is None else str(cell) for cell in row] for row in rows]
    lines.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
