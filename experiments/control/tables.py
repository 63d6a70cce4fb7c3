"""Tables of what was asked and what came."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher

from experiments.control import questions
from experiments.control.answers import Answer
from miad_jax import load_dataset, to_structures
from miad_jax.data.properties import density_g_per_cm3

MATCHER = StructureMatcher(ltol=0.3, stol=0.5, angle_tol=10)
"""The tolerances with which the field measures structure prediction."""

Row = dict[str, Any]


def elements(answers: Sequence[Answer], reference: str) -> list[Row]:
    """Who holds what was asked, and what the crystals are like."""
    sizes = _sizes_by_system(reference)
    rows = []
    for answer in answers:
        missed = answer.missed()
        others = [any(what.startswith("holds") for what in found) for found in missed]
        rows.append(
            {
                "system": answer.question.label,
                "no other element": 1 - float(np.mean(others)),
                "all elements": _share(not found for found in missed),
                "atoms": float(answer.num_atoms.mean()),
                "atoms in the data": sizes[answer.question.label],
                **answer.validity(),
                "seconds a sample": answer.seconds / answer.question.num,
            }
        )
    return rows


def rejection(answers: Sequence[Answer], reference: str) -> list[Row]:
    """What a sample that is as asked costs, whether it was asked for or came by chance."""
    nothing, *asked = answers
    rows = []
    for answer in asked:
        request = answer.question.request
        met = _share(not found for found in answer.missed())
        by_chance = sum(not request.missed_by(x.atom_types.tolist(), 0) for x in nothing.reduced)
        rows.append(
            {
                "asked": answer.question.label,
                "met": met,
                "seconds a sample that meets it": answer.seconds / answer.question.num / met,
                "by chance": f"{by_chance} of {nothing.question.num}",
                "seconds by chance": nothing.seconds / by_chance if by_chance else None,
            }
        )
    return rows


def numbers(answers: Sequence[Answer], reference: str) -> list[Row]:
    """Compliance, and the distribution within the range."""
    data = np.array([len(x) for x in questions.test_crystals(reference)])
    rows = []
    for answer in answers:
        asked = answer.question.request.num_atoms
        assert asked is not None
        low, high = asked
        inside = [
            np.bincount(x, minlength=high + 1)[low : high + 1] for x in (answer.num_atoms, data)
        ]
        shares = [x / x.sum() for x in inside]
        rows.append(
            {
                "atoms": answer.question.label,
                "as asked": _share((answer.num_atoms >= low) & (answer.num_atoms <= high)),
                "distance to the data": float(np.abs(shares[0] - shares[1]).sum() / 2),
                **answer.validity(),
            }
        )
    return rows


def completion(answers: Sequence[Answer], reference: str) -> list[Row]:
    """How many of the crystals come back."""
    rows = []
    for answer in answers:
        whole = questions.crystals_to_complete(reference, answer.question.num)
        pairs = list(zip(whole, answer.structures, strict=True))
        removed, cell = answer.question.label.split("-")
        rows.append(
            {
                "taken away": removed,
                "cell": "kept" if cell == "cell" else "generated",
                "crystals": len(pairs),
                "number of atoms right": _share(len(x) == len(y) for x, y in pairs),
                "recovered": _share(MATCHER.fit(x, y) for x, y in pairs),
                **answer.validity(),
            }
        )
    return rows


def properties(answers: Sequence[Answer], reference: str) -> list[Row]:
    """What was asked and what was obtained, and the crystals' quality."""
    rows = []
    for answer in answers:
        ((name, value),) = answer.question.request.properties.items()
        obtained = OBTAINED[name](answer)
        middle, groups = name == "density", name == "spacegroup_number"
        close = np.abs(obtained - value) <= 0.1 * value if middle else obtained == value
        sharp = {
            column: _share(answer.space_groups("0.01", refined=refined) == value)
            if groups
            else None
            for column, refined in (("at 0.01 Å", False), ("refined, at 0.01 Å", True))
        }
        rows.append(
            {
                "property": name,
                "asked": f"{value:g}",
                "guidance": f"{answer.question.guidance:g}",
                "median": f"{np.median(obtained):.2f}" if middle else None,
                "as asked": _share(close),
                **sharp,
                **answer.validity(),
            }
        )
    return rows


def variations(answers: Sequence[Answer], reference: str) -> list[Row]:
    """How many variations are still the crystal, and how many hold other elements."""
    originals = questions.crystals_to_vary(reference)
    rows = []
    for strength in questions.STRENGTHS:
        alike, same, valid, num = [], [], [], 0
        for answer in answers:
            place, asked = answer.question.label.split("-")
            if float(asked) != strength:
                continue
            original = originals[int(place)]
            alike += [MATCHER.fit(original, x) for x in answer.structures]
            same += [x.composition == original.composition for x in answer.structures]
            valid += [bool(row["valid_structure"]) for row in answer.rows]
            num += answer.question.num
        rows.append(
            {
                "strength": f"{strength:g}",
                "samples": num,
                "same composition": _share(same),
                "same crystal": _share(alike),
                "valid": _share(valid),
            }
        )
    return rows


def stability(answers: Sequence[Answer], reference: str) -> list[Row]:
    """The crystals' quality; their energies are for a potential to say."""
    return [{"asked": x.question.label, "samples": x.question.num, **x.validity()} for x in answers]


TABLES: dict[str, Callable[[Sequence[Answer], str], list[Row]]] = {
    "elements": elements,
    "neutral": elements,
    "rejection": rejection,
    "numbers": numbers,
    "completion": completion,
    "properties": properties,
    "stability": stability,
    "variations": variations,
}
"""By part: of its answers and the data set, rows."""

OBTAINED: dict[str, Callable[[Answer], np.ndarray]] = {
    "num_elements": lambda answer: np.array([len(set(x.atom_types)) for x in answer.reduced]),
    "density": lambda answer: np.array(
        [density_g_per_cm3(x.lattice, x.atom_types) for x in answer.reduced]
    ),
    "spacegroup_number": lambda answer: answer.space_groups("0.1"),
}
"""By property: its value of each sample."""


def markdown(rows: Sequence[Row]) -> str:
    """Rows as a table: shares in percent."""
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[shown(name, value) for name, value in row.items()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(name: str, value: object) -> str:
    """A number as people read it."""
    if not isinstance(value, float):
        return "–" if value is None else str(value)
    if name.startswith(("atoms", "seconds", "rms", "distance")):
        return f"{value:.3f}"
    return f"{100 * value:.1f} %"


def _sizes_by_system(reference: str) -> dict[str, float]:
    """The mean number of atoms of the data's crystals in each chemical system."""
    sizes: dict[str, list[int]] = {}
    for split in ("train", "val", "test"):
        for structure in to_structures(list(load_dataset(reference, split)[0])):
            symbols = "-".join(sorted(structure.composition.get_el_amt_dict()))
            sizes.setdefault(symbols, []).append(len(structure))
    return {system: float(np.mean(found)) for system, found in sizes.items()}


def _share(verdicts: Iterable[Any]) -> float:
    return float(np.mean([bool(x) for x in verdicts]))
