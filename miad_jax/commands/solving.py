"""The flags of `sample` that say how samples are drawn, and the configuration that they make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

from absl import flags
from ml_collections import ConfigDict

from miad_jax.sampling import SOLVERS
from miad_jax.sampling.control import CoordsScore
from miad_jax.sampling.quality import QUALITIES, settings_of
from miad_jax.sampling.solvers import LastStep, settings_of_solver


def define(values: flags.FlagValues) -> None:
    """Define the flags."""
    flags.DEFINE_string(
        "quality",
        None,
        f"How good and how fast: {', '.join(QUALITIES)}; sets solver, steps and times; default: "
        "the model's",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "steps",
        None,
        "Steps, at most as many as trained; default: the model's",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "first_time",
        None,
        "The noisiest time, where sampling starts; default: the model's, or where ᾱ is 0.001",
        flag_values=values,
    )
    flags.DEFINE_list(
        "visit",
        None,
        "The times to visit, falling, instead of steps and first_time",
        flag_values=values,
    )
    flags.DEFINE_string(
        "solver",
        None,
        f"How steps are made: {', '.join(SOLVERS)}; default: the model's",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "ending",
        None,
        list(get_args(LastStep)),
        "Last step of the coordinates: to no noise at all, or as in MiAD's code, where they stay; "
        "default: the model's",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "coords_score",
        None,
        list(get_args(CoordsScore)),
        "Score of atoms that may be mirage: times the probability of being real, or as the network "
        "predicts it; default: the model's",
        flag_values=values,
    )
    flags.DEFINE_float(
        "corrector_gamma",
        None,
        "Strength of the corrector; default: the model's",
        flag_values=values,
    )
    flags.DEFINE_float(
        "churn",
        None,
        "How far ancestral steps go back up, in lengths of a step; default: the model's",
        flag_values=values,
    )
    flags.DEFINE_float(
        "coords_ahead",
        None,
        "How far ancestral steps take the coordinates ahead of their schedule; default: the "
        "model's",
        flag_values=values,
    )
    flags.DEFINE_float(
        "type_temperature",
        None,
        "Divides the logits of atom types: below 1 fewer elements; default: the model's",
        flag_values=values,
    )
    flags.DEFINE_float(
        "guidance",
        None,
        "Weight of properties that are asked; 1 is the model's own; default: the model's",
        flag_values=values,
    )


def config_with(values: flags.FlagValues, config: ConfigDict) -> ConfigDict:
    """The configuration of a model, with the fields of `sampling` that flags give."""
    config = config.copy_and_resolve_references()
    if values.quality is not None:
        config.sampling.update(
            settings_of(values.quality, config.diffusion.num_steps, config.sampling)
        )
    given = {name: values[name].value for name in _OF_SAMPLING}
    given["last_step"] = values.ending
    if values.visit is not None:
        given |= {"visit": _times(values.visit)}
        config.sampling.steps = config.sampling.first_time = None
    given = {name: value for name, value in given.items() if value is not None}
    config.sampling.update(given)
    _refuse_what_the_solver_lacks(config, given)
    return config


def _refuse_what_the_solver_lacks(config: ConfigDict, given: Iterable[str]) -> None:
    """A flag that would change nothing is refused."""
    solver = config.sampling.solver
    if solver not in SOLVERS:
        return  # which `validate` says
    owners = {kind: settings_of_solver(kind) for kind in SOLVERS}
    for name in given:
        others = [kind for kind, settings in owners.items() if name in settings]
        if others and solver not in others:
            flag = "ending" if name == "last_step" else name
            raise ValueError(
                f"--{flag} is no setting of the solver {solver}: leave it out, or choose "
                f"--solver={' or '.join(others)}"
            )


_OF_SAMPLING = (
    *("solver", "steps", "first_time", "corrector_gamma", "churn", "coords_ahead"),
    *("type_temperature", "coords_score", "guidance"),
)
"""Flags that are fields of `config.sampling` of the same name."""


def _times(listed: Sequence[str]) -> tuple[int, ...]:
    try:
        return tuple(int(time) for time in listed)
    except ValueError as error:
        raise ValueError(
            f"--visit is {','.join(listed)}; allowed: whole numbers, as in 975,500,20"
        ) from error
