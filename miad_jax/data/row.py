"""One crystal as it was found, and which names are those of crystals."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import IO, TYPE_CHECKING

from miad_jax.data.cif import crystal_blocks
from miad_jax.data.text import TooLarge, crystal_text

if TYPE_CHECKING:
    from miad_jax.data.standard import Source

CIF_ENDINGS = (".cif", ".mcif")
POSCAR_ENDINGS = (".vasp", ".poscar")

_PACKED = re.compile(r"\.(zipx?|gz|tgz|tar|t?bz2?|t?xz|t?zst|lzma|lz4|z|7z|rar)$", re.IGNORECASE)
_UNREAD = re.compile(
    r"\.(ext)?xyz$|\.(mmcif|contcar|xdatcar|xsf|res|pdb|traj)$|\.(cif|vasp|poscar)\.\w+$|^XDATCAR",
    re.IGNORECASE,
)
"""Names of files of crystals that are read by themselves, or not at all."""


@dataclass(frozen=True)
class Row:
    """One crystal as it was found.

    Attributes:
        id: Its name in the source.
        source: CIF text, the text of a POSCAR with "poscar", a pymatgen Structure or an ASE Atoms.
        columns: What else the source says of it, as text.
        reason: Why it cannot be read; empty if it was not tried.
    """

    id: str
    source: Source = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


def is_cif(path: PurePath) -> bool:
    """Whether a name is that of a CIF, plain or gzipped."""
    return _plain(path).suffix.lower() in CIF_ENDINGS


def is_poscar(path: PurePath) -> bool:
    """Whether a name is that of a POSCAR: POSCAR…, CONTCAR…, ….vasp or ….poscar, or gzipped."""
    plain = _plain(path)
    if plain.suffix.lower() in POSCAR_ENDINGS:
        return True
    named = plain.name.upper().startswith(("POSCAR", "CONTCAR"))
    return (
        named and plain.suffix.lower() not in (".csv", ".extxyz", ".xyz") and not is_packed(plain)
    )


def is_crystal_file(path: PurePath) -> bool:
    """Whether a name is that of a CIF or a POSCAR."""
    return is_cif(path) or is_poscar(path)


def is_packed(path: PurePath) -> bool:
    """Whether a name is that of an archive or of a compressed file."""
    return _PACKED.search(path.name) is not None


def named_as_crystals(path: PurePath) -> bool:
    """Whether a name is that of an archive, or of crystals in a kind of file that is not read."""
    return is_packed(path) or _UNREAD.search(path.name) is not None


def names_cifs(header: str) -> bool:
    """Whether the first line of a table names a column of CIFs."""
    return re.search(r"(?<![\w.])cif(?![\w.])", header, re.IGNORECASE) is not None


def is_hidden(path: PurePath) -> bool:
    """Whether a name in a folder or archive is one of those that systems keep for themselves."""
    parts = re.split(r"[/\\]", path.as_posix())
    return any(
        part == "__MACOSX" or (part.startswith((".", "~$")) and part not in (".", ".."))
        for part in parts
    )


def crystal_rows(path: PurePath, file: IO[bytes]) -> Iterator[Row]:
    """The crystals of a CIF or POSCAR.

    The id is the name without its ending; the second crystal of a CIF has " (2)" behind it.

    Args:
        path: The name, from which the ids are.
        file: The content, unpacked.
    """
    plain = _plain(path)
    cut = plain.suffix.lower() in (*CIF_ENDINGS, *POSCAR_ENDINGS)
    name = str(plain.with_suffix("")) if cut else str(plain)
    try:
        text = crystal_text(file)
    except TooLarge as error:
        yield Row(name, reason=str(error))
        return
    if not is_cif(path):
        yield Row(name, (text, "poscar"))
        return
    blocks = crystal_blocks(text)
    if len(blocks) < 2:
        yield Row(name, text)
        return
    for number, block in enumerate(blocks, 1):
        yield Row(name if number == 1 else f"{name} ({number})", block)


def _plain(path: PurePath) -> PurePath:
    """A name without `.gz`."""
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path
