import numpy as np
import pytest

from miad_jax.crystal import Crystal
from miad_jax.plots import summary_figure


def row(formula, num_atoms, density=4.0, valid=True):
    return {
        "reason": "",
        "reduced_formula": formula,
        "chemical_system": "-".join(sorted({"CsCl": ["Cs", "Cl"], "TiO2": ["Ti", "O"]}[formula])),
        "spacegroup_0.1": "Pm-3m",
        "num_atoms": num_atoms,
        "density_g_per_cm3": density,
        "valid_structure": valid,
    }


FAILED = {"reason": "has no atom", "valid_structure": False}
CELL = Crystal(
    4 * np.eye(3), np.array([[0, 0, 0], [0.5] * 3]), np.array([55, 17]), np.ones(2, bool)
)
ROWS = [row("CsCl", 2), FAILED, *[row("CsCl", 2)] * 3, row("TiO2", 3, valid=False)]


def test_the_figure_shows_the_crystals_and_the_reference():
    figure = summary_figure(ROWS, [CELL] * 6, np.array([0, 0, 1.0, 3.0]), "Title of mine")
    texts = [text.get_text() for text in figure.texts]
    assert "Title of mine" in texts
    assert "6 samples · 5 crystals · 4 valid structures" in texts
    assert "The first 5 crystals, not selected" in texts
    assert len(figure.axes) == 3 + 5
    shares = {
        round(bar.get_x() + bar.get_width() / 2): bar.get_height()
        for bar in figure.axes[0].containers[0]
    }
    assert shares[2] == pytest.approx(80)
    assert shares[3] == pytest.approx(20)
    elements = [bar.get_height() for bar in figure.axes[1].containers[0]]
    assert elements == pytest.approx([80, 80, 20, 20])
    captions = [text.get_text() for axes in figure.axes[3:] for text in axes.texts]
    assert captions.count("CsCl") == 4
    assert "TiO$_{2}$" in captions
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert set(legend) == {"samples", "training data"}


def test_densities_off_the_axis_are_counted():
    rows = [row("CsCl", 2, density) for density in (4.0, 30.0, 1e5)]
    figure = summary_figure(rows, [CELL] * 3)
    assert [text.get_text() for text in figure.axes[2].texts] == ["2 above 25 g/cm³"]
    assert sum(patch.get_height() for patch in figure.axes[2].patches) == 1


def test_nothing_to_draw_is_a_figure(tmp_path):
    figure = summary_figure([FAILED], [CELL])
    assert "No crystal to draw" in [text.get_text() for text in figure.texts]
    figure.savefig(tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 0


def test_a_crystal_for_every_row_is_needed():
    with pytest.raises(ValueError, match="6 rows, but 2 crystals"):
        summary_figure(ROWS, [CELL] * 2)
