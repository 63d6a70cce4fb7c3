"""Times that can be compared: programs take turns, round by round, and medians are reported."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import jax
import numpy as np

from experiments.speed.programs import Program
from miad_jax.network.layers import activations, matmul


@dataclass(frozen=True)
class Times:
    """Seconds of one step.

    Attributes:
        median: Over the rounds.
        lower: First quartile.
        upper: Third quartile.
    """

    median: float
    lower: float
    upper: float

    def __str__(self) -> str:
        """Milliseconds, with the quartiles."""
        return f"{1e3 * self.median:.4g} ms ({1e3 * self.lower:.4g}–{1e3 * self.upper:.4g})"

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def interleave(programs: Mapping[str, Program], rounds: int) -> dict[str, Times]:
    """Run every program once a round; one round to warm up is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds + 1):
        for name, program in programs.items():
            started = time.perf_counter()
            program.run()
            if number:
                seconds[name].append((time.perf_counter() - started) / program.steps)
    return {
        name: Times(*(float(np.quantile(x, q)) for q in (0.5, 0.25, 0.75)))
        for name, x in seconds.items()
    }


def matmul_program(dtype: str) -> tuple[Program, float]:
    """A large square matrix product, the limit of this machine, and its operations.

    The factors have this precision. What stands between products has that of the networks.
    """
    size = 2048 if jax.default_backend() == "cpu" else 8192
    repeats = 4
    a = jax.random.normal(jax.random.key(0), (size, size), activations(dtype))
    b = jax.random.normal(jax.random.key(1), (size, size), activations(dtype)) / size**0.5
    started = time.perf_counter()

    def product(a, b):
        return jax.lax.fori_loop(0, repeats, lambda _, x: matmul(x, b, dtype), a)

    compiled = jax.jit(product).lower(a, b).compile()
    seconds = time.perf_counter() - started
    program = Program(lambda: jax.block_until_ready(compiled(a, b)), seconds, 0, 0, repeats)
    return program, 2.0 * size**3
