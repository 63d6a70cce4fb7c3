"""The folder in which relaxations are kept: one file a crystal, and what they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miad_jax.evaluation.stability.potential import Record
from miad_jax.storage.files import is_partial, write_atomically

FORMAT = "miad_jax relaxations 1"
LOG = "workers.log"
_SETTINGS, _CRYSTALS = "settings.json", "crystals"
_DONE = {"status", "steps", "energy_ev_per_atom", "lattice", "frac_coords"}
_FAILED = {"status", "reason"}


def open_folder(folder: Path) -> None:
    """Make the folder, or refuse one that is not of relaxations; remove what a kill left."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, not a folder: name a new folder for relaxations")
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    ours = {_SETTINGS, _CRYSTALS, LOG}
    if found := sorted(name for name in names - ours if not is_partial(folder / name)):
        raise ValueError(
            f"{folder} holds {found[0]}, which is no part of a folder of relaxations: name a "
            "new or an empty folder"
        )
    crystals = folder / _CRYSTALS
    crystals.mkdir(parents=True, exist_ok=True)
    for path in filter(is_partial, [*folder.iterdir(), *crystals.iterdir()]):
        path.unlink(missing_ok=True)


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write down what the relaxations in a folder depend on, or refuse one of other settings."""
    path = folder / _SETTINGS
    here = {"format": FORMAT, **settings}
    if not path.exists():
        return write_atomically(path, _json(here))
    try:
        there = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error}): name another folder") from error
    differences = [
        f"{name} is {there.get(name)!r} there and {here.get(name)!r} now"
        for name in {**there, **here}
        if there.get(name) != here.get(name)
    ]
    if differences:
        raise ValueError(
            f"{folder} holds relaxations of other settings: {'; '.join(differences)}. Name another "
            "folder, or repeat the settings that are there"
        )


def key_of(arrays: Record, settings: Mapping[str, Any]) -> str:
    """Names the file of a crystal: the same for the same numbers and settings."""
    content = json.dumps([arrays, settings], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _file(folder: Path, key: str) -> Path:
    """Where the record of a crystal is."""
    return folder / _CRYSTALS / f"{key}.json"


def read_record(folder: Path, key: str, seconds_per_crystal: float) -> Record | None:
    """A crystal's record; None if there is none, or it failed at a shorter limit."""
    path = _file(folder, key)
    if not path.exists():
        return None
    try:
        record = dict(json.loads(path.read_text(encoding="utf-8")))
        missing = (_FAILED if record["status"] == "failed" else _DONE) - set(record)
        if missing:
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): delete it, and its crystal is relaxed again"
        ) from error
    return None if record.get("limit_s", seconds_per_crystal) < seconds_per_crystal else record


def write_record(folder: Path, key: str, record: Record) -> None:
    """Put a crystal's record in place, whole or not at all."""
    write_atomically(_file(folder, key), _json(record))


def _json(content: Mapping[str, Any]) -> str:
    """JSON as files hold it; a file name among the ids may be no valid text."""
    return json.dumps(content, indent=1) + "\n"
