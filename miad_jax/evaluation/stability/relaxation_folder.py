"""The folder in which relaxations are kept: one file a crystal, and what they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miad_jax.evaluation.stability.potential import PROBE, Record
from miad_jax.storage.files import is_partial, remove_partial_files, write_atomically
from miad_jax.storage.hashed import hashed_json, read_json
from miad_jax.storage.run_record import RunRecord

LOG = "workers.log"
_SETTINGS, _CRYSTALS = "settings.json", "crystals"
_DONE = {"status", "steps", "energy_ev_per_atom", "lattice", "frac_coords"}
_FAILED = {"status", "reason"}

SETTINGS = RunRecord(_SETTINGS, "miad_jax relaxations 1", "relaxations", others=(_CRYSTALS, LOG))
"""What the relaxations in a folder depend on."""


def open_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder; remove what a kill left.

    Args:
        folder: Where relaxations are, or are to be.
        settings: What is known of them before the potential is asked.

    Raises:
        ValueError: If the folder holds other files, or relaxations of other settings.
    """
    check_settings(folder, settings)
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    ours = {_SETTINGS, _CRYSTALS, LOG}
    if found := sorted(name for name in names - ours if not is_partial(folder / name)):
        raise ValueError(
            f"{folder} holds {found[0]}, which is no part of a folder of relaxations: name a "
            "new or an empty folder"
        )
    crystals = folder / _CRYSTALS
    crystals.mkdir(parents=True, exist_ok=True)
    remove_partial_files(folder)
    remove_partial_files(crystals)


def check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a file, and a folder of relaxations in which any of these settings differs."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, not a folder: name a new folder for relaxations")
    if (folder / _SETTINGS).exists():
        there = set(SETTINGS.read(folder))
        SETTINGS.open(folder, settings, may_differ=there - set(settings) | {PROBE} - there)


def begin(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Record what relaxations depend on, or go on with the same.

    Returns:
        The settings as they stand in the folder: one of an older version does not know the
        energies that tell potentials apart.

    Raises:
        ValueError: If the folder holds relaxations of other settings.
    """
    there = set(SETTINGS.read(folder)) if (folder / _SETTINGS).exists() else {PROBE}
    return SETTINGS.open(folder, settings, may_differ={PROBE} - there)


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
        record = read_json(path)
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
    write_atomically(_file(folder, key), hashed_json(record))
