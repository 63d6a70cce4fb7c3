"""A picture for each wish: what was given, and the first crystals that came, not selected.

    python -m experiments.control.pictures --out=docs/wishes [--only=elements,formula]

The seed is the default one.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pymatgen.core import Lattice, Structure

import miad_jax
from miad_jax import from_structures
from miad_jax.evaluation import describe_all
from miad_jax.plots.unit_cell import draw_cell
from miad_jax.storage.files import write_atomically

CELLS = 4
INCHES_A_CELL = 2.9


def rutile() -> Structure:
    """TiO2 as in the mineral rutile."""
    lattice = Lattice.tetragonal(4.59, 2.96)
    return Structure.from_spacegroup(
        "P4_2/mnm", lattice, ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
    )


def perovskite_without_titanium() -> Structure:
    """SrTiO3 from which titanium and one oxygen atom are missing."""
    places = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]]
    return Structure(Lattice.cubic(3.905), ["Sr", "O", "O"], places)


WISHES: dict[str, dict[str, Any]] = {
    "elements": {"elements": "Li,Fe,P,O"},
    "contain": {"contain": "Li"},
    "chemical-system": {"chemical_system": "Sr-Ti-O"},
    "size": {"num_atoms": 12},
    "formula": {"formula": "TiO2", "formula_units": (1, 4)},
    "complete": {
        "complete": perovskite_without_titanium(),
        "add": (0, 4),
        "keep_cell": True,
        "model": "mp20-transformer",
    },
    "variations": {"like": rutile(), "strength": 0.3},
}
"""By name of the picture: what `miad_jax.generate` is asked."""


def main() -> None:
    """Draw every picture, as PNG."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(WISHES))
    options = parser.parse_args()
    miad_jax.cores_as_devices()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only.split(","):
        wishes = WISHES[name]
        given = wishes.get("complete", wishes.get("like"))
        shown = [] if given is None else [given]
        shown += miad_jax.generate(CELLS, **wishes)[: CELLS - len(shown)]
        picture = row_of_cells(shown, given=given is not None)
        write_atomically(options.out / f"{name}.png", picture)
        print(f"{name}: {', '.join(x.formula for x in shown)}", flush=True)


def row_of_cells(structures: Sequence[Structure], *, given: bool) -> bytes:
    """A PNG of cells side by side; the first may be what was given, which is then said."""
    from matplotlib.figure import Figure
    from PIL import Image

    crystals = miad_jax.reduce(from_structures(structures))
    figure = Figure(figsize=(INCHES_A_CELL * CELLS, 3.1), dpi=100, facecolor="white")
    for i, (crystal, row) in enumerate(zip(crystals, describe_all(crystals), strict=True)):
        axes = figure.add_axes(((i + 0.06) / CELLS, 0.11, 0.88 / CELLS, 0.62))
        draw_cell(axes, crystal, row)
        if given and i == 0:
            figure.text(0.5 / CELLS, 0.94, "given", ha="center", fontsize=11, style="italic")
    drawn = io.BytesIO()
    figure.savefig(drawn)
    picture = Image.open(drawn).convert("RGB").quantize(96)
    small = io.BytesIO()
    picture.save(small, "PNG", optimize=True)
    return small.getvalue()


if __name__ == "__main__":
    main()
