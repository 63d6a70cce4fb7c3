"""One cell at any moment of its generation: balls that grow, shrink and change, and a moving cell.

Between two states everything moves evenly: atoms on the shortest way, the cell in the upright
position in which `draw_cell` shows it, and each atom from one element to the next. An atom that
becomes real grows out of the ring of its mirage atom and gains its colour; one that vanishes goes
the way back. Atoms of undecided type are drawn as mirage atoms, and noisy cells with their extents
bounded.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from miad_jax.crystal import MIRAGE, UNDECIDED, Crystal, real_atom_mask
from miad_jax.plots.unit_cell import (
    TEXT_COLOUR,
    ball_radii,
    draw_ball,
    draw_edge,
    edges,
    project,
    upright,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MIRAGE_COLOUR = "#9AA6B6"
MIRAGE_RADIUS_ANGSTROM = 0.26
NARROWEST, WIDEST = 0.75, 1.15
"""How far a noisy cell may be drawn from the last one: bounds of its extents over the last's."""

FULL_IMAGE, NO_IMAGE = 0.02, 0.07
"""An atom this near to a face is repeated on the opposite one in full, or not at all."""
NUM_RINGS = 7
SMALLEST_BALL = 0.65
"""How much smaller than in the last state balls are drawn where a cell is crowded."""


@dataclass(frozen=True)
class MovingCell:
    """States of one crystal, as they are drawn.

    Attributes:
        lattices: Upright and bounded, in Å.
        frac_coords: Moved as a whole, such that the last state has an atom at a corner, and by
            whole cells, such that every atom goes the shortest way from state to state.
        presence: 1 for real atoms and 0 for mirage atoms and padding.
        colours: Of the elements.
        radii: Of the balls, in Å of the page.
        mask: False on padding.
    """

    lattices: Float[np.ndarray, "frames 3 3"]
    frac_coords: Float[np.ndarray, "frames atoms 3"]
    presence: Float[np.ndarray, "frames atoms"]
    colours: Float[np.ndarray, "frames atoms 3"]
    radii: Float[np.ndarray, "frames atoms"]
    mask: np.ndarray

    @classmethod
    def of(cls, states: Crystal) -> MovingCell:
        """The drawing of a crystal's states [frames]; the last one sets the bounds."""
        from ase.data.colors import jmol_colors

        real = np.asarray(real_atom_mask(states))
        lattices = _bounded(np.nan_to_num(np.asarray(states.lattice, np.float64)))
        types = np.asarray(states.atom_types)
        types = _through_mirage(np.where(types == UNDECIDED, MIRAGE, types), real)
        frac_coords = np.nan_to_num(np.asarray(states.frac_coords, np.float64))
        frac_coords = _shortest_way(frac_coords - frac_coords[-1, _corner_atom(types, real)])
        return cls(
            lattices=lattices,
            frac_coords=frac_coords,
            presence=real.astype(float),
            colours=jmol_colors[types],
            radii=ball_radii(types) * _room(lattices, real)[:, None],
            mask=np.asarray(states.mask)[-1],
        )

    def draw(self, axes: Axes, moment: float, mirage: float = 1.0) -> None:
        """Draw one moment into empty axes, whose limits stay.

        Args:
            axes: Where it is drawn.
            moment: Number of the state; between whole numbers lies what is between states.
            mirage: How strong the rings of mirage atoms are, from 0 to 1.
        """
        from matplotlib.patches import Circle

        lattice, frac_coords, presence, colours, radii = (
            _between(x, moment)
            for x in (self.lattices, self.frac_coords, self.presence, self.colours, self.radii)
        )
        frac_coords = frac_coords % 1
        middle = project(lattice.sum(0)[None] / 2)
        rings = np.flatnonzero(self.mask & (presence < 0.98))
        for (x, y, depth), absence in zip(
            project(frac_coords[rings] @ lattice) - middle, 1 - presence[rings], strict=True
        ):
            ring = Circle(
                (x, y),
                MIRAGE_RADIUS_ANGSTROM,
                fill=False,
                edgecolor=_paler(MIRAGE_COLOUR, mirage * absence),
                linewidth=1.2 if mirage else 0,
                zorder=depth,
            )
            axes.add_patch(ring)

        atom, images, weight = _images(frac_coords)
        shown = presence[atom] * weight
        atom, images, shown = (x[shown > 0.02] for x in (atom, images, shown))
        centres, sizes = project(images @ lattice) - middle, radii[atom] * shown ** (1 / 3)
        for line in edges(lattice):
            draw_edge(axes, line - middle, centres, sizes)
        for centre, size, i, strength in zip(centres, sizes, atom, shown, strict=True):
            colour = 1 - strength * (1 - colours[i])
            rim = _paler(TEXT_COLOUR, strength)
            draw_ball(axes, centre, size, colour, rim=rim, num_rings=NUM_RINGS)

    def extent(self) -> Float[np.ndarray, " 2"]:
        """Half of the width and height, in Å, that hold every moment."""
        corners = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
        places = np.abs([project(corners @ lattice) for lattice in self.lattices])
        return places[..., :2].max((0, 1)) + self.radii.max()


