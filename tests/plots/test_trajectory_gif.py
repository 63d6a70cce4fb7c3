import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from PIL import Image

from miad_jax.crystal import UNDECIDED, Crystal
from miad_jax.plots import trajectory_gif
from miad_jax.plots.moving_cell import MIRAGE_RADIUS_ANGSTROM, WIDEST, MovingCell
from miad_jax.plots.trajectory import (
    FRAME_MILLISECONDS,
    HOLD_MILLISECONDS,
    MOMENTS_A_STATE,
    MOMENTS_OF_REDUCTION,
    WIDTH_PIXELS,
    draw_frames,
)
from miad_jax.plots.unit_cell import ball_radii, upright

ROW = {"reduced_formula": "CsCl", "spacegroup_0.1": "Pm-3m", "num_atoms": 2, "reason": ""}


@pytest.fixture
def states():
    """Caesium chloride, before which one more atom vanishes and chlorine appears."""
    places = [[0.3, 0.3, 0.3], [0.8, 0.8, 0.8], [0.5, 0.2, 0.4]]
    return Crystal(
        lattice=np.stack([0.01 * np.eye(3), 99 * np.eye(3), 4.2 * np.eye(3)]),
        frac_coords=np.broadcast_to(places, (3, 3, 3)),
        atom_types=np.array([[55, 0, 8], [55, 0, 8], [55, 17, 0]], np.int32),
        mask=np.ones((3, 3), bool),
    )


def drawn(states, moment, mirage=1.0):
    """Radii of the balls and of the rings of one moment."""
    axes = Figure().add_subplot()
    cell = MovingCell.of(states)
    cell.draw(axes, moment, mirage)
    circles = [x for x in axes.patches if isinstance(x, Circle) and x.get_linewidth()]
    rings = [x for x in circles if x.radius == MIRAGE_RADIUS_ANGSTROM]
    return sorted(x.radius for x in circles if x not in rings), rings


def test_the_last_state_is_drawn_as_a_cell_is_with_rings_for_mirage_atoms(states):
    balls, rings = drawn(states, 2)
    caesium, chlorine = ball_radii(np.array([55, 17]))
    assert balls == pytest.approx([caesium] + [chlorine] * 8) or balls == pytest.approx(
        [chlorine] + [caesium] * 8
    )
    assert len(rings) == 1
    assert not drawn(states, 2, mirage=0)[1]


def test_an_undecided_atom_is_drawn_as_a_mirage_atom(states):
    mirage, undecided = states.atom_types.copy(), states.atom_types.copy()
    mirage[:2], undecided[:2] = 0, UNDECIDED
    one, two = (MovingCell.of(replace(states, atom_types=types)) for types in (mirage, undecided))
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(two, name), name)
    assert (two.presence[:2] == 0).all()


def test_atoms_fade_in_and_out_between_states(states):
    assert len(drawn(states, 1)[1]) == 1
    early, late = (drawn(states, moment) for moment in (1.1, 1.9))
    assert len(early[1]) == len(late[1]) == 2, "an atom that changes has its ring"
    oxygen = ball_radii(np.array([8]))[0]
    sizes = [min(balls) for balls, _ in (early, late)]
    assert 0 < max(sizes) < oxygen + 0.4
    assert min(late[0]) < 0.5 * oxygen, "what vanishes is small"


def test_noisy_cells_are_bounded_and_the_last_is_as_it_is(states):
    cell = MovingCell.of(states)
    edges = np.linalg.norm(cell.lattices, axis=-1)
    assert 2 < edges.min()
    assert edges.max() == pytest.approx(WIDEST * 4.2)
    np.testing.assert_allclose(cell.lattices[-1], upright(4.2 * np.eye(3)), atol=1e-9)
    assert (cell.extent() < 10).all()


def test_atoms_take_the_shortest_way(states):
    moved = states.frac_coords.copy()
    moved[:, 2, 0] = [0.95, 0.05, 0.1]
    steps = np.diff(
        MovingCell.of(Crystal(states.lattice, moved, states.atom_types, states.mask)).frac_coords,
        axis=0,
    )
    assert steps[:, 2, 0] == pytest.approx([0.1, 0.05])


def two_samples(states):
    return Crystal(*(np.stack([x, x]) for x in vars(states).values()))


def test_the_gif_moves_and_ends_holding(states):
    rows = [ROW, {"reason": "no_real_atoms"}]
    image = Image.open(io.BytesIO(trajectory_gif(two_samples(states), np.array([0, 2, 3]), rows)))
    assert image.n_frames == 2 * MOMENTS_A_STATE + 1 + MOMENTS_OF_REDUCTION
    assert image.size[0] == WIDTH_PIXELS
    assert image.info["duration"] == FRAME_MILLISECONDS
    first = np.asarray(image.convert("RGB"))
    assert (first[0, 0] == 255).all(), "paper is white"
    image.seek(image.n_frames - 1)
    assert image.info["duration"] == HOLD_MILLISECONDS >= 2000
    last = np.asarray(image.convert("RGB"))
    assert (last[0, 0] == 255).all()
    assert (last != first).any()


def test_crystals_without_any_atom_and_states_that_are_not_finite_are_drawn(states):
    none = np.zeros_like(states.atom_types)
    lattice = states.lattice.copy()
    lattice[0, 0, 0] = np.nan
    crystals = Crystal(lattice, states.frac_coords, none, states.mask)
    frames = [*draw_frames(Crystal(*(x[None] for x in vars(crystals).values())), np.arange(3))]
    assert all(frame.shape == frames[0].shape for frame in frames)


def test_bad_input_is_told(states):
    with pytest.raises(ValueError, match=r"batch shape \(3,\); allowed: \[samples, frames\]"):
        trajectory_gif(states, np.arange(3))
    with pytest.raises(ValueError, match="3 states, but 2 steps"):
        trajectory_gif(two_samples(states), np.arange(2))
