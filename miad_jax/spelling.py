"""The nearest known name, for messages about an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What to say behind an unknown name: the nearest known one, or nothing.

    Example:
        >>> did_you_mean("mp20", ["mp_20", "perov_5"])
        " (did you mean 'mp_20'?)"
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
