"""The flags of `sample` that ask for certain crystals, and the request that they make."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from miad_jax.data.reading import read_rows
from miad_jax.data.standard import structure_of
from miad_jax.request import GROUPS, Request
from miad_jax.spelling import did_you_mean

SPACE_GROUP = "spacegroup_number"

NAMES = (
    *("elements", "without", "contain", "chemical_system", "neutral", "num_atoms"),
    *("formula", "formula_units", "complete", "add", "keep_cell", "like", "strength"),
    *("property", "space_group"),
)
"""Flags that ask for something; what each is, is part of what identifies samples."""


def define(values: flags.FlagValues) -> None:
    """Define the flags."""
    strings = {
        "elements": "No elements but these: Li,Fe,P,O",
        "without": f"None of these elements or groups ({', '.join(GROUPS)}): Tc,radioactive",
        "contain": "Each of these elements: Li,Fe",
        "chemical_system": "These elements, all of them and no other: Li-Fe-P-O",
        "num_atoms": "This number of atoms, or one in a range: 12 or 8..12",
        "formula": "This formula, LiFePO4; or the formulas of a file (.txt, or .csv with a column "
        "`formula`), in turn",
        "formula_units": "How many units of it a cell holds: 2 or 1..4; default: what fits",
        "complete": "A file with one crystal, to which atoms are added",
        "like": "A file with one crystal, of which samples are variations",
        "add": "How many atoms are added to it: 2 or 0..6; default: what fits",
    }
    for name, meaning in strings.items():
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    flags.DEFINE_bool(
        "neutral", False, "Lead compositions to neutral oxidation states", flag_values=values
    )
    flags.DEFINE_bool(
        "keep_cell", False, "Keep the cell of the crystal to complete", flag_values=values
    )
    flags.DEFINE_float(
        "strength",
        None,
        "How far variations go towards pure noise, up to 1; default: 0.3",
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "property", None, "A property that the model was told: density=4.5", flag_values=values
    )
    flags.DEFINE_integer("space_group", None, "A space-group number", flag_values=values)
    flags.DEFINE_integer(
        "attempts",
        4,
        "How often at most a sample is drawn that is to be what was asked",
        lower_bound=1,
        flag_values=values,
    )


def asked(values: flags.FlagValues) -> dict[str, Any]:
    """The flags that are given, in values that JSON knows."""
    given = {name: values[name].value for name in NAMES}
    return {name: value for name, value in given.items() if value not in (None, False)}


def words(values: flags.FlagValues) -> list[str]:
    """What is asked of the samples, in turn: as many sentences as a file has formulas, or one."""
    given = asked(values)
    formulas = _formulas(given["formula"]) if "formula" in given else ""
    each = [given | {"formula": x} for x in formulas] if isinstance(formulas, list) else [given]
    return [", ".join(f"{name} {_word(value)}" for name, value in x.items()) for x in each]


def unchecked(request: Request) -> list[str]:
    """Names of wishes that only lead the model: whether a sample is that, is not looked at."""
    led = [name for name in request.properties if name != SPACE_GROUP]
    others = {"neutral": request.neutral, "like": request.like is not None}
    return [*(name for name, is_asked in others.items() if is_asked), *led]


def request_of(values: flags.FlagValues, config: ConfigDict) -> Request:
    """What the flags ask of a model.

    Raises:
        ValueError: If something is not understood, cannot be met together with the rest, or is a
            property that the model was not told.
        FileNotFoundError: If a file is missing.
    """
    given = asked(values)
    wishes = [*map(_property, given.pop("property", ()))]
    if (space_group := given.pop("space_group", None)) is not None:
        if not 1 <= space_group <= 230:
            raise ValueError(f"--space_group is {space_group}; allowed: a number from 1 to 230")
        wishes.append((SPACE_GROUP, float(space_group)))
    properties = dict(wishes)
    if len(properties) < len(wishes):
        names = ", ".join(name for name, _ in wishes)
        raise ValueError(f"a property is asked for twice, of {names}: give one value of each")
    if values["guidance"].value is not None and not properties:
        raise ValueError("--guidance strengthens wishes for properties: add --property")
    _check_properties(properties, tuple(config.data.properties))
    if "formula" in given:
        given["formula"] = _formulas(given["formula"])
    for name in ("complete", "like"):
        if name in given:
            given[name] = _structure(Path(given[name]))
    if "strength" in given and "like" not in given:
        raise ValueError("--strength belongs to variations of a crystal: add --like")
    return Request.of(**given, properties=properties)


def _word(value: Any) -> str:
    return " and ".join(map(str, value)) if isinstance(value, list) else str(value)


def _property(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError as error:
        raise ValueError(
            f"--property is {text!r}; allowed: a name and a number, as in density=4.5"
        ) from error


def _check_properties(asked: dict[str, float], known: Sequence[str]) -> None:
    """Refuse properties that the model was not told."""
    for name in asked:
        if name not in known:
            knows = f"it was told {', '.join(known)}" if known else "it was told none"
            raise ValueError(
                f"the model knows no property {name!r}{did_you_mean(name, known)}; {knows}: choose "
                "another checkpoint, or train one with --config.data.properties"
            )


def _formulas(value: str) -> list[str] | str:
    """A formula, or those of a file."""
    path = Path(value)
    if path.suffix not in (".txt", ".csv"):
        return value
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give a formula, or a file of formulas")
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix == ".txt":
            found = [line.strip() for line in file]
        else:
            table = csv.DictReader(file)
            if "formula" not in (table.fieldnames or ()):
                raise ValueError(f"{path} has no column `formula`: name one so")
            found = [row["formula"] for row in table]
    found = [formula for formula in found if formula]
    if not found:
        raise ValueError(f"{path} holds no formula: write one a line")
    return found


def _structure(path: Path) -> Any:
    """The one crystal of a file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is no file: give one with a crystal")
    rows = list(read_rows(path))
    if len(rows) != 1:
        raise ValueError(f"{path} holds {len(rows)} crystals: give a file with one")
    try:
        if rows[0].reason:
            raise ValueError(rows[0].reason)
        return structure_of(rows[0].source)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
