"""A moving picture of generation: crystals side by side, whose atoms appear and vanish.

Matplotlib draws the frames. Pillow writes the GIF with one set of colours for all of them, which
keeps it small and free of flicker.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int, UInt8

from miad_jax.crystal import Crystal, real_atom_mask
from miad_jax.plots.moving_cell import MIRAGE_COLOUR, MovingCell
from miad_jax.plots.unit_cell import QUIET_COLOUR, TEXT_COLOUR, draw_caption, draw_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

MAX_CELLS = 3
WIDTH_PIXELS, DPI = 700, 100
CELL_INCHES, CAPTION_INCHES, CURVE_INCHES = 2.2, 0.56, 0.78
MOMENTS_A_STATE, MOMENTS_OF_REDUCTION = 3, 6
FRAME_MILLISECONDS, HOLD_MILLISECONDS = 80, 2500
NUM_COLOURS = 64
MAX_NOISE_FORMULA_LENGTH = 16


def trajectory_gif(
    crystals: Crystal,
    steps: Int[np.ndarray, " frames"],
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> bytes:
    """The bytes of a GIF of the first three crystals, from noise to the end.

    Above each cell stand the formula and the numbers of real and mirage atoms, below it the number
    of real atoms so far. Mirage atoms are rings, which fade at the end, where they are dropped. The
    last picture stays for two and a half seconds, and then it all begins again.

    Args:
        crystals: States [samples, frames]; the last is the crystal itself.
        steps: Number of steps before each state, from 0 on.
        rows: A row each, from `describe`; their formulas and space groups are the last captions.
    """
    from PIL import Image

    images = [Image.fromarray(pixels) for pixels in draw_frames(crystals, steps, rows)]
    palette = _palette(images)
    frames = [x.quantize(palette=palette, dither=Image.Dither.NONE) for x in images]
    file = io.BytesIO()
    frames[0].save(
        file,
        format="gif",
        save_all=True,
        append_images=frames[1:],
        duration=[FRAME_MILLISECONDS] * (len(frames) - 1) + [HOLD_MILLISECONDS],
        loop=0,
    )
    return file.getvalue()


def draw_frames(
    crystals: Crystal,
    steps: Int[np.ndarray, " frames"],
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """The pictures of `trajectory_gif`, one after the other; the arguments are the same.

    Raises:
        ValueError: If there is no crystal, or no number of steps for every state.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if len(crystals.batch_shape) != 2 or not len(crystals):
        raise ValueError(
            f"crystals are of batch shape {crystals.batch_shape}; allowed: [samples, frames], with "
            "at least one sample"
        )
    if len(steps) != crystals.batch_shape[1]:
        raise ValueError(f"{crystals.batch_shape[1]} states, but {len(steps)} steps: give one each")
    num = min(len(crystals), MAX_CELLS)
    height = CAPTION_INCHES + CELL_INCHES + CURVE_INCHES
    figure = Figure(figsize=(WIDTH_PIXELS / DPI, height), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    panels = [
        _Panel(figure, i, num, crystals[i], steps, rows[i] if rows else None) for i in range(num)
    ]
    last = len(steps) - 1
    for moment in np.linspace(0, last, MOMENTS_A_STATE * last + 1):
        for panel in panels:
            panel.draw(moment)
        yield _pixels(canvas)
    for mirage in np.linspace(1, 0, MOMENTS_OF_REDUCTION + 1)[1:]:
        for panel in panels:
            panel.draw(last, mirage)
        yield _pixels(canvas)


class _Panel:
    """One crystal of the picture: its cell, what is written above, and the curve below.

    Args:
        figure: Where it is drawn.
        column: Its place, from 0 on.
        num: Number of places.
        states: The crystal's states [frames].
        steps: Number of steps before each.
        row: What `describe` says of the last one.
    """

    def __init__(
        self,
        figure: Figure,
        column: int,
        num: int,
        states: Crystal,
        steps: Int[np.ndarray, " frames"],
        row: Mapping[str, Any] | None,
    ):
        self._cell, self._states, self._steps, self._row = MovingCell.of(states), states, steps, row
        self._real = np.asarray(real_atom_mask(states))
        self._num_real = self._real.sum(-1)
        width, height = 1 / num, figure.get_figheight()
        place = (column * width, CURVE_INCHES / height, width, CELL_INCHES / height)
        self._axes = figure.add_axes(place)
        # One scale for all frames, in which every moment has room.
        size = np.array([width * figure.get_figwidth(), CELL_INCHES])
        x, y = (self._cell.extent() / size).max() * size
        self._axes.set(xlim=(-x, x), ylim=(-y, y))
        self._axes.axis("off")
        shown = min(0.5 * width, 0.2)
        place = ((column + 0.5) * width - shown / 2, 0.33 / height, shown, 0.36 / height)
        self._curve, self._point = _curve(figure.add_axes(place), states.size, int(steps[-1]))

    def draw(self, moment: float, mirage: float = 1.0) -> None:
        """Replace what was drawn by another moment."""
        axes = self._axes
        for artist in [*axes.collections, *axes.patches, *axes.lines, *axes.texts]:
            artist.remove()
        self._cell.draw(axes, moment, mirage)
        frame = int(moment)
        self._curve.set_data(self._steps[: frame + 1], self._num_real[: frame + 1])
        self._point.set_data(self._steps[frame : frame + 1], self._num_real[frame : frame + 1])
        if self._row and not self._row["reason"] and not mirage:
            draw_caption(axes, self._row)
            return
        num_real = int(self._num_real[frame])
        num_mirage = int(np.asarray(self._states.mask)[frame].sum()) - num_real
        counts = f"{num_real} atom{'s' * (num_real != 1)}"
        if mirage and num_mirage:
            counts += f" · {num_mirage} mirage"
        formula = _formula(np.asarray(self._states.atom_types)[frame][self._real[frame]])
        draw_lines(axes, formula, counts, QUIET_COLOUR if mirage else TEXT_COLOUR)


def _curve(axes: Axes, size: int, num_steps: int) -> tuple[Any, Any]:
    """Empty axes for the number of real atoms over the steps, and the curve and its end."""
    (curve,) = axes.plot([], [], color=TEXT_COLOUR, linewidth=1.2, drawstyle="steps-post")
    (point,) = axes.plot([], [], "o", color=TEXT_COLOUR, markersize=3.5, clip_on=False)
    axes.set(xlim=(0, num_steps), ylim=(0, 1.05 * size), xticks=[0, num_steps], yticks=[0, size])
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MIRAGE_COLOUR)
    axes.tick_params(labelsize=7, colors=QUIET_COLOUR, length=2, pad=1.5)
    axes.set_ylabel("atoms", fontsize=7, color=QUIET_COLOUR, labelpad=1)
    axes.set_xlabel("step", fontsize=7, color=QUIET_COLOUR, labelpad=-7)
    return curve, point


