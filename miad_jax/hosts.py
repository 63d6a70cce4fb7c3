"""Several processes, on one or more hosts, that do one run together.

A command joins them when a launcher started it several times: SLURM's `srun`, Open MPI's `mpirun`,
or anyone who sets these variables in the environment of each process:

    JAX_COORDINATOR_ADDRESS   host:port of the first process; the port must be free
    JAX_NUM_PROCESSES         how many there are
    JAX_PROCESS_ID            which one this is, from 0 on

These win over what a launcher says; `JAX_NUM_PROCESSES=1` keeps a process by itself. The functions
below also hold for a process that is alone, which waits for nobody.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import jax
import numpy as np

HEARTBEAT_SECONDS = 60
"""A process that says nothing for so long is lost, and the others end."""

SHUTDOWN_SECONDS = 30
"""So long a process that ends waits for the others."""

_LAUNCHERS = (
    ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
)
"""Where the number of processes stands, and which of them this is."""

_ADDRESS = "JAX_COORDINATOR_ADDRESS"
_ADDRESSES = (_ADDRESS, "SLURM_STEP_NODELIST", "OMPI_MCA_orte_hnp_uri")
"""What says where the first process is; JAX reads the second and the third."""


@dataclass(frozen=True)
class Launch:
    """How this process was started.

    Attributes:
        num_processes: Processes in all.
        index: Which of them this is, from 0 on.
    """

    num_processes: int
    index: int


def launch(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """What the environment says of the processes that were started together; None for one alone.

    Args:
        environment: Variables by name.

    Raises:
        ValueError: If a variable is missing, or its value is impossible.
    """
    found = next((names for names in _LAUNCHERS if names[0] in environment), None)
    if found is None:
        if _ADDRESS in environment:
            raise ValueError(f"{_ADDRESS} is set, but not {_LAUNCHERS[0][0]}: set it too")
        return None
    num = _number(environment, found[0])
    if num == 1:
        return None
    index = _number(environment, found[1])
    if not 0 <= index < num:
        raise ValueError(f"{found[1]} is {index}; allowed: 0 to {num - 1}, as {found[0]} is {num}")
    if not any(name in environment for name in _ADDRESSES):
        raise ValueError(
            f"{found[0]} is {num}, but nothing says where the first process is: set {_ADDRESS} to "
            "its host:port in all of them"
        )
    return Launch(num, index)


def join() -> None:
    """Join the processes that were started together; to be called before JAX computes anything.

    JAX's configuration is final then, the number of its CPU devices for one.

    From then on a process that is lost ends the others, within `HEARTBEAT_SECONDS` and with words
    of JAX that tell of it.

    Raises:
        ValueError: If a variable of the environment is missing, or its value is impossible.
        ConnectionError: If the others are not reached.
    """
    found = launch()
    if found is None:
        return
    # A signal asks for a checkpoint, see `commands.cli`; JAX's own service would take it away.
    jax.config.update("jax_enable_preemption_service", False)
    logging.getLogger("jax._src.distributed").setLevel(logging.ERROR)
    try:
        jax.distributed.initialize(
            num_processes=found.num_processes,
            process_id=found.index,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
        wait_for_all()  # now: later, one that has much to do would keep the others too long
    except jax.errors.JaxRuntimeError as error:
        raise ConnectionError(
            f"process {found.index} of {found.num_processes} did not meet the others "
            f"({str(error).splitlines()[0]}): look whether all run, and whether {_ADDRESS}, if it "
            "is set, is reached from this host"
        ) from error


def is_first() -> bool:
    """Whether this process writes and speaks for all."""
    return jax.process_index() == 0


def wait_for_all() -> None:
    """Wait until every process is here."""
    _of_all(0)


def any_process(yes: bool) -> bool:
    """Whether one of the processes says yes. All of them ask, and all get the same answer."""
    return bool(_of_all(int(yes)).any())


def of_first(number: int) -> int:
    """The number that the first process has."""
    return int(_of_all(number)[0])


@contextmanager
def first_one_first() -> Iterator[None]:
    """The first process does what is inside; then the others do, who find what it kept."""
    if not is_first():
        wait_for_all()
    yield
    if is_first():
        wait_for_all()


def _of_all(number: int) -> np.ndarray:
    """The number that each process has."""
    from jax.experimental.multihost_utils import process_allgather

    return np.asarray(process_allgather(np.int32(number))).reshape(-1)


def _number(environment: Mapping[str, str], name: str) -> int:
    given = environment.get(name, "")
    if not given.isdecimal():
        said = repr(given) if given else "not set"
        raise ValueError(f"{name} is {said}; allowed: a whole number, as in {name}=0")
    return int(given)
