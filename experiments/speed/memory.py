"""Peak memory of training, measured in a process of its own.

python -m experiments.speed.memory published 25 16 [--plain] [--chunk_size=N]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import jax

from experiments.speed.programs import SIZES, Case, training


def measure(case: Case, size: str, dtype: str, *, plain: bool = False) -> int:
    """Peak bytes of a process that takes three training steps."""
    command = [sys.executable, "-m", "experiments.speed.memory", size]
    command += [str(case.num_atoms), str(case.batch_size), f"--dtype={dtype}"]
    command += ["--plain"] * plain
    if case.chunk_size is not None:
        command.append(f"--chunk_size={case.chunk_size}")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Take three steps and print the peak."""
    parser = argparse.ArgumentParser()
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("num_atoms", type=int)
    parser.add_argument("batch_size", type=int)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--chunk_size", type=int)
    options = parser.parse_args()
    net = dataclasses.replace(SIZES[options.size], dtype=jax.numpy.dtype(options.dtype))
    case = Case(net, options.num_atoms, options.batch_size, chunk_size=options.chunk_size)
    program = training(case, plain=options.plain)
    for _ in range(3):
        program.run()
    statistics = jax.local_devices()[0].memory_stats() or {}
    print(statistics.get("peak_bytes_in_use") or _peak_of_process())


def _peak_of_process() -> int:
    """Largest resident set of this process; `getrusage` would count its parent's memory too."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


if __name__ == "__main__":
    main()
