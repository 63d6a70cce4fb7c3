"""Flags that say who does the work: processes of this machine, or a Dask cluster."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext

from absl import flags

from miad_jax.evaluation.stability.potentials import DEPENDS_ON
from miad_jax.parallel.dask import Dask


def define(values: flags.FlagValues) -> None:
    """Define the flags."""
    flags.DEFINE_integer(
        "num_workers", None, "Worker processes; default: cores", flag_values=values
    )
    flags.DEFINE_string(
        "scheduler",
        None,
        "Dask scheduler whose workers do the work, as tcp://host:8786; default: this machine works",
        flag_values=values,
    )


def cluster_of(
    values: flags.FlagValues, packages: Collection[str] = ()
) -> AbstractContextManager[Dask | None]:
    """The cluster that --scheduler names; None where this machine works.

    Args:
        values: The flags, --calculator among them.
        packages: What results depend on beside pymatgen and what the potential needs.

    Raises:
        ValueError: If --num_workers is given too, or the cluster cannot be used.
    """
    if values.scheduler is None:
        return nullcontext()
    if values.num_workers is not None:
        raise ValueError("--num_workers is of this machine: leave it out with --scheduler")
    of_potential = DEPENDS_ON.get(values.calculator, ())
    return Dask(values.scheduler, packages=dict.fromkeys(("pymatgen", *packages, *of_potential)))
