"""What a set of samples is, in a few numbers, a page of text and a figure."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from miad_jax.crystal import Crystal
from miad_jax.data.symmetry import PYMATGEN_ANGLE_TOLERANCE_DEGREES
from miad_jax.evaluation.metrics import PLAUSIBLE
from miad_jax.evaluation.statistics import wilson
from miad_jax.evaluation.validity.structure import (
    MIN_VALID_DISTANCE_ANGSTROM,
    MIN_VALID_VOLUME_ANGSTROM3,
)
from miad_jax.plots.summary import summary_figure
from miad_jax.storage.files import write_atomically

BY_PYMATGEN = "spacegroup_number_pymatgen_0.1"


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Count what the rows of `describe` say.

    Every sample is in the denominator of `share_valid_structures`, also the failed ones; the
    other numbers are of the crystals. Means are None without a crystal. Rows that lack a column,
    as those of older folders do, are left out of what is counted by it: `num_asked_if_plausible`
    and `num_asked_by_pymatgen` are the denominators.
    """
    good = [row for row in rows if not row["reason"]]
    reasons = Counter(row["reason"] for row in rows if row["reason"])
    valid = sum(bool(row["valid_structure"]) for row in good)
    sizes = Counter(row["num_atoms"] for row in good)
    elements = Counter(x for row in good for x in row["chemical_system"].split("-"))
    symmetric = sum((row["spacegroup_number_0.1"] or 1) > 1 for row in good)
    plausible = [row["plausible"] for row in rows if row.get("plausible") is not None]
    implausible = Counter(row["implausible_because"] for row in good if "plausible" in row)
    del implausible[""]
    by_pymatgen = [row[BY_PYMATGEN] for row in good if BY_PYMATGEN in row]

    def median(name: str) -> float | None:
        return float(np.median([row[name] for row in good])) if good else None

    return {
        "num_samples": len(rows),
        "num_crystals": len(good),
        "num_failed": len(rows) - len(good),
        "failed_by_reason": dict(reasons.most_common()),
        "num_valid_structures": valid,
        "share_valid_structures": valid / len(rows) if rows else None,
        "num_plausible": sum(plausible),
        "num_asked_if_plausible": len(plausible),
        "share_plausible": sum(plausible) / len(plausible) if plausible else None,
        "interval_95_plausible": (
            list(wilson(sum(plausible), len(plausible))) if plausible else None
        ),
        "implausible_because": dict(implausible.most_common()),
        "num_refined": sum(bool(row.get("refined")) for row in good),
        "num_unique_formulas": len({row["reduced_formula"] for row in good}),
        "num_chemical_systems": len({row["chemical_system"] for row in good}),
        "num_elements": len(elements),
        "num_above_p1": symmetric,
        "num_above_p1_by_pymatgen": sum((number or 1) > 1 for number in by_pymatgen),
        "num_asked_by_pymatgen": len(by_pymatgen),
        "num_without_spacegroup": sum(row["spacegroup_number_0.1"] is None for row in good),
        "num_spacegroups": len({row["spacegroup_number_0.1"] for row in good} - {None}),
        "mean_atoms_per_cell": float(np.mean([row["num_atoms"] for row in good])) if good else None,
        "median_density_g_per_cm3": median("density_g_per_cm3"),
        "median_volume_angstrom3": median("volume_angstrom3"),
        "atoms_per_cell": {str(n): sizes[n] for n in sorted(sizes)},
        "elements": dict(sorted(elements.items(), key=lambda item: (-item[1], item[0]))),
    }


def write_summary(
    directory: str | Path,
    rows: Sequence[Mapping[str, Any]],
    crystals: Sequence[Crystal] | Crystal,
    *,
    title: str = "Generated crystals",
    run: Mapping[str, Any] | None = None,
    refine_angstrom: float | None = None,
    reference_histogram: Float[np.ndarray, " sizes"] | None = None,
) -> dict[str, Any]:
    """Write summary.json, summary.md and summary.png; earlier ones are replaced.

    Args:
        directory: An existing folder.
        rows: A row each, from `describe`.
        crystals: The crystals of the rows, in the same order.
        title: Headline of the text and the figure.
        run: What identifies the run, shown in the text.
        refine_angstrom: How far atoms could move onto their crystal's symmetry, if they could.
        reference_histogram: Entry n is the number, or the share, of the training crystals
            with n atoms.

    Returns:
        What `summarise` returns.
    """
    directory = Path(directory)
    numbers = summarise(rows)
    figure = summary_figure(rows, crystals, reference_histogram, title)
    image = io.BytesIO()
    figure.savefig(image, format="png")
    write_atomically(directory / "summary.png", image.getvalue())
    text = json.dumps(numbers, indent=2, ensure_ascii=False)
    write_atomically(directory / "summary.json", text + "\n")
    write_atomically(
        directory / "summary.md", summary_text(numbers, title, run or {}, refine_angstrom)
    )
    return numbers


