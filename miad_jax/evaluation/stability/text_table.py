"""A CSV table that a user wrote, read as text."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from miad_jax.storage.gzip_files import unpacked

if TYPE_CHECKING:
    import pandas as pd


_GZIP_MAGIC = b"\x1f\x8b"
_DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error)


def read_text_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Every value of a CSV table, plain or gzipped, as text without spaces around it.

    Nothing is taken for a missing value: "NaN" is also a formula. A blank line is a row of empty
    values, so that row i is on line i + 2.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or two columns have one name. An empty file is a table
            without columns.
    """
    import pandas as pd

    try:
        content = Path(path).read_bytes()
        if content.startswith(_GZIP_MAGIC) or os.fspath(path).lower().endswith(".gz"):
            content = unpacked(content)
        table = pd.read_csv(
            io.BytesIO(content),
            header=None,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            encoding="utf-8-sig",
        )
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (pd.errors.ParserError, ValueError, *_DAMAGED) as error:
        raise ValueError(
            f"{path} cannot be read ({' '.join(str(error).split())}): give a CSV table in UTF-8"
        ) from error
    table = table.fillna("").map(str.strip)
    table.columns = table.iloc[0]
    names = [name for name in table.columns if name]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path} has two columns {', '.join(twice)}: rename or drop one")
    return table.iloc[1:].reset_index(drop=True).rename_axis(columns=None)
