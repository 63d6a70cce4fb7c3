"""Whether the symmetry operations that made a crystal are those of the group that its CIF names.

Where a CIF lists no operation, pymatgen takes them from the symbol, else from the number, else it
takes the identity alone: P1. A symbol in a spelling that it does not know leads to another
setting, or to P1, without an error. spglib's table of 530 settings tells.

This module imports nothing of miad_jax: it lies beside `standard`, which worker processes run.
"""

from __future__ import annotations

import functools
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from pymatgen.core.operations import SymmOp

_NUM_SETTINGS = 530
_BY_AXES = range(3, 75)
"""The groups whose number says nothing of which axis is which."""

_MAX_OPERATIONS = 192
"""Of a group in a conventional cell."""

_TRANSLATION_TOLERANCE = 0.02
_METRIC_TOLERANCE = 0.02
"""How far, relatively, a cell may be from the symmetry of its operations."""

_SYMPREC_ANGSTROM = 0.05
_COPY_ANGSTROM = 0.3
"""Atoms of one element that symmetry brings closer are copies of one that did not meet."""


def check_symmetry(
    structure: Structure,
    operations: Sequence[SymmOp],
    *,
    symbol: str,
    hall: str,
    number: str,
    num_listed: int,
    implied: bool,
    counted: bool,
    confirmed: bool,
) -> None:
    """Refuse a crystal that was made with other operations than its CIF says.

    Args:
        structure: The crystal.
        operations: What made it.
        symbol: The Hermann-Mauguin symbol in the file, or an empty text.
        hall: The Hall symbol in the file, or an empty text.
        number: The number of the space group in the file, or an empty text.
        num_listed: How many operations the file lists.
        implied: Whether the file says elsewhere that there is symmetry.
        counted: Whether the formula, of the cell or with Z, agrees with the number of atoms.
        confirmed: Whether it does so with Z.

    Raises:
        ValueError: If a group is not understood, or operations, cell and group do not fit.
    """
    if num_listed and num_listed != len(operations):
        raise ValueError(
            f"lists {num_listed} symmetry operations, of which {len(operations)} are understood"
        )
    _check_operations(structure, operations)
    named = settings_of(symbol, hall)
    stated = {_setting(x)["number"] for x in named}
    if re.fullmatch(r"\s*\d+\s*", number) and 1 <= int(number) <= 230:
        stated.add(int(number))
    made = _number(structure, operations)
    said = f"the space group {' '.join(x for x in (symbol, hall, number) if x)}"
    alone = len(operations) == 1
    unknown = alone and (symbol or hall) and not stated
    others = stated - {made} if made else set()
    differs = not confirmed and not all(
        _is_whole(structure, named, x, bool(num_listed)) for x in others
    )
    if implied and alone and not num_listed and not stated and not unknown and not confirmed:
        raise ValueError("implies symmetry, of which nothing is said: list its operations")
    by_number = (symbol or hall) and not named and any(x in _BY_AXES for x in stated)
    if unknown or (not num_listed and (differs or by_number)):
        raise ValueError(f"has {said}, which is not understood: list its symmetry operations")
    if differs:
        what = "only the operation x,y,z" if alone else f"operations of group {made}"
        raise ValueError(f"has {said}, but {what}: list all its symmetry operations")
    if not num_listed and not alone:
        _check_setting(structure, operations, named, _origins(stated), said, counted)
    if not alone:
        _check_copies(structure)


def settings_of(symbol: str, hall: str = "") -> list[int]:
    """The settings that a symbol may mean, as spglib's Hall numbers; none if it is not known.

    Spaces, underscores, brackets, capitals and the 1s of monoclinic symbols do not count. Minus
    signs may be left out, as the old tables did. `:1`, `:H` and such choose among settings.
    """
    if hall.strip():
        if found := _table()[1].get(_plain(hall)):
            return found
    symbol, _, choice = symbol.partition(":")
    if not choice and (ending := re.search(r"\s([HRSZ])$", symbol.strip())):
        symbol, choice = symbol.strip()[:-1], {"S": "1", "Z": "2"}.get(ending[1], ending[1])
    by_symbol = _table()[0]
    plain = _plain(symbol)
    found = by_symbol.get(plain) or by_symbol.get(f"?{plain.replace('-', '')}", [])
    chosen = [x for x in found if _setting(x)["choice"].lower() == choice.strip().lower()]
    return chosen if choice and chosen else found


