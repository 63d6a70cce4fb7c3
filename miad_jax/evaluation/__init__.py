"""Judging crystals: facts of each one, and what a set of them is."""

from miad_jax.evaluation.candidates import Candidates, load_candidates
from miad_jax.evaluation.describe import COLUMNS, describe, describe_all
from miad_jax.evaluation.pipeline import Energies, judge
from miad_jax.evaluation.reference import Reference, load_reference
from miad_jax.evaluation.report.files import tables_text, write_report
from miad_jax.evaluation.report.summary import summarise, write_summary
from miad_jax.evaluation.results import Judgement
from miad_jax.plots.summary import summary_figure

__all__ = [
    "COLUMNS",
    "Candidates",
    "Energies",
    "Judgement",
    "Reference",
    "describe",
    "describe_all",
    "judge",
    "load_candidates",
    "load_reference",
    "summarise",
    "summary_figure",
    "tables_text",
    "write_report",
    "write_summary",
]
