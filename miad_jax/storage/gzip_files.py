"""Gzipped files from elsewhere, whose content may be no larger than such content is."""

from __future__ import annotations

import gzip
import io

LARGEST_RATIO = 100
"""Text shrinks to a tenth or a fiftieth; a file made to fill a memory shrinks to a thousandth."""

ALWAYS_ALLOWED_BYTES = 64_000_000


def unpacked(content: bytes) -> bytes:
    """The content of a gzipped file.

    Raises:
        OSError: If it is damaged; also `EOFError` and `zlib.error`.
        ValueError: If it unpacks to more than `LARGEST_RATIO` times its size.
    """
    most = max(ALWAYS_ALLOWED_BYTES, LARGEST_RATIO * len(content))
    with gzip.open(io.BytesIO(content)) as file:
        found = file.read(most + 1)
    if len(found) > most:
        raise ValueError(
            f"it unpacks to more than {most} bytes, {LARGEST_RATIO} times its size: if you trust "
            "it, unpack it yourself"
        )
    return found
