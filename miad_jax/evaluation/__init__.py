"""Judging crystals: facts of each one, and what a set of them is."""

from miad_jax.evaluation.describe import COLUMNS, describe, describe_all
from miad_jax.evaluation.figures import summary_figure
from miad_jax.evaluation.judgement import Judgement
from miad_jax.evaluation.judging import Energies, judge
from miad_jax.evaluation.reference import Reference, load_reference
from miad_jax.evaluation.report import tables_text, write_report
from miad_jax.evaluation.samples import Candidates, load_candidates
from miad_jax.evaluation.summary import summarise, write_summary

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
