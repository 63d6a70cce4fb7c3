"""The report: files, page and pictures, and the folder in which they are."""

from miad_jax.evaluation.report.files import write_report
from miad_jax.evaluation.report.folder import ReportFolder
from miad_jax.evaluation.report.page import html_page
from miad_jax.evaluation.report.summary import summarise, write_summary

__all__ = ["ReportFolder", "html_page", "summarise", "write_report", "write_summary"]
