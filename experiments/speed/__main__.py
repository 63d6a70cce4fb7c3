"""Time the package against the plain formulation and against the machine.

    python -m experiments.speed [--rounds=7] [--dtype=float32] [--out=DIR]

Prints a table as it goes, and writes `results.json` and `results.png` to DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.speed import growth, programs
from experiments.speed.figure import draw
from experiments.speed.memory import measure
from experiments.speed.programs import SIZES, Case, NoNetwork, Program, check_equal
from experiments.speed.timing import interleave, matmul_program
from experiments.speed.work import forward_work, training_work
from miad_jax.storage.files import write_atomically

CPU_CASES = [
    ("published", 25, 8),
    ("published", 25, 16),
    ("published", 25, 32),
    ("published", 25, 64),
    ("published", 52, 8),
    ("small", 12, 32),
    ("small", 12, 128),
]
GPU_CASES = [
    ("published", 25, 64),
    ("published", 25, 256),
    ("published", 52, 64),
    ("small", 12, 256),
    ("small", 12, 1024),
]
WHAT: dict[str, Callable[..., Program]] = {
    "training step": programs.training,
    "forward pass": programs.forward,
    "sampling step": programs.sampling,
}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--out", type=Path, default=Path("speed"))
    options = parser.parse_args()
    cpu = jax.default_backend() == "cpu"
    device = f"{jax.device_count()} × {jax.devices()[0].device_kind}"
    results: dict = {
        "device": device,
        "processor": f"{os.cpu_count()} cores, {platform.machine()}",
        "jax": jax.__version__,
        "dtype": options.dtype,
        "rounds": options.rounds,
        "cases": [],
    }
    print(f"{device} ({results['processor']}), jax {jax.__version__}, {options.dtype}")
    print(f"medians and quartiles of {options.rounds} rounds in which all programs take turns")
    for size in SIZES:
        difference = check_equal(Case(SIZES[size], 12, 4))
        print(f"{size}: outputs and gradients equal the plain network's to {difference:.1e}")

    for size, num_atoms, batch_size in CPU_CASES if cpu else GPU_CASES:
        net = SIZES[size].clone(dtype=jnp.dtype(options.dtype))
        case = Case(net, num_atoms, batch_size)
        results["cases"].append(time_case(size, case, options.rounds, options.dtype))

    print("\ngrowth of a training step, published size")
    results["growth"] = growth.growth(min(options.rounds, 5))
    for axis, found in results["growth"].items():
        row = ", ".join(
            f"{v}: {1e3 * t['median']:.4g} ms"
            for v, t in zip(found["values"], found["times"], strict=True)
        )
        print(f"  {axis:10s} {row}; exponent {found['exponent']:.2f}")
    results["miad_diffcsp"] = growth.miad_against_diffcsp(options.rounds)
    for name, times in results["miad_diffcsp"].items():
        print(f"  {name:18s} {1e3 * times['median']:.4g} ms")
    results["memory"] = growth.memory_law()
    print("  unchunked, float32:", *results["memory"]["largest"], sep="\n    ")

    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / "results.json", json.dumps(results, indent=1) + "\n")
    draw(results).savefig(options.out / "results.png")
    print(f"\nresults.json and results.png in {options.out}")


def time_case(size: str, case: Case, rounds: int, dtype: str) -> dict:
    """Time, compile time, memory, ratios and the share of the limit of one case."""
    limit, limit_work = matmul_program(dtype)
    whole = replace(case, chunk_size=case.batch_size)
    running = {"matmul": limit, "step without network": programs.training(whole, net=NoNetwork())}
    for what, build in WHAT.items():
        running[what] = build(case)
        running[f"plain {what}"] = build(case, plain=True)
    times = interleave(running, rounds)
    flop_per_second = limit_work / times["matmul"].lower
    least = {
        "training step": training_work(case.net, case.num_atoms, case.batch_size),
        "forward pass": forward_work(case.net, case.num_atoms, case.batch_size),
    }
    least["sampling step"] = 2 * least["forward pass"]
    found: dict = {
        "size": size,
        "num_atoms": case.num_atoms,
        "batch_size": case.batch_size,
        "chunk_size": case.chunk,
        "matmul_flop_per_second": flop_per_second,
        "around_the_network": times["step without network"].median / times["training step"].median,
        "peak_bytes": measure(case, size, dtype),
        "plain_peak_bytes": measure(case, size, dtype, plain=True),
    }
    print(
        f"\n{size}, N_m {case.num_atoms}, batch {case.batch_size} in chunks of {case.chunk}; "
        f"matmul limit {flop_per_second / 1e9:.0f} GFLOP/s"
    )
    for what in WHAT:
        ours, plain = times[what], times[f"plain {what}"]
        share = least[what] / flop_per_second / ours.median
        found[what] = {
            "times": ours.as_dict(),
            "plain_times": plain.as_dict(),
            "ratio": plain.median / ours.median,
            "least_flop": least[what],
            "share_of_limit": share,
            "compile_seconds": running[what].compile_seconds,
            "plain_compile_seconds": running[f"plain {what}"].compile_seconds,
        }
        print(
            f"  {what:14s} {ours}; plain {plain}; ratio {plain.median / ours.median:.2f}; "
            f"{100 * share:.0f} % of the limit; compiled in {running[what].compile_seconds:.1f} s"
        )
    print(
        f"  around the network {100 * found['around_the_network']:.1f} % of a training step; peak "
        f"memory {found['peak_bytes'] / 2**30:.2f} GiB, plain "
        f"{found['plain_peak_bytes'] / 2**30:.2f} GiB",
        flush=True,
    )
    return found


if __name__ == "__main__":
    main()
