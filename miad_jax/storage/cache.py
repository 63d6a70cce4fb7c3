"""The folder for what the package can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache_dir() -> Path:
    """The folder for what the package can make or fetch again."""
    if folder := os.environ.get("MIAD_JAX_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "miad_jax"
