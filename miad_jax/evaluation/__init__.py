"""Judging crystals: facts of each one, and what a set of them is."""

from miad_jax.evaluation.describe import COLUMNS, describe, describe_all
from miad_jax.evaluation.pipeline import Energies, judge
from miad_jax.evaluation.reference import Reference, load_reference
from miad_jax.evaluation.report.files import tables_text, write_report
from miad_jax.evaluation.report.summary import summarise, write_summary
from miad_jax.evaluation.results import EvaluationResult
from miad_jax.evaluation.samples import SampleSet, load_samples
from miad_jax.plots.summary import summary_figure

__all__ = [
    "COLUMNS",
    "Energies",
    "EvaluationResult",
    "Reference",
    "SampleSet",
    "describe",
    "describe_all",
    "judge",
    "load_reference",
    "load_samples",
    "summarise",
    "summary_figure",
    "tables_text",
    "write_report",
    "write_summary",
]
