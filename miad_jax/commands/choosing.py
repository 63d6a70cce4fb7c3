"""The flags of `sample` that ask for the best of several samples, and the judge that they make."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from miad_jax.commands.relax import POTENTIALS_HELP, WEIGHTS_HELP
from miad_jax.evaluation.stability.hull_files import hull_from_entries
from miad_jax.evaluation.stability.potentials import prepare_potential
from miad_jax.generation.judge import Judge
from miad_jax.parallel.progress import Progress

NAMES = ("best_of", "best_by", "best_weights", "hull")
"""Flags that say how the best is chosen."""


def define(values: flags.FlagValues) -> None:
    """Define the flags."""
    flags.DEFINE_integer(
        "best_of",
        1,
        "Draw each sample so often and keep the one with the lowest energy above the hull",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_string(
        "best_by", "nequix", f"The potential of --best_of: {POTENTIALS_HELP}", flag_values=values
    )
    flags.DEFINE_string("best_weights", None, WEIGHTS_HELP, flag_values=values)
    flags.DEFINE_string(
        "hull",
        None,
        "The hull of --best_of: a JSON of entries with total energies",
        flag_values=values,
    )


def judge_of(values: flags.FlagValues, progress: Progress) -> Judge | None:
    """What the flags ask for; None where every sample is drawn once.

    Args:
        values: The flags.
        progress: Where to show how weights are fetched, and energies computed.

    Raises:
        ValueError: If the flags do not fit each other, or the potential or the hull cannot be used.
        FileNotFoundError: If a file is missing.
    """
    if values.best_of == 1:
        if given := [x for x in NAMES[1:] if values[x].present]:
            raise ValueError(f"--{given[0]} is given without --best_of: add it, or leave both")
        return None
    if values.hull is None:
        raise ValueError(
            "--best_of needs --hull, which makes energies of different compositions comparable: a "
            "JSON of entries, as `python -m miad_jax.download mp_hull` writes"
        )
    hull = hull_from_entries(values.hull)
    prepare_potential(values.best_by, values.best_weights, progress=progress)
    return Judge(values.best_of, values.best_by, values.best_weights, hull, progress)


def chosen_by(values: flags.FlagValues) -> Mapping[str, Any]:
    """What the choice depends on, in values that JSON knows; empty where there is none."""
    if values.best_of == 1:
        return {}
    said = {name: values[name].value for name in NAMES}
    return said | {"hull": hashlib.sha256(Path(values.hull).read_bytes()).hexdigest()}
