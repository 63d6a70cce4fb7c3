"""Relax a few crystals by NequIX: the script that processes of a cluster's workers run.

It imports miad_jax only when it is called: a process runs this file by itself, and the workers of
a cluster have the package in the same version; see `miad_jax.parallel.dask`.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from miad_jax.evaluation.stability.potential import Record
    from miad_jax.parallel.executor import WorkerFailure


def relax_few(task: Mapping[str, Any]) -> list[Record | WorkerFailure] | str:
    """Relax crystals in batches, in this process, on one device.

    Args:
        task: `crystals`, what `relax_in_batches` takes of each crystal, with `weights_file`, the
            name or the file of the weights, and `weights_sha256`, their hash; and `seconds`, the
            time for one crystal.

    Returns:
        What `relax_in_batches` yields for each crystal, in order; or a sentence that says why
        this worker cannot be used.
    """
    from miad_jax.evaluation.stability.batches import relax_in_batches
    from miad_jax.evaluation.stability.nequix import find_weights, load_nequix

    crystals, here = task["crystals"], f"a worker on {platform.node()}"
    try:
        path = find_weights(crystals[0]["weights_file"])
        potential = load_nequix(path)
    except (ValueError, OSError) as error:
        return f"{here} cannot load NequIX: {error}"
    found, wanted = potential.facts["weights_sha256"], crystals[0]["weights_sha256"]
    if found != wanted:
        return (
            f"{here} has other weights of NequIX: {path} there has the SHA-256 {found}, and the "
            f"one here {wanted}; give every worker the same file"
        )
    results = dict(relax_in_batches(potential, crystals, seconds=task["seconds"], num_lanes=1))
    return [results[i] for i in range(len(crystals))]
