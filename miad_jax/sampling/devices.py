"""CPU cores as devices: the same samples on any number of cores, and faster."""

from __future__ import annotations

import os

import jax

from miad_jax.parallel.executor import usable_cores


def cores_as_devices() -> None:
    """Make every CPU core a device, at least two; to be called before JAX computes anything.

    A program for more than one device runs each product in one thread. Samples are then the same
    bit for bit on any number of cores and devices, in a notebook as in `python -m miad_jax.sample`,
    which calls this; and small networks lose no time on dividing their products. A CPU that is one
    device divides each product among its cores, and rounds as their number has it.

    A number that was set by `JAX_NUM_CPU_DEVICES` or `XLA_FLAGS` stays. Accelerators are not
    touched.

    Raises:
        ValueError: If JAX has computed something already.

    Example:
        >>> miad_jax.cores_as_devices()  # doctest: +SKIP
    """
    unset = jax.config.values["jax_num_cpu_devices"] < 0
    if not unset or "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    try:
        jax.config.update("jax_num_cpu_devices", max(usable_cores(), 2))
    except RuntimeError as error:
        raise ValueError(
            "cores_as_devices comes too late: JAX has computed something already; call it first, "
            "in a notebook in the first cell after a restart"
        ) from error
