"""Crystals with what is known of them, as frames of an extxyz file."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure


def frame_of(structure: Structure, *, id: str, **info: Any) -> Atoms:
    """A crystal as ASE Atoms with `info`; what is None is left out.

    Args:
        structure: The crystal.
        id: Its name. One of several lines becomes one line.
        **info: `energy`, of the cell in eV, which ASE reads back as that of a calculator; others as
            they are.
    """
    from ase import Atoms

    # ASE reads a backslash as the beginning of an escape, but writes it as it is.
    name = re.sub(r"\s+", " ", str(id)).replace("\\", "\\\\")
    return Atoms(
        numbers=[site.specie.Z for site in structure],
        positions=structure.cart_coords,
        cell=structure.lattice.matrix,
        pbc=True,
        info={k: value for k, value in {"id": name, **info}.items() if value is not None},
    )


def frames_text(frames: Sequence[Atoms]) -> bytes:
    """Frames as one extxyz; what is no character, as in some file names, is spelt out."""
    from ase.io import write

    if not frames:
        return b""
    buffer = io.StringIO()
    write(buffer, frames, format="extxyz")
    return buffer.getvalue().encode(errors="backslashreplace")
