import pytest
from matplotlib.figure import Figure
from pymatgen.core import Element

from miad_jax.plots.periodic_table import PLACES, plot_periodic_table


def test_every_element_has_its_place():
    assert set(PLACES) == {Element.from_Z(z).symbol for z in range(1, 119)}
    assert len(set(PLACES.values())) == 118
    for symbol, (column, row) in PLACES.items():
        element = Element(symbol)
        if element.is_lanthanoid or element.is_actinoid:
            first = 57 if element.is_lanthanoid else 89
            assert (column, row) == (2 + element.Z - first, 8 + element.is_actinoid)
        else:
            assert (column, row) == (element.group - 1, element.row - 1)


def test_counts_are_shown():
    axes = Figure().add_subplot()
    plot_periodic_table(axes, {"O": 412, "Fe": 31, "U": 12_345})
    texts = [text.get_text() for text in axes.texts]
    assert {"412", "31", "12k", "He"} < set(texts)
    assert len(axes.patches) == 118
    colours = {patch.get_facecolor() for patch in axes.patches}
    assert len(colours) == 4


def test_what_is_no_element_is_refused():
    with pytest.raises(ValueError, match="'Xx' is no element"):
        plot_periodic_table(Figure().add_subplot(), {"Xx": 1})
