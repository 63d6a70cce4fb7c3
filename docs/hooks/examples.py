"""The section `Example:` of our docstrings, as griffe reads examples."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Griffe knows the section by its plural, and takes the singular for a paragraph of text."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section when an object has been read."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE
            )
