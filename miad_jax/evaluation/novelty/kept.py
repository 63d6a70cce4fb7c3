"""Matches on disk: what was compared once is not compared again.

A match is kept under a key that holds all it depends on: the sample, the earlier samples of its
formula in their order, the reference crystals of its formula, and the matcher with its version
and settings. Samples that are added later leave the keys of the earlier ones as they are.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from miad_jax.storage.files import write_atomically
from miad_jax.storage.hashed import hashed_json, read_json

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from miad_jax.evaluation.novelty.comparison import Match

FORMAT = "miad_jax matches 1"

SECONDS_BETWEEN_WRITES = 5.0
"""A killed run loses the matches of so many seconds at most."""


class KeptMatches:
    """Matches by key, in a JSON file.

    Args:
        path: The file; None keeps them in memory only.

    Raises:
        ValueError: If there is such a file that holds no matches.
    """

    def __init__(self, path: str | os.PathLike[str] | None):
        self._path = None if path is None else Path(path)
        self._matches: dict[str, Match] = {}
        self._is_new, self._written = False, time.monotonic()
        if self._path is None or not self._path.exists():
            return
        try:
            content = read_json(self._path)
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']!r}, not {FORMAT!r}")
            for key, (duplicate, known) in content["matches"].items():
                self._matches[key] = (duplicate, known)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self._path} cannot be read ({error}): delete it, and its samples are compared "
                "again"
            ) from error

    def get(self, key: str) -> Match | None:
        """The match of a key; None if it is not known yet."""
        return self._matches.get(key)

    def add(self, key: str, match: Match) -> None:
        """Take up a match; the file is written now and then."""
        self._matches[key] = match
        self._is_new = True
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self.write()

    def write(self) -> None:
        """Write the file, whole or not at all, if there is anything new."""
        if self._path is not None and self._is_new:
            content = {"format": FORMAT, "matches": self._matches}
            write_atomically(self._path, hashed_json(content, indent=None))
        self._is_new, self._written = False, time.monotonic()


def keys_of(
    samples: Sequence[Structure], reference: Sequence[Structure], identity: str
) -> Iterator[str]:
    """The key of each sample of one formula.

    Args:
        samples: All of them, in their order.
        reference: The reference crystals of that formula, in their order.
        identity: What identifies the matcher.
    """
    digest = hashlib.sha256(identity.encode())
    for structure in reference:
        digest.update(b"known" + _content(structure))
    for structure in samples:
        digest.update(b"sample" + _content(structure))
        yield digest.hexdigest()[:32]


def _content(structure: Structure) -> bytes:
    """Hash of a structure's numbers."""
    digest = hashlib.sha256(np.asarray(structure.lattice.matrix, "<f8").tobytes())
    digest.update(np.asarray(structure.frac_coords, "<f8").tobytes())
    digest.update(" ".join(site.species_string for site in structure).encode())
    return digest.digest()
