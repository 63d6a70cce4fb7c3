"""What a reader must know before any rate of stability: the hull, its density, the potential."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from miad_jax.evaluation.statistics import Quantity, Rate

Rows = Sequence[Mapping[str, Any]]

POTENTIAL_ERROR = "error of the potential"
"""The setting that says how far a potential is from DFT."""


def radioactive_elements(chemical_system: str | None) -> str | None:
    """The radioactive elements of a chemical system, joined by a hyphen as those are.

    Technetium, promethium, and all from polonium on; bismuth counts as stable.

    Args:
        chemical_system: Such as "O-Tc"; None where there is no crystal.
    """
    from pymatgen.core import Element

    if chemical_system is None:
        return None
    return "-".join(x for x in chemical_system.split("-") if Element(x).is_radioactive)


def radioactive_rate(rows: Rows) -> Rate:
    """How many samples hold a radioactive element, of the crystals."""
    crystals = [row for row in rows if not row["reason"]]
    return Rate(
        "radioactive", sum(bool(row["radioactive_elements"]) for row in crystals), len(crystals),
        "samples with technetium, promethium, or an element from polonium on, of the crystals",
    )  # fmt: skip


def hull_rates(rows: Rows) -> list[Rate | Quantity]:
    """How densely the hull is known where the samples were measured against it."""
    counts = _counts(rows)
    return [
        Rate(
            "no competing compound", sum(n == 0 for n in counts), len(counts),
            "samples in whose chemical system the hull has no compound, so that they are measured "
            "against the elements alone, of those with a known energy above the hull",
        ),
        Quantity(
            "competing compounds", float(median(counts)) if counts else None, None, "",
            "median number of compounds in the hull that hold no other elements than the sample, "
            "of the samples with a known energy above the hull",
        ),
    ]  # fmt: skip


def judge_sentences(rows: Rows, settings: Mapping[str, Any]) -> list[str]:
    """What the report and the command say first: of the hull and of the potential.

    Args:
        rows: Of all samples.
        settings: Those of the evaluation; without `hull` there is none.
    """
    found = []
    if "hull" in settings:
        found.append(f"Hull: {settings['hull']}.")
    if POTENTIAL_ERROR in settings:
        found.append(settings[POTENTIAL_ERROR])
    if counts := _counts(rows):
        alone = sum(n == 0 for n in counts)
        found.append(
            f"In the chemical systems of {len(counts)} samples it has {min(counts)} to "
            f"{max(counts)} compounds, {median(counts):g} in the median; {alone} of these samples "
            "are measured against the elements alone."
        )
    held = [str(row["radioactive_elements"]) for row in rows if row.get("radioactive_elements")]
    if held:
        symbols = sorted({symbol for elements in held for symbol in elements.split("-")})
        found.append(f"{len(held)} samples hold radioactive elements: {', '.join(symbols)}.")
    return found


def phases_by_system(rows: Rows) -> list[tuple[str, int]]:
    """Chemical systems of the samples that were measured, and how many compounds compete in each.

    Those where the hull is thinnest come first.
    """
    systems = {str(row["chemical_system"]): count for row, count in _measured(rows)}
    return sorted(systems.items(), key=lambda item: (item[1], item[0]))


def _counts(rows: Rows) -> list[int]:
    """Numbers of competing compounds of the samples that were measured."""
    return [count for _, count in _measured(rows)]


def _measured(rows: Rows) -> list[tuple[Mapping[str, Any], int]]:
    """Samples with a known energy above the hull, with their numbers of competing compounds."""
    return [
        (row, int(row["num_competing_phases"]))
        for row in rows
        if row.get("e_above_hull_ev_per_atom") is not None
        and row.get("num_competing_phases") is not None
    ]
