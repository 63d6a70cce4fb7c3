"""The crystals that the page shows: which ones, their CIF files, and how they look in 3-D.

A crystal goes out as `written.as_written` gives it, in its Niggli cell, as generated and, if it was
relaxed, as relaxed. The viewer draws the balls of the pictures, seen from where they are seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from miad_jax.crystal import Crystal
from miad_jax.data import to_structures
from miad_jax.data.formats import plain_formula
from miad_jax.data.written import structure_as_written
from miad_jax.evaluation.report.pictures import Row, energies_of, is_denied, is_valid
from miad_jax.evaluation.results import EvaluationResult
from miad_jax.plots.scene import scene

NUM_RANKED, NUM_UNJUDGED, NUM_WORST = 100, 12, 6
"""How many crystals of a kind have files and can be turned, at most."""


def ranked(rows: Sequence[Row]) -> list[int]:
    """Crystals that nothing speaks against, by energy above the hull; the M.S.U.N. ones first.

    They are valid, have an energy, and match no earlier sample and no reference crystal, as far as
    that is known.
    """
    those = [i for i, row in enumerate(rows) if _is_good(row) and energies_of([row])]
    return sorted(those, key=lambda i: (not rows[i]["msun"], *energies_of([rows[i]])))


def unjudged(rows: Sequence[Row]) -> list[int]:
    """Crystals that nothing speaks against and whose energy above the hull is not known."""
    return [i for i, row in enumerate(rows) if _is_good(row) and not energies_of([row])]


def worst(rows: Sequence[Row]) -> list[int]:
    """Invalid structures, those with the closest atoms first; what is no crystal is left out."""
    invalid = [i for i, row in enumerate(rows) if not (row["valid_structure"] or row["reason"])]
    return sorted(invalid, key=lambda i: rows[i]["min_distance_angstrom"] or 0)


def shown(rows: Sequence[Row]) -> list[int]:
    """Every crystal that the page shows."""
    return [
        *ranked(rows)[:NUM_RANKED],
        *unjudged(rows)[:NUM_UNJUDGED],
        *worst(rows)[:NUM_WORST],
    ]


def _is_good(row: Row) -> bool:
    return is_valid(row) and not (is_denied(row["unique"]) or is_denied(row["novel"]))


class Form(NamedTuple):
    """One form of a crystal.

    Attributes:
        name: "relaxed" or "as generated".
        path: Its CIF file in the folder of the report.
        crystal: As it is written.
    """

    name: str
    path: str
    crystal: Crystal


Forms = Mapping[int, Sequence[Form]]
"""The forms of the crystals that are shown, by index of the sample."""


def forms_shown(result: EvaluationResult) -> Forms:
    """The forms of every crystal that is shown; a form that cannot be written is left out."""
    return {index: list(_forms(result, index)) for index in shown(result.rows)}


def _forms(result: EvaluationResult, index: int) -> Iterator[Form]:
    """The forms of a sample, the relaxed one first."""
    for name, end, structure in (
        ("relaxed", "_relaxed", result.relaxed[index]),
        ("as generated", "", result.structures[index]),
    ):
        if structure is not None:
            with suppress(ValueError):  # the picture says why
                path = f"cif/{index:06d}_{plain_formula(structure.composition.formula)}{end}.cif"
                yield Form(name, path, structure_as_written(structure))


def cif_files(forms: Forms) -> dict[str, str]:
    """Text of the CIF files by path in the folder of the report."""
    each = [form for those in forms.values() for form in those]
    structures = to_structures([form.crystal for form in each])
    return {form.path: x.to(fmt="cif") for form, x in zip(each, structures, strict=True)}


def scenes(rows: Sequence[Row], forms: Forms) -> dict[int, dict[str, Any]]:
    """What the viewer draws, by index of the sample."""
    return {
        index: {
            "title": title(rows[index]),
            "id": str(rows[index]["id"]),
            "forms": [[form.name, scene(form.crystal)] for form in those],
        }
        for index, those in forms.items()
        if those
    }


def title(row: Row) -> str:
    """Formula, space group and number of atoms."""
    group = row["spacegroup_0.1"] or "no space group"
    return f"{row['reduced_formula']} · {group} · {row['num_atoms']} atoms"
