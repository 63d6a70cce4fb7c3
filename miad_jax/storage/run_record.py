"""Is this the same run? A folder's record of what its results depend on, and what differs.

A folder that a run fills has a JSON file, with a hash, that says what the run is. The run that
finds its own record goes on; any other is refused, with the name of every setting that differs, so
that results of different settings never mix in one folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miad_jax.storage.files import is_partial, remove_partial_files, write_atomically
from miad_jax.storage.hashed import hashed_json, read_json
from miad_jax.storage.lock import LOCK

_MISSING = "(missing)"


@dataclass(frozen=True)
class RunRecord:
    """The record that one kind of folder has.

    Attributes:
        file_name: Name of the JSON file in the folder.
        format: Stands in the file, and tells it from files of other programs and versions.
        kind: What such a folder holds, for the messages: "samples".
        key: The name in the file under which the settings stand; "" if they stand beside the
            format.
        others: Names of files and folders that may lie in a folder before it has a record.
    """

    file_name: str
    format: str
    kind: str
    key: str = ""
    others: Collection[str] = ()

    def open(
        self,
        folder: str | os.PathLike[str],
        run: Mapping[str, Any],
        *,
        may_differ: Collection[str] = (),
        upgrade: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> dict[str, Any]:
        """Begin a run in a new or empty folder, or go on with the same run.

        What a kill left half written in the folder is removed.

        Args:
            folder: Missing folders are made.
            run: What the results depend on, in values that JSON knows.
            may_differ: Dotted names of settings that may differ, each with those below it.
            upgrade: Turns the settings that an older version wrote into those of this one. The
                file stays as it is.

        Returns:
            The settings in the folder, upgraded: those of `run`, but for the ones that may differ.

        Raises:
            ValueError: If the folder holds another run, or files but no record, or is a file.
        """
        folder = Path(folder)
        here: dict[str, Any] = json.loads(json.dumps(dict(run)))
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file, not a folder: name a new folder for {self.kind}")
        if not (folder / self.file_name).exists():
            self._begin(folder, here)
            return here
        there = self.read(folder, upgrade=upgrade)
        if differing := differences(there, here, may_differ):
            raise ValueError(
                f"{folder} holds {self.kind} of another run: {'; '.join(differing)}. Name another "
                "folder, or repeat the settings that are there to go on with that run"
            )
        remove_partial_files(folder)
        return there

    def read(
        self,
        folder: str | os.PathLike[str],
        *,
        upgrade: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> dict[str, Any]:
        """Read the settings in a folder; arguments as of `open`.

        Raises:
            ValueError: If there is no record, or it cannot be read or was changed.
        """
        path = Path(folder) / self.file_name
        try:
            content = read_json(path)
            if content["format"] != self.format:
                raise ValueError(f"its format is {content['format']!r}, not {self.format!r}")
            settings = content[self.key] if self.key else content
            return upgrade({name: x for name, x in settings.items() if name != "format"})
        except FileNotFoundError as error:
            raise ValueError(
                f"{folder} holds no {self.file_name}: name a folder of {self.kind}"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is no record of {self.kind} ({error}): name another folder"
            ) from error

    def _begin(self, folder: Path, run: Mapping[str, Any]) -> None:
        """Write the record into a folder that holds nothing else."""
        found = (
            sorted(x.name for x in folder.iterdir() if not is_partial(x)) if folder.exists() else []
        )
        if found := [name for name in found if name not in {*self.others, LOCK}]:
            raise ValueError(
                f"{folder} holds files ({', '.join(found[:3])}{', …' * (len(found) > 3)}) but no "
                f"{self.file_name}, so it was not made by this program: name a new or an empty "
                f"folder for {self.kind}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        remove_partial_files(folder)
        content = {"format": self.format, **({self.key: run} if self.key else run)}
        write_atomically(folder / self.file_name, hashed_json(content, indent=2))


def differences(
    there: Mapping[str, Any], here: Mapping[str, Any], may_differ: Collection[str] = ()
) -> list[str]:
    """Every setting that differs, in words: "steps is 20 there and 50 now".

    Args:
        there: Settings as they were recorded; settings inside settings have dotted names.
        here: Settings of this run.
        may_differ: Dotted names that are passed over, each with those below it.
    """
    old, new = _flatten(there), _flatten(here)
    return [
        f"{name} is {old.get(name, _MISSING)} there and {new.get(name, _MISSING)} now"
        for name in sorted({*old, *new})
        if old.get(name, _MISSING) != new.get(name, _MISSING)
        and not any(f"{name}.".startswith(f"{passed}.") for passed in may_differ)
    ]


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
