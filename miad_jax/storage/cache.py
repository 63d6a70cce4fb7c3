"""The folder for what the package can make or fetch again, and arrays that are kept there."""

from __future__ import annotations

import functools
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from miad_jax.storage.files import write_atomically
from miad_jax.storage.hashed import hashed_npz, read_npz

_VALUES = "values"


def default_cache_dir() -> Path:
    """The folder for what the package can make or fetch again.

    It is `$MIAD_JAX_CACHE`, else `$XDG_CACHE_HOME/miad_jax`, else `~/.cache/miad_jax`; where there
    is no home either, it is a `passing_folder`.
    """
    try:
        if folder := os.environ.get("MIAD_JAX_CACHE"):
            return Path(folder).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "miad_jax"
    except RuntimeError:  # there is no home
        return passing_folder()


def passing_folder() -> Path:
    """A folder in the place of the cache that is gone when the process ends; it is told once."""
    return Path(_passing_folder().name)


@functools.cache
def _passing_folder() -> tempfile.TemporaryDirectory[str]:
    warnings.warn(
        "there is no cache folder that can be written, so what is computed or fetched is not kept: "
        "set MIAD_JAX_CACHE to a folder that can be written",
        stacklevel=4,
    )
    return tempfile.TemporaryDirectory(prefix="miad_jax_cache_", ignore_cleanup_errors=True)


def is_writable(folder: Path) -> bool:
    """Whether files can be written to a folder, which is made if missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def kept_array(
    file: Path, make: Callable[[], np.ndarray], is_right: Callable[[np.ndarray], bool]
) -> np.ndarray:
    """An array from the cache, made where it is missing, damaged or another one, and then kept.

    Args:
        file: Its `.npz`. The `.npy` of that name, which older versions wrote, is read as well.
        make: Computes the array.
        is_right: Whether an array that was kept can be this one.
    """
    for path, read in ((file, _read_npz), (file.with_suffix(".npy"), _read_npy)):
        if path.exists():
            try:
                kept = read(path)
            except (OSError, KeyError, ValueError) as error:
                warnings.warn(f"{path} is damaged ({error}) and made again", stacklevel=3)
                continue
            if is_right(kept):
                return kept
    made = make()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, hashed_npz({_VALUES: made}))
    except OSError as error:
        warnings.warn(
            f"an array could not be kept ({error}): set MIAD_JAX_CACHE to a folder that can be "
            "written",
            stacklevel=3,
        )
    return made


def _read_npz(path: Path) -> np.ndarray:
    return read_npz(path)[_VALUES]


def _read_npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged file can raise all there is
        raise ValueError(str(error)) from error
