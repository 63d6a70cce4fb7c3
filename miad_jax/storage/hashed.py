"""Files that hold a hash of their own content, so that damage is found when they are read.

An npz has a member `sha256` beside its arrays, a JSON object a key of that name. Files of older
versions have none, and are read as they are.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

SHA256 = "sha256"
"""Name of the member, and of the key, that holds the hash."""

_DAMAGED = "its content does not fit its hash, so it was damaged after it was written"


def hash_of_arrays(arrays: Mapping[str, Any]) -> str:
    """SHA-256 of arrays: their names, types, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def hash_of_json(content: Any) -> str:
    """SHA-256 of what JSON reads back; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def hashed_npz(arrays: Mapping[str, Any]) -> bytes:
    """A compressed npz with its hash; equal arrays give equal bytes.

    Args:
        arrays: By name; none may be called `sha256`.
    """
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    buffer = io.BytesIO()
    # The hash comes first: a damaged table of contents may hide what comes later.
    np.savez_compressed(buffer, **{SHA256: np.array(hash_of_arrays(arrays)), **arrays})
    return buffer.getvalue()


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All arrays of an npz, without its hash.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no npz, or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged archive can raise all there is
        raise ValueError(_plain(error)) from error
    said = arrays.pop(SHA256, None)
    if said is not None and str(said) != hash_of_arrays(arrays):
        raise ValueError(_DAMAGED)
    return arrays


def hashed_json(content: Mapping[str, Any], indent: int | None = 1) -> bytes:
    """A JSON object with its hash.

    Args:
        content: The object, in values that JSON knows; no key may be called `sha256`.
        indent: Spaces of each level; None writes one line.
    """
    content = json.loads(json.dumps(dict(content)))
    whole = {**content, SHA256: hash_of_json(content)}
    return (json.dumps(whole, indent=indent) + "\n").encode()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, without its hash.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no JSON object, or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("it holds no JSON object")
    return checked(content)


def checked(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object without its hash.

    Raises:
        ValueError: If the hash is that of another content.
    """
    content = dict(content)
    said = content.pop(SHA256, None)
    if said is not None and said != hash_of_json(content):
        raise ValueError(_DAMAGED)
    return content


def _plain(error: BaseException) -> str:
    """An exception in one line, with its kind where it says nothing else."""
    return " ".join(str(error).split()) or type(error).__name__
