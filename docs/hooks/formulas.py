"""Formulas as MathML, which browsers draw themselves: the site needs no script and no network.

pymdownx.arithmatex marks formulas in the page; this turns their LaTeX into MathML.
"""

from __future__ import annotations

import html
import re
from typing import Any

_MARKED = re.compile(r'(<(span|div) class="arithmatex">)\\([(\[])(.*?)\\[)\]](</\2>)', re.DOTALL)


def mathml(latex: str, *, block: bool) -> str:
    """A formula as MathML.

    Raises:
        ValueError: If a command of LaTeX in it is not understood.
    """
    from latex2mathml.converter import convert

    found = convert(latex, display="block" if block else "inline")
    if unknown := re.search(r"\\\w*|&#x0005C;\w*", found):
        raise ValueError(f"{unknown[0]} in the formula {latex.strip()!r} is not understood")
    return found


def on_page_content(content: str, **_: Any) -> str:
    """Replace the formulas of a page; MkDocs calls this with the HTML of every page."""
    return _MARKED.sub(
        lambda x: f"{x[1]}{mathml(html.unescape(x[4]), block=x[3] == '[')}{x[5]}", content
    )