def _origins(numbers: set[int]) -> list[int]:
    """The settings of a group that differ in the origin alone, of which a number does not tell."""
    settings = range(1, _NUM_SETTINGS + 1)
    known = [x for x in settings if _setting(x)["number"] in numbers]
    return [x for x in known if _setting(x)["choice"] in ("1", "2")]


@functools.cache
def _table() -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Settings by Hermann-Mauguin symbol, those without minus signs after a `?`, and by Hall's."""
    by_symbol: dict[str, list[int]] = defaultdict(list)
    by_hall: dict[str, list[int]] = defaultdict(list)
    for setting in range(1, _NUM_SETTINGS + 1):
        known = _setting(setting)
        _, _, own = known["international"].partition("=")
        written = {own or known["international"], known["international_full"]}
        if 3 <= known["number"] <= 15:
            written |= {re.sub(r"\s1(?=\s|$)", "", x) for x in written}
        names = {_plain(x) for x in written}
        for name in names:
            by_symbol[name].append(setting)
        for name in {f"?{name.replace('-', '')}" for name in names}:
            by_symbol[name].append(setting)
        by_hall[_plain(known["hall_symbol"])].append(setting)
    return dict(by_symbol), dict(by_hall)


@functools.cache
def _setting(hall_number: int) -> dict[str, Any]:
    import spglib

    found = spglib.get_spacegroup_type(hall_number)
    names = ("number", "international", "international_full", "hall_symbol", "choice")
    return {name: getattr(found, name) for name in names}


def _plain(symbol: str) -> str:
    return re.sub(r"[\s_()]", "", symbol).lower()


def _check_operations(structure: Structure, operations: Sequence[SymmOp]) -> None:
    """Refuse operations that would bend the cell, or whose rotations are no group.

    Raises:
        ValueError: If there are any.
    """
    rotations = np.array([x.rotation_matrix for x in operations]).round().astype(int)
    bent = _bent(structure, rotations)
    if bent.max() > _METRIC_TOLERANCE:
        operation = operations[int(bent.argmax())].as_xyz_str()
        raise ValueError(f"has a cell that lacks the symmetry of its operation {operation}")
    translations = np.array([x.translation_vector for x in operations])
    if not _is_group(rotations, translations):
        raise ValueError("has symmetry operations that are no group: some are missing or wrong")


def _is_group(rotations: np.ndarray, translations: np.ndarray) -> bool:
    """Whether the product of any two operations is one of them."""
    distinct, kinds, counts = np.unique(
        rotations.reshape(-1, 9), axis=0, return_inverse=True, return_counts=True
    )
    kinds = kinds.ravel()  # some versions of NumPy return a column
    number = {tuple(x): i for i, x in enumerate(distinct.tolist())}
    squares = distinct.reshape(-1, 3, 3)
    products = np.einsum("aij,bjk->abik", squares, squares).reshape(-1, 9)
    product = np.array([number.get(tuple(x), -1) for x in products.tolist()])
    if product.min() < 0 or counts.min() < counts.max():
        return False
    if len(rotations) > _MAX_OPERATIONS:
        return True
    product = product.reshape(len(squares), -1)
    of_kind = translations[kinds.argsort(kind="stable")].reshape(len(squares), -1, 3)
    for kind, rotation, translation in zip(kinds, rotations, translations, strict=True):
        moved = translations @ rotation.T + translation
        apart = moved[:, None] - of_kind[product[kind, kinds]]
        if np.abs(apart - apart.round()).max(-1).min(-1).max() > _TRANSLATION_TOLERANCE:
            return False
    return True


def _bent(structure: Structure, rotations: np.ndarray) -> np.ndarray:
    """How far each rotation changes the cell's metric, relative to its edges."""
    lattice = structure.lattice.matrix
    metric, lengths = lattice @ lattice.T, np.array(structure.lattice.abc)
    turned = np.einsum("nji,jk,nkl->nil", rotations, metric, rotations)
    return np.abs((turned - metric) / np.outer(lengths, lengths)).max((1, 2))


def _number(structure: Structure, operations: Sequence[SymmOp]) -> int | None:
    """The space group that the operations make; None if spglib does not say."""
    if len(operations) == 1:
        return 1
    rotations = np.array([x.rotation_matrix for x in operations]).round().astype(np.intc)
    translations = np.array([x.translation_vector for x in operations])
    lattice = structure.lattice.matrix
    found = _ask("get_spacegroup_type_from_symmetry", rotations, translations, lattice, 1e-3)
    return None if found is None else int(found.number)


