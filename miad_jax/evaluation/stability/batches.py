"""Relax many crystals in batches of one padded shape, with a potential that is a JAX function.

Every device of JAX takes a lane: a batch of crystals that all make a step at once. A crystal that
is done leaves its place to the next, so that a slow one holds up none, and large and small ones
share one compiled program. A lane has programs of a few sizes: the usual one, halves of it for the
last crystals, doubles of it for one that is too large.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import jax

from miad_jax.evaluation.stability.fire import Outcome, SiteEnergies, fire_step
from miad_jax.evaluation.stability.moving import JaxPotential, Moving, Size, packed
from miad_jax.evaluation.stability.potential import Record
from miad_jax.parallel.executor import WorkerFailure

CPU_SIZE, ACCELERATOR_SIZE = Size(16, 32, 2048), Size(128, 1024, 65536)
"""The usual size of a batch, by the kind of device: larger ones gain nothing on a CPU core."""


def relax_in_batches(
    potential: JaxPotential,
    requests: Sequence[Mapping[str, Any]],
    *,
    seconds: float | None = None,
    num_lanes: int | None = None,
) -> Generator[tuple[int, Record | WorkerFailure], None, None]:
    """Relax cell and positions of every crystal by FIRE; see `fire`.

    Args:
        potential: The potential.
        requests: What `potential.relax` takes of each crystal: `lattice` (right-handed),
            `frac_coords`, `atomic_numbers`, `max_steps` and `fmax_ev_per_angstrom`.
        seconds: Time for one crystal, its share of the time of its batches; None for no limit.
            The time that a program takes to compile does not count.
        num_lanes: Lanes at most; one for each device of JAX when None.

    Yields:
        The index of a request and what `potential.relax` returns for it, in any order. A
        `WorkerFailure` comes in place of it where the time was over. To leave early, close the
        generator.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    # The largest first, so that the last to end is a small one.
    for i in sorted(range(len(requests)), key=lambda i: -len(requests[i]["atomic_numbers"])):
        todo.put(i)
    done: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
    stop = threading.Event()
    devices = jax.local_devices()[: min(num_lanes or len(requests), len(requests))]
    lanes = [_Lane(potential, requests, todo, done, seconds, device) for device in devices]
    threads = [threading.Thread(target=lane.run, args=(stop,), daemon=True) for lane in lanes]
    try:
        for thread in threads:
            thread.start()
        for _ in requests:
            index, result = done.get()
            if isinstance(result, BaseException):
                raise result
            yield index, result
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class _Lane:
    """What one device does: take crystals from the queue, a batch at a time, until it is empty."""

    def __init__(
        self,
        potential: JaxPotential,
        requests: Sequence[Mapping[str, Any]],
        todo: queue.SimpleQueue[int],
        done: queue.SimpleQueue[tuple[int, Any]],
        seconds: float | None,
        device: jax.Device,
    ):
        self._potential, self._requests = potential, requests
        self._todo, self._done = todo, done
        self._seconds, self._device = seconds, device
        self._size = CPU_SIZE if device.platform == "cpu" else ACCELERATOR_SIZE
        self._compiled: set[Size] = set()

    def run(self, stop: threading.Event) -> None:
        """Work until nothing is left; an error goes to the caller in place of a result."""
        try:
            with jax.default_device(self._device):
                energies = jax.device_put(self._potential.site_energies, self._device)
                moving: list[Moving] = []
                waiting: Moving | None = None
                while not stop.is_set():
                    waiting = waiting or self._next()
                    while waiting and (not moving or self._size.holds([*moving, waiting])):
                        moving.append(waiting)
                        waiting = self._next()
                    if not moving:
                        return
                    moving = self._step(energies, moving)
        except BaseException as error:  # raised by the caller, which waits for it
            self._done.put((-1, error))

    def _next(self) -> Moving | None:
        """The next crystal that can be relaxed; those that cannot are done."""
        from ase.data import chemical_symbols

        while True:
            try:
                index = self._todo.get_nowait()
            except queue.Empty:
                return None
            request = self._requests[index]
            unknown = sorted(set(request["atomic_numbers"]) - set(self._potential.species))
            if unknown:
                symbols = ", ".join(chemical_symbols[z] for z in unknown)
                reason = f"{self._potential.name} does not know {symbols}"
            else:
                crystal = Moving(index, request, self._potential)
                reason = crystal.place()
                if not reason:
                    return crystal
            self._done.put((index, {"status": "failed", "reason": reason}))

    def _step(self, energies: SiteEnergies, moving: Sequence[Moving]) -> list[Moving]:
        """Make a step with as many crystals as fit in; returns those that are not done."""
        num = 1
        while num < len(moving) and self._size.holds(moving[: num + 1]):
            num += 1
        chosen, rest = moving[:num], moving[num:]
        size = self._size.for_these(chosen)
        begin = time.monotonic()
        batch, motion = packed(chosen, size, self._potential.cutoff_angstrom)
        outcome: Outcome = jax.device_get(fire_step(energies, batch, motion))
        took = time.monotonic() - begin if size in self._compiled else 0.0
        self._compiled.add(size)

        num_edges = sum(len(x.pairs.senders) for x in chosen)
        going, first = [*rest], 0
        for slot, crystal in enumerate(chosen):
            atoms = slice(first, first + crystal.num_atoms)
            first = atoms.stop
            crystal.seconds += took * len(crystal.pairs.senders) / max(num_edges, 1)
            result: Record | WorkerFailure | None = crystal.result(outcome, slot)
            result = result or crystal.advance(outcome, slot, atoms)
            if result is None and self._seconds is not None and crystal.seconds > self._seconds:
                result = WorkerFailure(f"took longer than {self._seconds:g} s", timed_out=True)
            if result is None:
                going.append(crystal)
            else:
                self._done.put((crystal.index, result))
        return going
