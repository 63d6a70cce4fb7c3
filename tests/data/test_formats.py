"""The tables of samples: what people and programs read from a CSV."""

import numpy as np
import pandas as pd
import pytest

from miad_jax.data.formats import csv_text


def test_numbers_have_six_digits_and_what_is_missing_is_empty():
    rows = [
        {"index": 0, "a": 1 / 3, "valid": True, "reason": ""},
        {"index": 1, "a": None, "valid": None, "reason": 'of "two", or\nmore', "seed": 7},
        {
            "index": 2,
            "a": np.float64(1e-12),
            "valid": False,
            "reason": "β-SiO₂",
            "seed": np.int64(3),
        },
        {"index": 3, "a": float("nan"), "valid": False, "reason": None, "seed": 123456789012},
    ]
    assert csv_text(rows) == (
        "index,a,valid,reason,seed\n"
        "0,0.333333,True,,\n"
        '1,,,"of ""two"", or\nmore",7\n'
        "2,1e-12,False,β-SiO₂,3\n"
        "3,nan,False,,123456789012\n"
    )


@pytest.mark.parametrize(
    ("rows", "text"),
    [([], "\n"), ([{}], "\n\n"), ([{"a": None}], 'a\n""\n'), ([{"a": 1.0}], "a\n1\n")],
)
def test_small_tables(rows, text):
    assert csv_text(rows) == text


def test_a_table_is_read_back(tmp_path):
    (tmp_path / "x.csv").write_text(csv_text([{"id": "a,b", "x": 0.25}, {"id": "c", "x": None}]))
    table = pd.read_csv(tmp_path / "x.csv")
    assert table["id"].tolist() == ["a,b", "c"]
    np.testing.assert_array_equal(table["x"], [0.25, np.nan])


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "@SUM(A1)", "-cmd|x", "\t=1", "-1+1"])
def test_a_cell_that_a_spreadsheet_would_run_is_text(text):
    assert csv_text([{"id": text}]) == f"id\n'{text}\n"


@pytest.mark.parametrize("text", ["-1.5e-3", "+2", "-42m", "mp-1", ""])
def test_other_cells_stay(text):
    expected = {"": '""', "-42m": "'-42m"}.get(text, text)
    assert csv_text([{"id": text}]) == f"id\n{expected}\n"
