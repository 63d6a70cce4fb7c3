"""The folder of a report: whose it is, and that nothing in it is lost.

run.json        the samples and the reference of the report
matches.json    matches of samples, kept as they come
relaxations/    relaxations, kept as they come
writer.lock     the process that writes to the folder, while it does

A report is written again after every stage. One that is there already is replaced as soon as this
run knows at least as much, and never by a run that will know less.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from miad_jax.evaluation.reference import Reference
from miad_jax.evaluation.report.files import FORMAT, write_report
from miad_jax.evaluation.report.page import Cards
from miad_jax.evaluation.results import EvaluationResult
from miad_jax.evaluation.samples import SampleSet
from miad_jax.storage.run_record import RunRecord

RECORD = RunRecord("run.json", FORMAT, "a report")
NUM_RELAXED = "first samples relaxed"
"""The setting that says how many samples were to be relaxed: a number, or "all"."""

SETTINGS_OF_STAGE = {
    "coverage": ("coverage",),
    "relaxation": ("potential", "hull file", "elements file"),
    "DFT energies": ("DFT energies",),
}
"""Settings that may not change once a stage is done."""

PREPARING = {"potential and hull", "elemental energies"}
"""Stages that add nothing to a report themselves."""


class ReportFolder:
    """Begins the report of some samples, or goes on with it.

    Args:
        folder: A new or empty folder, or that of a report of the same samples and reference.
        samples: The samples.
        reference: What they are measured against.
        settings: What the report will say of this run.
        stages: Names of the stages that this run will do.

    Raises:
        ValueError: If the folder holds anything else, or a report that says more than this run
            will.
    """

    def __init__(
        self,
        folder: Path,
        samples: SampleSet,
        reference: Reference,
        settings: Mapping[str, Any],
        stages: Sequence[str],
    ):
        self.folder = folder
        self.relaxations, self.matches = folder / "relaxations", folder / "matches.json"
        self._cards: Cards = {}
        run = {"samples": _digest(samples), "reference": reference.fingerprint}
        if (folder / RECORD.file_name).exists():
            there = RECORD.read(folder)
            words = {"samples": "other samples", "reference": "another reference"}
            if other := [words[name] for name in run if there.get(name) != run[name]]:
                raise ValueError(
                    f"{folder} holds the report of {' and '.join(other)}: choose another --out"
                )
        self._known_before = _done(folder / "report.json", settings, stages)
        RECORD.open(folder, run)

    def write(self, result: EvaluationResult) -> None:
        """Write the report, unless the one that is there still says more."""
        if self._known_before <= set(result.done):
            write_report(self.folder, result, self._cards)


def _digest(samples: SampleSet) -> str:
    """Hash of the samples, with their ids and with the reasons of those that are no crystal."""
    digest = hashlib.sha256()
    for row, structure in zip(samples.rows, samples.structures, strict=True):
        digest.update(f"{row['id']} {row['reason']}".encode(errors="backslashreplace"))
        if structure is not None:
            digest.update(json.dumps(structure.as_dict(), sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _done(report: Path, settings: Mapping[str, Any], stages: Sequence[str]) -> set[str]:
    """The stages that are done in a report that is there.

    Raises:
        ValueError: If this run will know less, or otherwise, or the file is no report.
    """
    if not report.exists():
        return set()
    try:
        content = json.loads(report.read_text(encoding="utf-8"))
        there = dict(content["settings"])
        # Version 0.1 wrote a report when everything was done.
        done = set(content["stages"]["done"] if "stages" in content else stages) - PREPARING
        is_complete = "stages" not in content or not content["stages"]["to_come"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{report} is no report: choose another --out") from error

    def number(settings: Mapping[str, Any]) -> float:
        return float(str(settings.get(NUM_RELAXED, 0)).replace("all", "inf"))

    differing = [
        name
        for stage, names in SETTINGS_OF_STAGE.items()
        if stage in done or is_complete
        for name in names
        if there.get(name) not in (None, False, "none") and settings.get(name) != there[name]
    ]
    if not differing and (is_complete or "relaxation" in done) and number(settings) < number(there):
        differing.append(NUM_RELAXED)
    said = [f"{name}: {there[name]} there, {settings.get(name, 'none')} here" for name in differing]
    said = said or [
        f"{stage}: done there, not asked for here" for stage in sorted(done - {*stages})
    ]
    if said:
        raise ValueError(
            f"{report} was made with more or other settings ({', '.join(said)}); this run would "
            "overwrite it with a smaller report. Choose another --out, or repeat its flags"
        )
    return done