def _formula(atom_types: Int[np.ndarray, " n"]) -> str:
    """Elements and their numbers by atomic number, cut where they find no room."""
    from ase.data import chemical_symbols

    counts = sorted(Counter(atom_types.tolist()).items())
    parts = [f"{chemical_symbols[z]}{n if n > 1 else ''}" for z, n in counts]
    text = ""
    for part in parts:
        if len(text) + len(part) > MAX_NOISE_FORMULA_LENGTH:
            text += "…"
            break
        text += part
    return re.sub(r"(\d+)", r"$_{\1}$", text) or "no atoms"


def _pixels(canvas: Any) -> UInt8[np.ndarray, "height width 3"]:
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _palette(images: Sequence[Image]) -> Image:
    """Colours for all pictures: mostly the last ones', which are seen longest, and exact greys."""
    from matplotlib.colors import to_rgb
    from PIL import Image

    places = [*np.linspace(0, len(images) - 1, 12).astype(int), -1, -1]
    pixels = np.concatenate([np.asarray(images[i]).reshape(-1, 3) for i in places])
    # Paper is most of a picture, and one colour; Pillow would take another that is too near to it.
    pixels = pixels[pixels.min(-1) < 232]
    sheet = Image.fromarray(pixels[:, None])
    exact = [to_rgb(x) for x in ("white", TEXT_COLOUR, QUIET_COLOUR, MIRAGE_COLOUR)]
    found = sheet.quantize(NUM_COLOURS - len(exact), Image.Quantize.MEDIANCUT, kmeans=2)
    palette = Image.new("P", (1, 1))
    colours = [round(255 * x) for colour in exact for x in colour]
    palette.putpalette(colours + (found.getpalette() or [])[: 3 * (NUM_COLOURS - len(exact))])
    return palette
