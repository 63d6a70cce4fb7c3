"""Crystals to turn, in a notebook or a browser, without the internet."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from miad_jax.crystal import Crystal
from miad_jax.data.structures import from_atoms, from_structures, to_structures
from miad_jax.mirage import reduce
from miad_jax.plots.scene import DRAWING, VIEWER, scene
from miad_jax.storage.files import write_atomically

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

    from miad_jax.sampling.trajectory import Trajectory


@dataclass(frozen=True)
class View:
    """A page that shows crystals; a notebook shows it where it is the last value of a cell.

    Attributes:
        page: The whole page as HTML.
        height: Of the page, in pixels.
    """

    page: str = field(repr=False)
    height: int

    def _repr_html_(self) -> str:
        """The page in a frame of its own, so that pages of one notebook stay apart."""
        return (
            f'<iframe srcdoc="{html.escape(self.page)}" sandbox="allow-scripts" '
            f'style="width: 100%; height: {self.height}px; border: 0"></iframe>'
        )

    def save(self, path: str | Path) -> None:
        """Write the page to a file that any browser opens."""
        write_atomically(Path(path), self.page)


def show(
    crystals: Structure | Atoms | Crystal | Iterable[Structure | Atoms | Crystal] | Trajectory,
    *,
    height: int = 420,
) -> View:
    """Show crystals to turn with the mouse; of several one at a time, with a slider.

    Args:
        crystals: One crystal or several, or the trajectory of samples, of which the first is
            shown on its way. Mirage atoms are not drawn, and a state without atoms is left out.
        height: Of the page, in pixels.

    Raises:
        ValueError: If there is nothing to show.

    Example:
        >>> from pymatgen.core import Lattice, Structure
        >>> salt = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        >>> view = miad_jax.show(salt)
        >>> "CsCl" in view.page
        True
    """
    from jinja2 import Environment, FileSystemLoader

    scenes = [_titled(crystal, label) for crystal, label in _labelled(crystals)]
    if not scenes:
        raise ValueError("there is no crystal to show: give one with atoms")
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    page = environment.get_template("view.html.jinja").render(
        scenes=scenes,
        height=height,
        library=(VIEWER / "3Dmol-min.js").read_text(encoding="utf-8"),
        drawing=DRAWING.read_text(encoding="utf-8"),
    )
    return View(page, height)


def _titled(crystal: Crystal, label: str) -> dict[str, Any]:
    """The scene of a crystal, with its formula."""
    (structure,) = to_structures([crystal])
    formula = structure.composition.reduced_formula
    atoms = f"{crystal.size} atom{'s' * (crystal.size != 1)}"
    return {"title": f"{formula}, {atoms}{label}", **scene(crystal)}


def _labelled(crystals: Any) -> Iterable[tuple[Crystal, str]]:
    """The crystals that are shown, and what is said of each beside its formula."""
    if hasattr(crystals, "times"):  # a trajectory
        states = jax.tree.map(lambda x: x[0], crystals.crystals)
        labels = [f", time {time}" if time >= 0 else "" for time in crystals.times]
    else:
        states = _packed(crystals)
        labels = [""] * len(states)
    for crystal, label in zip(reduce(states), labels, strict=True):
        if crystal.size:
            yield crystal, label


def _packed(crystals: Any) -> Crystal:
    """Crystals of any kind as one batch."""
    if isinstance(crystals, Crystal):
        return jax.tree.map(lambda x: x[None], crystals) if crystals.mask.ndim == 1 else crystals
    if hasattr(crystals, "lattice") or hasattr(crystals, "get_scaled_positions"):
        crystals = [crystals]
    crystals = list(crystals)
    if crystals and isinstance(crystals[0], Crystal):
        crystals = to_structures(crystals)
    pack = (
        from_atoms if crystals and hasattr(crystals[0], "get_scaled_positions") else from_structures
    )
    return pack(crystals)
