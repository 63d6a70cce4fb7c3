"""The page of the paper's claims, made from the `claims.json` of the studies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HEAD = ("the paper", "claim", "measured", "holds here", "command")


def claims_page() -> str:
    """Every claim with our number, whether it holds, and the command that measures it."""
    parts = [
        "# The paper's claims",
        "Each table and figure of the paper ([arXiv:2511.14426](https://arxiv.org/abs/2511.14426)) "
        "has a study here, at a size that two CPU cores finish. This page is made from the files "
        "that the studies leave, when the site is built.",
        "Ranges in brackets are 95 % intervals. *Yes* and *no* are said where the interval of a "
        "difference leaves zero out, and *not told apart* where it does not. *Shown* is what the "
        "paper shows without a claim that could fail. Claims are in our words.",
        "The weights of the package, which were trained for longer, are compared with their "
        "baseline under [Results](results.md#miad-against-its-baseline).",
    ]
    for path in sorted(ROOT.glob("experiments/*/results/claims.json")):
        folder = path.parents[1].relative_to(ROOT)
        title = (path.parents[1] / "README.md").read_text(encoding="utf-8").partition("\n")[0]
        parts += [f"## {title.lstrip('# ')}", f"Study: [{folder}](../{folder}/README.md)"]
        found = json.loads(path.read_text(encoding="utf-8"))
        parts += [_table([list(HEAD), *map(_row, found)])]
    return "\n\n".join(parts) + "\n"


def _row(claim: dict[str, Any]) -> list[str]:
    names = ("source", "claim", "measured", "holds")
    return [*(claim[name] for name in names), f"`{claim['command']}`"]


def _table(rows: list[list[str]]) -> str:
    """A table in Markdown, the first row as its head."""
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


PAGES = {"claims.md": claims_page}


def on_files(files: Any, config: Any) -> Any:
    """Add the page; MkDocs calls this with all files of the site."""
    from mkdocs.structure.files import File

    for path, page in PAGES.items():
        files.append(File.generated(config, path, content=page()))
    return files
