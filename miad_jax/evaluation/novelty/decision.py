"""Whether a sample is unique, and whether it is novel.

A sample is unique if it matches no earlier sample, and novel if it matches no crystal of the
reference's training split; `matching` says when two crystals match. A sample without a crystal is
neither. Of a crystal that could not be compared neither is known.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from miad_jax.evaluation.novelty.matching import match
from miad_jax.evaluation.reference import Reference
from miad_jax.parallel.executor import Executor
from miad_jax.parallel.progress import Progress

if TYPE_CHECKING:
    from pymatgen.core import Structure


def novelty_columns(
    structures: Sequence[Structure | None],
    ids: Sequence[str],
    reference: Reference,
    *,
    as_disordered: bool = False,
    executor: Executor | None = None,
    kept: str | os.PathLike[str] | None = None,
    progress: Progress | bool = False,
) -> tuple[list[dict[str, Any]], list[bool]]:
    """Decide for every sample whether it is unique and novel.

    Args:
        structures: The samples, None where there is no crystal.
        ids: Their names.
        reference: Its training split is what is known.
        as_disordered: Whether orderings of one disordered crystal are the same; see `match`.
        executor: Where crystals are compared; see `match`.
        kept: File in which matches are kept; see `match`.
        progress: Where to show how far it has come.

    Returns:
        For each sample its columns `unique`, `duplicate_of`, `novel`, `known_as` and
        `matching_reason`; and whether a worker was lost over it.
    """
    found = match(
        structures,
        reference.train,
        as_disordered=as_disordered,
        executor=executor,
        kept=kept,
        progress=progress,
    )
    columns = []
    for duplicate, known, compared, reason in zip(
        found.duplicate_of, found.known_as, found.compared, found.reasons, strict=True
    ):
        columns.append(
            {
                "unique": None if reason else compared and duplicate is None,
                "duplicate_of": None if duplicate is None else ids[duplicate],
                "novel": None if reason else compared and known is None,
                "known_as": None if known is None else reference.train_records.ids[known],
                "matching_reason": reason,
            }
        )
    return columns, list(found.lost)
