"""A picture for each wish: what was given, and the first crystals that came, not selected.

    python -m experiments.control.pictures --out=docs/wishes

draws a row of four cells for each, and `all.png` with two cells of each. The seed is the default
one.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure, SubFigure
from PIL import Image
from pymatgen.core import Lattice, Structure

import miad_jax
from miad_jax import from_structures
from miad_jax.evaluation import describe_all
from miad_jax.plots.unit_cell import TEXT_COLOUR, draw_cell
from miad_jax.storage.files import write_atomically

CELLS, CELLS_OF_ALL = 4, 2
WIDTH_INCHES, HEIGHT_INCHES = 2.9, 3.1
COLOURS = 256


@dataclass(frozen=True)
class Wish:
    """What `miad_jax.generate` is asked, and the flags that ask the same."""

    flags: str
    arguments: dict[str, Any]

    @property
    def given(self) -> list[Structure]:
        """The crystal that is completed or varied, if there is one."""
        return [self.arguments[x] for x in ("complete", "like") if x in self.arguments]


def rutile() -> Structure:
    """TiO2 as in the mineral rutile."""
    lattice = Lattice.tetragonal(4.59, 2.96)
    places = [[0, 0, 0], [0.305, 0.305, 0]]
    return Structure.from_spacegroup("P4_2/mnm", lattice, ["Ti", "O"], places)


def perovskite_with_gaps() -> Structure:
    """SrTiO3 from which titanium and one oxygen atom are missing."""
    places = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]]
    return Structure(Lattice.cubic(3.905), ["Sr", "O", "O"], places)


WISHES = {
    "elements": Wish("--elements=Li,Fe,P,O", {"elements": "Li,Fe,P,O"}),
    "contain": Wish("--contain=Li", {"contain": "Li"}),
    "chemical-system": Wish("--chemical_system=Sr-Ti-O", {"chemical_system": "Sr-Ti-O"}),
    "neutral": Wish(
        "--chemical_system=Sr-Ti-O --neutral", {"chemical_system": "Sr-Ti-O", "neutral": True}
    ),
    "size": Wish("--num_atoms=12", {"num_atoms": 12}),
    "formula": Wish(
        "--formula=TiO2 --formula_units=1..4", {"formula": "TiO2", "formula_units": (1, 4)}
    ),
    "complete": Wish(
        "--complete=FILE.cif --add=0..4 --keep_cell",
        {
            "complete": perovskite_with_gaps(),
            "add": (0, 4),
            "keep_cell": True,
        },
    ),
    "variations": Wish("--like=FILE.cif --strength=0.3", {"like": rutile(), "strength": 0.3}),
    "light": Wish(
        "--property=density=3 --guidance=2",
        {"properties": {"density": 3.0}, "guidance": 2},
    ),
    "dense": Wish(
        "--property=density=12 --guidance=2",
        {"properties": {"density": 12.0}, "guidance": 2},
    ),
}
"""By name of the picture."""


def main() -> None:
    """Draw every picture, as PNG."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    miad_jax.cores_as_devices()
    out.mkdir(parents=True, exist_ok=True)
    shown = {}
    for name, wish in WISHES.items():
        found = miad_jax.generate(CELLS, **wish.arguments)
        shown[name] = [*wish.given, *found][:CELLS]
        figure = Figure(figsize=(CELLS * WIDTH_INCHES, HEIGHT_INCHES), facecolor="white")
        draw_cells(figure, shown[name], wish)
        write_atomically(out / f"{name}.png", png(figure))
        print(f"{name}: {', '.join(x.formula for x in shown[name])}", flush=True)
    write_atomically(out / "all.png", png(gallery(shown)))


def gallery(shown: dict[str, list[Structure]]) -> Figure:
    """All wishes, two side by side, with the flags above the cells."""
    lines = -(-len(shown) // 2)
    size = 2 * CELLS_OF_ALL * WIDTH_INCHES, lines * (HEIGHT_INCHES + 0.3)
    figure = Figure(figsize=size, facecolor="white")
    parts = figure.subfigures(lines, 2)
    for part, (name, structures) in zip(parts.flat, shown.items(), strict=False):
        draw_cells(part, structures[:CELLS_OF_ALL], WISHES[name], headline=True)
    return figure


def draw_cells(
    figure: Figure | SubFigure,
    structures: Sequence[Structure],
    wish: Wish,
    *,
    headline: bool = False,
) -> None:
    """Cells side by side; what was given is said above it."""
    crystals = miad_jax.reduce(from_structures(structures))
    num = len(crystals)
    style: dict[str, Any] = {"ha": "center", "va": "center", "color": TEXT_COLOUR}
    for i, (crystal, row) in enumerate(zip(crystals, describe_all(crystals), strict=True)):
        draw_cell(figure.add_axes(((i + 0.06) / num, 0.14, 0.88 / num, 0.55)), crystal, row)
        if i < len(wish.given):
            figure.text((i + 0.5) / num, 0.87, "given", fontsize=10, style="italic", **style)
    if headline:
        figure.text(0.5, 0.96, wish.flags, fontsize=13, family="monospace", **style)


def png(figure: Figure) -> bytes:
    """A PNG of few colours, which is small."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, dpi=100)
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(small, "PNG", optimize=True)
    return small.getvalue()


if __name__ == "__main__":
    main()
