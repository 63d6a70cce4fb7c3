"""Links that leave `docs/`: the files that they name become part of the site.

A page links to a file of the repository by its path, as in `../experiments/speed/README.md`. The
site has a copy of that file under `repository/`, Markdown as a page, and of the files that such a
page links to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = "docs"
MIRROR = "repository"

_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_CODE = re.compile(r"^(```|~~~).*?^\1[^\n]*$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_ELSEWHERE = re.compile(r"[a-z]+:|#|/")


def links(markdown: str) -> Iterator[str]:
    """What the links and pictures of a page point to in the repository, without what follows #."""
    for match in _LINK.finditer(_CODE.sub("", markdown)):
        if not _ELSEWHERE.match(match[2]):
            yield match[2].partition("#")[0]


def in_repository(page: str) -> str:
    """The path in the repository of a page of the site."""
    path = PurePosixPath(page)
    return str(path.relative_to(MIRROR)) if path.parts[0] == MIRROR else f"{DOCS}/{page}"


def in_site(file: str) -> str:
    """The path in the site of a file of the repository."""
    path = PurePosixPath(file)
    return str(path.relative_to(DOCS)) if path.parts[0] == DOCS else f"{MIRROR}/{file}"


def target(file: str, link: str) -> str:
    """The path in the repository that a link of a file points to."""
    return os.path.normpath(PurePosixPath(file).parent / link)


def linked(pages: dict[str, str]) -> list[str]:
    """Files outside `docs/` that pages link to, and that those files link to.

    Args:
        pages: Markdown by path in the repository.
    """
    found: list[str] = []
    todo = dict(pages)
    while todo:
        file, markdown = todo.popitem()
        for link in links(markdown):
            path = target(file, link)
            if path.startswith((f"{DOCS}/", "..")) or path in found:
                continue
            if (ROOT / path).is_file():
                found.append(path)
                if path.endswith(".md"):
                    todo[path] = (ROOT / path).read_text(encoding="utf-8")
    return sorted(found)


def rewritten(markdown: str, page: str) -> str:
    """A page of the site whose links to files of the repository point to the site's copies."""
    file = in_repository(page)

    def change(match: re.Match[str]) -> str:
        link, sharp, anchor = match[2].partition("#")
        if not link or _ELSEWHERE.match(match[2]):
            return match[0]
        path = target(file, link)
        if path.startswith(".."):
            return match[0]
        place = os.path.relpath(in_site(path), PurePosixPath(page).parent)
        return f"{match[1]}{place}{sharp}{anchor}{match[3]}"

    return _outside_code(markdown, lambda text: _LINK.sub(change, text))


def _outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """The text with everything changed that is not code."""
    parts, end = [], 0
    for code in _CODE.finditer(markdown):
        parts += [change(markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, change(markdown[end:])])


def on_files(files: Any, config: Any) -> Any:
    """Add the linked files; MkDocs calls this with all files of the site."""
    from mkdocs.structure.files import File

    pages = {
        in_repository(file.src_uri): file.content_string for file in files.documentation_pages()
    }
    for path in linked(pages):
        files.append(File.generated(config, in_site(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links to the copies; MkDocs calls this with every page."""
    return rewritten(markdown, page.file.src_uri)