def refined_sentence(numbers: Mapping[str, Any], refine_angstrom: float) -> str:
    """How many crystals were moved onto their symmetry."""
    return (
        f"{numbers['num_refined']} of {numbers['num_crystals']} crystals were moved onto the "
        f"symmetry found at {refine_angstrom:g} Å."
    )


def summary_text(
    numbers: Mapping[str, Any],
    title: str,
    run: Mapping[str, Any],
    refine_angstrom: float | None = None,
) -> str:
    """A page of Markdown from what `summarise` returns."""
    num, crystals = numbers["num_samples"], numbers["num_crystals"]
    lines = [f"# {title}", "", "![Atoms per cell, elements, densities, cells](summary.png)", ""]
    lines += [
        "| | |",
        "|---|---|",
        f"| samples | {num} |",
        f"| crystals | {_of(crystals, num)} |",
        f"| valid structures | {_of(numbers['num_valid_structures'], num)} |",
        f"| plausible structures | {_plausible(numbers)} |",
        f"| different reduced formulas | {numbers['num_unique_formulas']} |",
        f"| different chemical systems | {numbers['num_chemical_systems']} |",
        f"| elements | {numbers['num_elements']} |",
        f"| symmetry above P1 | {_of(numbers['num_above_p1'], crystals)} of the crystals, "
        f"{numbers['num_spacegroups']} space groups |",
        f"| symmetry above P1 by pymatgen's {PYMATGEN_ANGLE_TOLERANCE_DEGREES:g}° | "
        f"{_of(numbers['num_above_p1_by_pymatgen'], numbers['num_asked_by_pymatgen'])} of "
        f"{_these(numbers['num_asked_by_pymatgen'], crystals, 'crystals')} |",
        f"| atoms per cell, mean | {_number(numbers['mean_atoms_per_cell'])} |",
        f"| density, median | {_number(numbers['median_density_g_per_cm3'])} g/cm³ |",
        f"| cell volume, median | {_number(numbers['median_volume_angstrom3'])} Å³ |",
        "",
    ]
    if numbers["failed_by_reason"]:
        lines += ["Samples that are no crystal:", ""]
        lines += [f"- {n}: {reason}" for reason, n in numbers["failed_by_reason"].items()] + [""]
    lines += [
        f"A structure is valid if no two atoms are closer than {MIN_VALID_DISTANCE_ANGSTROM:g} Å "
        f"and its volume is at least {MIN_VALID_VOLUME_ANGSTROM3:g} Å³; failed samples count as "
        "not valid. Space groups are spglib's at symprec 0.1 Å; spglib's own rule for angles and "
        "pymatgen's tolerance, which papers print, differ in long cells. Nothing here was "
        "relaxed, and nothing says whether a crystal is stable or new.",
        "",
        f"A structure is plausible if it passes all these tests: {PLAUSIBLE}. Failed samples count "
        "as not plausible. The range in brackets is a 95 % interval.",
        "",
    ]
    if unknown := numbers["num_without_spacegroup"]:
        lines += [
            f"The space group of {unknown} crystals is not known, because spglib finds none; they "
            "count among the crystals, and not as above P1.",
            "",
        ]
    if numbers["implausible_because"]:
        lines += ["Crystals that are not plausible:", ""]
        lines += [f"- {n}: {why}" for why, n in numbers["implausible_because"].items()] + [""]
    if refine_angstrom is not None:
        lines += [refined_sentence(numbers, refine_angstrom), ""]
    if run:
        lines += ["## Run", "", "```json", json.dumps(dict(run), indent=2, ensure_ascii=False)]
        lines += ["```", ""]
    return "\n".join(lines)


def _plausible(numbers: Mapping[str, Any]) -> str:
    """Count, share and interval of the plausible structures."""
    num = numbers["num_asked_if_plausible"]
    if not num:
        return "not known"
    low, high = (100 * x for x in numbers["interval_95_plausible"])
    text = f"{_of(numbers['num_plausible'], num)} [{low:.1f}, {high:.1f}]"
    asked = _these(num, numbers["num_samples"], "samples")
    return text if num == numbers["num_samples"] else f"{text} of {asked}"


def _these(num: int, total: int, noun: str) -> str:
    """What a share is of: all, or those whose row has the column."""
    return f"the {noun}" if num == total else f"the {num} {noun} that were asked"


def _of(count: int, total: int) -> str:
    """A count with its percentage."""
    return f"{count} ({100 * count / total:.1f} %)" if total else str(count)


def _number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "–" if value is None else f"{value:.3g}"
