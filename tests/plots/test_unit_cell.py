import numpy as np
import pytest
from ase.data import covalent_radii
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from miad_jax.crystal import Crystal
from miad_jax.plots import draw_cell

ROW = {"reduced_formula": "CsCl", "spacegroup_0.1": "Pm-3m", "num_atoms": 2}


def drawn(edge, atom_types, frac_coords, row=ROW, mask=None):
    num = len(atom_types)
    crystal = Crystal(
        edge * np.eye(3),
        np.asarray(frac_coords, float),
        np.asarray(atom_types, np.int32),
        np.ones(num, bool) if mask is None else np.asarray(mask),
    )
    axes = Figure().add_subplot()
    draw_cell(axes, crystal, row)
    return axes


def balls(axes):
    """Radius of every ball in Å, from its rim."""
    return [float(x.radius) for x in axes.patches if isinstance(x, Circle)]


def edge_length(axes):
    """Length of all that is drawn of the edges, in Å of the page."""
    ends = [np.diff(np.array(line.get_data()), axis=1) for line in axes.lines]
    return sum(np.linalg.norm(steps, axis=0).sum() for steps in ends)


def test_atoms_on_the_corner_are_drawn_at_all_eight():
    axes = drawn(4.2, [55, 17], [[0, 0, 0], [0.5, 0.5, 0.5]])
    caesium, chlorine = 0.1 + 0.43 * covalent_radii[[55, 17]]
    assert sorted(balls(axes)) == pytest.approx([chlorine] + [caesium] * 8)
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert set(legend) == {"Cs", "Cl"}


def test_mirage_atoms_and_padding_are_left_out():
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.2, 0.2, 0.2], [0.3, 0.3, 0.3]]
    axes = drawn(4.2, [55, 17, 0, 8], places, mask=[True, True, True, False])
    assert balls(axes) == balls(drawn(4.2, [55, 17], places[:2]))
    assert "O" not in [text.get_text() for text in axes.get_legend().get_texts()]


def test_edges_end_at_the_balls():
    inside = drawn(10, [6], [[0.5, 0.5, 0.5]])
    corners = drawn(10, [6], [[0, 0, 0]])
    (radius,) = set(balls(corners))
    hidden = 1 - edge_length(corners) / edge_length(inside)
    assert hidden == pytest.approx(2 * radius / 10, abs=2 / 60)
    assert hidden > 0.05


def test_captions():
    row = {"reduced_formula": "Ti2O3" * 6, "spacegroup_0.1": None, "num_atoms": 1}
    formula, symbol = (t.get_text() for t in drawn(4, [8], [[0, 0, 0]], row).texts)
    assert formula.startswith("Ti$_{2}$O$_{3}$")
    assert formula.endswith("…")
    assert symbol == "no space group · 1 atom"
    _, symbol = (t.get_text() for t in drawn(4, [8], [[0, 0, 0]]).texts)
    assert symbol == r"Pm$\bar{3}$m · 2 atoms"


def test_elements_that_find_no_room_are_counted():
    axes = drawn(9, [8, 8, 22, 26, 3, 11, 12], np.random.default_rng(0).random((7, 3)))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "O",
        "Ti",
        "Fe",
        "Li and 2 more",
    ]
