"""Evaluate generated crystals: validity, uniqueness, novelty, coverage, stability, S.U.N."""

from miad_jax.evaluation.describe import COLUMNS, describe, describe_all
from miad_jax.evaluation.pipeline import evaluate
from miad_jax.evaluation.reference import Reference, load_reference
from miad_jax.evaluation.report import summarise, write_report, write_summary
from miad_jax.evaluation.results import SAMPLE_COLUMNS, EvaluationResult
from miad_jax.evaluation.samples import SampleSet, load_samples
from miad_jax.evaluation.tables import tables_text

__all__ = [
    "COLUMNS",
    "SAMPLE_COLUMNS",
    "EvaluationResult",
    "Reference",
    "SampleSet",
    "describe",
    "describe_all",
    "evaluate",
    "load_reference",
    "load_samples",
    "summarise",
    "tables_text",
    "write_report",
    "write_summary",
]
