"""Judging crystals: facts of each one, and what a set of them is."""

from miad_jax.evaluation.describe import COLUMNS, describe, describe_all
from miad_jax.evaluation.figures import summary_figure
from miad_jax.evaluation.summary import summarise, write_summary

__all__ = [
    "COLUMNS",
    "describe",
    "describe_all",
    "summarise",
    "summary_figure",
    "write_summary",
]