def _through_mirage(
    types: Int[np.ndarray, "frames atoms"], real: np.ndarray
) -> Int[np.ndarray, "frames atoms"]:
    """Types in which a mirage atom has the look of what it was, or else of what it becomes."""
    types = types.copy()
    for frame in range(1, len(types)):
        types[frame] = np.where(real[frame], types[frame], types[frame - 1])
    # An atom that grows has its own look from the start: the change happens while it is a ring.
    for frame in range(len(types) - 2, -1, -1):
        unseen = ~real[frame] & (real[frame + 1] | (types[frame] == 0))
        types[frame] = np.where(unseen, types[frame + 1], types[frame])
    return types


def _corner_atom(types: Int[np.ndarray, "frames atoms"], real: np.ndarray) -> int:
    """The first real atom of the last state's rarest element, which the corner gets."""
    left = np.flatnonzero(real[-1])
    if not len(left):
        return 0
    last = types[-1, left]
    counts = (last[:, None] == last).sum(1)
    return int(left[np.argmin(counts)])


def _shortest_way(
    frac_coords: Float[np.ndarray, "frames atoms 3"],
) -> Float[np.ndarray, "frames atoms 3"]:
    steps = np.diff(frac_coords, axis=0)
    return np.concatenate(
        [frac_coords[:1], frac_coords[:1] + np.cumsum(steps - np.round(steps), 0)]
    )


def _bounded(lattices: Float[np.ndarray, "frames 3 3"]) -> Float[np.ndarray, "frames 3 3"]:
    """Upright lattices whose singular values stay near the range of the last one's."""
    left, extents, right = np.linalg.svd(lattices)
    last = extents[-1]
    extents = np.clip(extents, NARROWEST * last.min(), WIDEST * last.max())
    extents[-1] = last
    return np.stack(
        [upright(u @ np.diag(s) @ v) for u, s, v in zip(left, extents, right, strict=True)]
    )


def _room(
    lattices: Float[np.ndarray, "frames 3 3"], real: np.ndarray
) -> Float[np.ndarray, " frames"]:
    """Size of balls in each state, by the edge of a cube of the volume that an atom has."""
    edge = np.cbrt(np.abs(np.linalg.det(lattices)) / np.maximum(real.sum(-1), 1))
    return np.clip(edge / edge[-1], SMALLEST_BALL, 1)


def _between(states: Float[np.ndarray, "frames ..."], moment: float) -> np.ndarray:
    """Even motion from state to state."""
    frame = min(int(moment), len(states) - 1)
    share = moment - frame
    following = states[min(frame + 1, len(states) - 1)]
    return states[frame] + (following - states[frame]) * share


def _images(
    frac_coords: Float[np.ndarray, "atoms 3"],
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, "m 3"], Float[np.ndarray, " m"]]:
    """Atoms and their repetitions on opposite faces: which atom, where, and how visible."""

    def near(distance: np.ndarray) -> np.ndarray:
        return np.clip((NO_IMAGE - distance) / (NO_IMAGE - FULL_IMAGE), 0, 1)

    shifts = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    by_axis = np.stack([near(1 - frac_coords), np.ones_like(frac_coords), near(frac_coords)])
    weight = np.prod([by_axis[shifts[:, i] + 1, :, i] for i in range(3)], axis=0).T
    atom, shift = np.nonzero(weight)
    return atom, frac_coords[atom] + shifts[shift], weight[atom, shift]


def _paler(colour: str, strength: float) -> tuple[float, ...]:
    """A colour over white, as strong as that."""
    from matplotlib.colors import to_rgb

    return tuple(1 - strength * (1 - x) for x in to_rgb(colour))
