"""Relax many crystals by NequIX on a cluster, a few crystals a task."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing

from miad_jax.evaluation.stability.nequix_task import relax_few
from miad_jax.evaluation.stability.potential import Record
from miad_jax.parallel.executor import Executor, WorkerFailure

CRYSTALS_PER_TASK = 16
"""At most; about as many small crystals as one batch on a CPU core holds."""


def relax_on_cluster(
    requests: Sequence[Record], executor: Executor, seconds: float | None
) -> Generator[tuple[int, Record | WorkerFailure], None, None]:
    """Relax crystals of similar size together, the largest first.

    Where a process ends over a task, each crystal of that task is relaxed again by itself: a
    crystal that takes its process down costs its own result only.

    Args:
        requests: What `relax_few` takes of each crystal.
        executor: The cluster.
        seconds: Time for one crystal, as of `relax_in_batches`; None for no limit.

    Yields:
        As `relax_in_batches` does.

    Raises:
        ValueError: If a worker cannot load NequIX, or has other weights.
    """
    by_size = sorted(range(len(requests)), key=lambda i: -len(requests[i]["atomic_numbers"]))
    for_each = len(requests) // max(executor.num_workers, 1)
    num = min(max(for_each, 1), CRYSTALS_PER_TASK)
    tasks = [by_size[i : i + num] for i in range(0, len(by_size), num)]
    while tasks:
        alone: list[list[int]] = []
        asked = [{"crystals": [requests[i] for i in x], "seconds": seconds} for x in tasks]
        with closing(executor.map(relax_few, asked)) as found:
            for number, results in found:
                task = tasks[number]
                if isinstance(results, str):
                    raise ValueError(results)
                if not isinstance(results, WorkerFailure):
                    yield from zip(task, results, strict=True)
                elif len(task) == 1:
                    yield task[0], results
                else:
                    alone += [[i] for i in task]
        tasks = alone
