"""Fetch the Materials Project's entries that make the hull of some chemical systems.

They come through the project's own client, mp-api, with the user's key: the GGA and GGA+U entries
with the 2020 corrections, which is the hull that CHGNet's energies and corrected energies of other
potentials compare with. (The project's website mixes in r2SCAN, which is another scale.)
"""

from __future__ import annotations

import datetime
import gzip
import json
import os
import warnings
from collections.abc import Collection, Iterable
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miad_jax.parallel.progress import Progress, as_progress
from miad_jax.storage.files import write_atomically

if TYPE_CHECKING:
    from pymatgen.entries.computed_entries import ComputedStructureEntry

FORMAT = "miad_jax hull 1"
THERMO_TYPE = "GGA_GGA+U"

MAX_ELEMENTS = 12
"""A chemical system of n elements has 2^n - 1 systems within it."""

_SYSTEMS_PER_REQUEST = 100
_KEYS_AT = "https://next-gen.materialsproject.org/api"


def download_hull(
    systems: Iterable[Collection[str]],
    file: str | os.PathLike[str],
    *,
    api_key: str | None = None,
    address: str | None = None,
    progress: Progress | bool = False,
) -> dict[str, Any]:
    """Write the entries of chemical systems, and of all systems within them, as JSON.

    The file holds the database's version, the date, the systems, and the entries as pymatgen writes
    `ComputedEntry`, without their structures; `--hull` of `miad_jax.evaluate` reads it.

    Args:
        systems: Symbols of the elements of each chemical system.
        file: A new file that ends in .json or .json.gz; missing folders are made.
        api_key: The user's key; the environment variable MP_API_KEY when None.
        address: Another address of the interface.
        progress: Where to show how many systems are fetched.

    Returns:
        The file's head: all but the entries, with their number `num_entries`, and in
        `without_entry` the elements of which there is no entry.

    Raises:
        ValueError: If the systems are wrong, the file is there already, the package mp-api or the
            key is missing, or the database has no entry.
        ConnectionError: If the entries could not be fetched.
    """
    file = Path(file)
    wanted = _within(systems)
    if not file.name.endswith((".json", ".json.gz")):
        raise ValueError(f"the file is {file}: give one that ends in .json or .json.gz")
    if file.exists():
        raise ValueError(f"{file} is there already, and is not overwritten: name another --out")
    version, entries = _fetch(wanted, api_key, address, as_progress(progress))
    if not entries:
        raise ValueError(f"the Materials Project has no entry of {', '.join(wanted)}")
    there = {str(e.composition.elements[0]) for e in entries if len(e.composition) == 1}
    head = {
        "format": FORMAT,
        "database_version": version,
        "date": datetime.date.today().isoformat(),
        "thermo_type": THERMO_TYPE,
        "chemical_systems": wanted,
        "num_entries": len(entries),
        "without_entry": sorted({x for system in wanted for x in system.split("-")} - there),
    }
    text = _text(head, entries)
    file.parent.mkdir(parents=True, exist_ok=True)
    content = gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode()
    write_atomically(file, content)
    return head


def _within(systems: Iterable[Collection[str]]) -> list[str]:
    """All chemical systems within some, such as Fe, O and Fe-O, those of few elements first.

    Raises:
        ValueError: If there is none, a symbol is none of an element, or a system is too large.
    """
    from pymatgen.core import Element

    found = set()
    for system in systems:
        symbols = sorted(set(system))
        if unknown := [symbol for symbol in symbols if not Element.is_valid_symbol(symbol)]:
            raise ValueError(f"{unknown[0]!r} is no element: give symbols such as Li,Fe,P,O")
        if len(symbols) > MAX_ELEMENTS:
            raise ValueError(
                f"{'-'.join(symbols)} are {len(symbols)} elements, with {2 ** len(symbols) - 1} "
                f"chemical systems within them; allowed are {MAX_ELEMENTS}: fetch parts of it"
            )
        parts = (x for n in range(1, len(symbols) + 1) for x in combinations(symbols, n))
        found |= {"-".join(part) for part in parts}
    if not found:
        raise ValueError("there is no chemical system: give at least one element")
    return sorted(found, key=lambda system: (system.count("-"), system))


def _fetch(
    systems: list[str], api_key: str | None, address: str | None, progress: Progress
) -> tuple[str, list[ComputedStructureEntry]]:
    """The database's version, and the entries of exactly these systems."""
    try:
        from mp_api.client import MPRester
        from mp_api.client.core.exceptions import MPRestError
    except ImportError as error:
        raise ValueError(
            f'fetching entries needs mp-api ({error}): pip install "miad_jax[mp]"'
        ) from error
    key = api_key or os.environ.get("MP_API_KEY")
    if not key:
        raise ValueError(
            "there is no key of the Materials Project: give --api_key, or set the environment "
            f"variable MP_API_KEY; yours is at {_KEYS_AT}"
        )
    entries = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on other kinds of entries
            with (
                MPRester(key, endpoint=address, mute_progress_bars=True) as client,
                progress.bar("fetching", len(systems), unit="chemical system") as bar,
            ):
                for start in range(0, len(systems), _SYSTEMS_PER_REQUEST):
                    batch = systems[start : start + _SYSTEMS_PER_REQUEST]
                    entries += client.get_entries(
                        batch, additional_criteria={"thermo_types": [THERMO_TYPE]}
                    )
                    bar.advance(len(batch))
                version = str(client.db_version)
    except (MPRestError, KeyError, OSError, ValueError) as error:
        said = " ".join(str(error).replace(key, "the key").split())
        raise ConnectionError(
            f"the Materials Project's entries could not be fetched ({said}): check the key, then "
            "the same command tries again"
        ) from error
    return version, entries


def _text(head: dict[str, Any], entries: Iterable[ComputedStructureEntry]) -> str:
    """The file's content: the entries by id, without their structures."""
    from monty.json import MontyEncoder
    from pymatgen.entries.computed_entries import ComputedEntry

    kind = {"@module": ComputedEntry.__module__, "@class": ComputedEntry.__name__}
    plain = []
    for entry in sorted(entries, key=lambda entry: str(entry.entry_id)):
        content = entry.as_dict()
        content.pop("structure", None)
        plain.append(content | kind)
    return json.dumps(head | {"entries": plain}, cls=MontyEncoder)
