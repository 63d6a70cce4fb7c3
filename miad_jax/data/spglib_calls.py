"""spglib, asked so that a failure is None: it neither raises, nor warns, nor prints."""

from __future__ import annotations

import os
import warnings
from typing import Any


def ask_spglib(function: str, *arguments: Any, **settings: Any) -> Any | None:
    """What a function of spglib returns; None where it finds nothing.

    Args:
        function: Its name, such as "niggli_reduce".
        *arguments: What it is given.
        **settings: Its settings.
    """
    import spglib

    os.environ.setdefault("SPGLIB_WARNING", "OFF")  # else its C code prints on stderr
    with warnings.catch_warnings():
        # spglib 2.8 warns that a later version raises instead of returning None; both are met.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return getattr(spglib, function)(*arguments, **settings)
        except getattr(spglib, "SpglibError", RuntimeError):
            return None