def _found(structure: Structure) -> int | None:
    """The space group of a crystal's atoms."""
    cell = structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers
    found = _ask("get_symmetry_dataset", cell, _SYMPREC_ANGSTROM)
    return None if found is None else int(found.number)


def _ask(function: str, *arguments: Any) -> Any:
    """What a function of spglib returns; None where it finds nothing."""
    import spglib

    os.environ.setdefault("SPGLIB_WARNING", "OFF")  # else its C code prints on stderr
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return getattr(spglib, function)(*arguments)
        except Exception:  # later versions raise where 2.8 returns None
            return None


def _check_setting(
    structure: Structure,
    operations: Sequence[SymmOp],
    named: Sequence[int],
    origins: Sequence[int],
    said: str,
    counted: bool,
) -> None:
    """Refuse operations of another setting than the symbol's, and a symbol that means several.

    A formula tells which of two origins is meant, because the other gives more or fewer atoms.

    Raises:
        ValueError: If it is so.
    """
    fitting = _fitting(structure, named or origins)
    if 3 <= _setting(fitting[0])["number"] <= 15 if fitting else False:
        # A short symbol has b as its axis, unless the cell tells otherwise.
        fitting = [x for x in fitting if _setting(x)["choice"].startswith("b")] or fitting
    meant = {_fingerprint(*_operations(setting)) for setting in fitting}
    used = _fingerprint(
        [x.rotation_matrix for x in operations], [x.translation_vector for x in operations]
    )
    if named and used not in meant:
        raise ValueError(f"has {said} in a setting that is not understood: list its operations")
    if len(meant) > 1 and not counted:
        raise ValueError(
            f"has {said}, which has {len(meant)} settings for this cell: list its operations, "
            "or say formula and Z"
        )


def _is_whole(structure: Structure, named: Sequence[int], number: int, primitive: bool) -> bool:
    """Whether the atoms are a whole cell of a group, which may be `primitive`."""
    settings = [x for x in range(1, _NUM_SETTINGS + 1) if _setting(x)["number"] == number]
    fitting = _fitting(structure, [x for x in settings if x in named] or settings)
    if not fitting:  # a primitive cell
        return primitive and _found(structure) == number
    return any(_is_symmetric(structure, *_operations(setting)) for setting in fitting)


def _is_symmetric(structure: Structure, rotations: np.ndarray, translations: np.ndarray) -> bool:
    """Whether operations bring every atom to one of its element."""
    numbers = np.array(structure.atomic_numbers)
    coords = structure.frac_coords
    for rotation, translation in zip(rotations, translations, strict=True):
        apart = (coords @ rotation.T + translation)[:, None] - coords
        apart = np.abs((apart - apart.round()) * structure.lattice.abc).max(-1)
        apart[numbers[:, None] != numbers] = np.inf
        if apart.min(-1).max() > _SYMPREC_ANGSTROM:
            return False
    return True


def _fitting(structure: Structure, settings: Sequence[int]) -> list[int]:
    """Those settings whose rotations leave the cell as it is."""
    return [x for x in settings if _bent(structure, _operations(x)[0]).max() < _METRIC_TOLERANCE]


@functools.cache
def _operations(setting: int) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [n, 3, 3] and translations [n, 3] of a setting."""
    import spglib

    found: Any = spglib.get_symmetry_from_database(setting)
    return found["rotations"], found["translations"]


def _fingerprint(rotations: Any, translations: Any) -> frozenset[tuple[int, ...]]:
    """Operations as integers, the translations in 1/24 of the cell."""
    return frozenset(
        (*np.ravel(r).round().astype(int).tolist(), *(np.round(t * 24) % 24).astype(int).tolist())
        for r, t in zip(rotations, np.asarray(translations), strict=True)
    )


def _check_copies(structure: Structure) -> None:
    """Refuse atoms that symmetry brought almost together, as rounded coordinates do.

    Raises:
        ValueError: If there are any.
    """
    numbers = np.array(structure.atomic_numbers)
    distances = structure.distance_matrix + 2 * _COPY_ANGSTROM * np.eye(len(numbers))
    distances[numbers[:, None] != numbers] = np.inf
    if distances.min() < _COPY_ANGSTROM:
        raise ValueError(
            f"has copies of one atom {distances.min():.2g} Å apart: its coordinates are too coarse "
            "for its symmetry operations"
        )
