"""Text from bytes of any size and encoding: how much is unpacked at most, and what it says.

What is packed may be a bomb: a megabyte that unpacks to gigabytes. Nothing is unpacked beyond a
limit, which a crystal or a table that people made does not reach.
"""

from __future__ import annotations

import codecs
import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

MAX_CRYSTAL_BYTES = 2**24
"""The text of one crystal, in bytes; also one cell of a table."""

_ALWAYS_ALLOWED = 2**30
_MAX_RATIO = 100
_BY_MARK = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class TooLarge(ValueError):
    """Something holds more than is read."""


def most_unpacked(num_packed: int) -> int:
    """How many bytes something packed may unpack to: a hundred times its size, or a gigabyte."""
    return max(_ALWAYS_ALLOWED, _MAX_RATIO * num_packed)


def encoding_of(head: bytes) -> str:
    """The encoding that a byte-order mark names, else UTF-8."""
    return next((name for mark, name in _BY_MARK.items() if head.startswith(mark)), "utf-8")


def printable(text: str) -> str:
    """Text without what a terminal acts upon: control characters as their escapes."""
    if text.isprintable():
        return text
    return "".join(x if x.isprintable() else x.encode("unicode_escape").decode() for x in text)


def crystal_text(file: IO[bytes]) -> str:
    """The text of one crystal; bytes that are no text are marked by U+FFFD.

    Raises:
        TooLarge: If it is larger than `MAX_CRYSTAL_BYTES`.
    """
    content = file.read(MAX_CRYSTAL_BYTES + 1)
    if len(content) > MAX_CRYSTAL_BYTES:
        raise TooLarge(f"is larger than {MAX_CRYSTAL_BYTES >> 20} MiB, more than is read")
    return content.decode(encoding_of(content), errors="replace")


def table_lines(path: Path) -> Iterator[str]:
    """The lines of a table, plain or gzipped, with their ends, but for the mark of a file's end.

    Raises:
        TooLarge: If a line is longer than `MAX_CRYSTAL_BYTES`, or gzip unpacks to too much.
        UnicodeDecodeError: If it is not in the encoding that it begins with.
    """
    packed = path.suffix.lower() == ".gz"
    opener = gzip.open if packed else open
    with opener(path, "rb") as file:
        encoding = encoding_of(file.read(4))
    left = most_unpacked(os.path.getsize(path)) if packed else float("inf")
    with opener(path, "rt", encoding=encoding, newline="") as file:
        while line := file.readline(MAX_CRYSTAL_BYTES):
            left -= len(line)
            if left < 0:
                raise TooLarge(f"unpacks to more than {_MAX_RATIO} times its size and 1 GiB")
            if len(line) == MAX_CRYSTAL_BYTES and line[-1] not in "\r\n":
                raise TooLarge(f"has a line longer than {MAX_CRYSTAL_BYTES >> 20} MiB")
            if line.strip("\0\x1a"):
                yield line


def open_unpacked(path: Path) -> IO[bytes]:
    """Open a file, plain or gzipped, for the bytes that it holds."""
    packed = path.suffix.lower() == ".gz"
    return cast(IO[bytes], gzip.open(path, "rb")) if packed else path.open("rb")
