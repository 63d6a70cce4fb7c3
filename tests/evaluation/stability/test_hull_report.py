"""What is said of the hull before any rate of stability."""

import pytest

from miad_jax.evaluation.stability.hull_report import (
    POTENTIAL_ERROR,
    hull_rates,
    judge_sentences,
    phases_by_system,
    radioactive_elements,
    radioactive_rate,
)


def row(num_competing_phases, e_above_hull=0.1, radioactive="", reason=""):
    return {
        "num_competing_phases": num_competing_phases,
        "e_above_hull_ev_per_atom": e_above_hull,
        "radioactive_elements": radioactive,
        "reason": reason,
    }


ROWS = [row(0), row(7), row(4, radioactive="Pm-U"), row(9, e_above_hull=None), row(None, None)]


@pytest.mark.parametrize(
    ("system", "held"),
    [("Na-Cl", ""), ("O-Tc", "Tc"), ("Bi-O", ""), ("O-Pm-U", "Pm-U"), ("Po", "Po"), (None, None)],
)
def test_radioactive_elements(system, held):
    assert radioactive_elements(system) == held


def test_rates_are_of_the_samples_with_an_energy():
    alone, phases = hull_rates(ROWS)
    assert (alone.count, alone.total) == (1, 3)
    assert phases.value == 4
    assert hull_rates([row(None, None)])[1].value is None
    radioactive = radioactive_rate([*ROWS, row(None, None, None, "no crystal")])
    assert (radioactive.count, radioactive.total) == (1, 5)


def test_the_hull_is_named_with_its_density_and_what_is_radioactive():
    assert judge_sentences(
        ROWS, {"hull": "the reference's own", POTENTIAL_ERROR: "It is off."}
    ) == [
        "Hull: the reference's own.",
        "It is off.",
        "In the chemical systems of 3 samples it has 0 to 7 compounds, 4 in the median; 1 of these "
        "samples are measured against the elements alone.",
        "1 samples hold radioactive elements: Pm, U.",
    ]
    assert judge_sentences([row(None, None)], {}) == []


def test_each_chemical_system_is_listed_once_where_the_hull_is_thinnest_first():
    systems = ("Cl-Na", "O-Ti", "Cl-Na", "Fe", "Pm-U")
    rows = [x | {"chemical_system": system} for x, system in zip(ROWS, systems, strict=True)]
    rows[2] |= {"num_competing_phases": 0}
    assert phases_by_system(rows) == [("Cl-Na", 0), ("O-Ti", 7)]
    assert phases_by_system([]) == []
