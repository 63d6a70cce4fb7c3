"""The networks beside each other: time by N_m, precision and memory.

    taskset -c 0 python -m experiments.speed.networks [--rounds=5] [--out=DIR]

Prints a table while it measures, and writes `networks.json` to DIR. Programs of one network and N_m
take turns, in float32 and in bfloat16. Times are of one crystal: in a training step, and in one
evaluation of the network while sampling. Memory is what a training step needs beside its arguments,
as the compiler plans it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from experiments.claims.claim import markdown
from experiments.speed.growth import exponent
from experiments.speed.programs import SIZES, Case, Program, sampling, training
from experiments.speed.timing import interleave, matmul_program
from experiments.speed.work import forward_work, training_work
from miad_jax.network import Transformer
from miad_jax.storage.files import write_atomically

NETWORKS: dict[str, Any] = {
    "CSPNet, small": SIZES["small"],
    "CSPNet, published": SIZES["published"],
    "transformer": Transformer(hidden_dim=256, num_layers=7, num_heads=8, pair_dim=48),
}
"""The last is the network of `configs/mp20.py:transformer`."""

PRECISIONS = ("float32", "bfloat16")
NUM_ATOMS = (10, 25, 40, 64, 100)
EVALUATIONS = 2
"""Of the network in a step of the sampler that is timed."""


def main() -> None:
    """Time every network at every N_m."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("speed"))
    options = parser.parse_args()
    found = []
    for name, net in NETWORKS.items():
        for num_atoms in NUM_ATOMS:
            found.append({"network": name} | measured(net, num_atoms, options.rounds))
            print(table(found[-1:]).splitlines()[-1], flush=True)
    print(table(found))
    for name in NETWORKS:
        rows = [x for x in found if x["network"] == name]
        for what in ("training", "evaluation"):
            times = [x[f"{what}, float32"] for x in rows]
            print(f"{name}: {what} grows as N_m^{exponent(NUM_ATOMS, times):.2f}")
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / "networks.json", json.dumps(found, indent=1) + "\n")


def measured(net: Any, num_atoms: int, rounds: int) -> dict[str, float]:
    """Milliseconds of a crystal, shares of the products' limit, and megabytes."""
    batch = 16 if num_atoms <= 25 else 4
    programs: dict[str, Program] = {}
    for precision in PRECISIONS:
        case = Case(net.clone(dtype=jnp.dtype(precision)), num_atoms, batch)
        programs[f"training, {precision}"] = training(case)
        programs[f"evaluation, {precision}"] = sampling(case)
        programs[f"limit, {precision}"], limit_work = matmul_program(precision)
    times = interleave(programs, rounds)
    least = {
        "training": training_work(net, num_atoms, 1),
        "evaluation": forward_work(net, num_atoms, 1),
    }
    limits = {x: limit_work / times[f"limit, {x}"].median for x in PRECISIONS}
    found: dict[str, float] = {"N_m": num_atoms}
    for what, evaluations in (("training", 1), ("evaluation", EVALUATIONS)):
        for precision in PRECISIONS:
            name = f"{what}, {precision}"
            seconds = times[name].median / batch / evaluations
            found[name] = round(1e3 * seconds, 3)
            found[f"{what}, share, {precision}"] = round(
                least[what] / limits[precision] / seconds, 3
            )
        one, other = (found[f"{what}, {precision}"] for precision in PRECISIONS)
        found[f"{what}, ratio"] = round(one / other, 2)
    for precision in PRECISIONS:
        memory = programs[f"training, {precision}"].temp_bytes
        found[f"training, MB, {precision}"] = round(memory / 1e6)
        found[f"limit, GFLOP/s, {precision}"] = round(limits[precision] / 1e9)
    return found


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Both precisions beside each other; shares are of the limit of that precision."""
    head: list[object] = ["network", "N_m"]
    for what in ("training", "evaluation"):
        head += [f"{what}, ms", "in bfloat16", "times faster", "share", "in bfloat16"]
    rows = [[*head, "training, MB", "in bfloat16"]]
    for x in found:
        row: list[object] = [x["network"], x["N_m"]]
        for what in ("training", "evaluation"):
            row += [f"{x[f'{what}, {precision}']:.2f}" for precision in PRECISIONS]
            row += [f"{x[f'{what}, ratio']:.2f}"]
            row += [f"{x[f'{what}, share, {precision}']:.0%}" for precision in PRECISIONS]
        rows.append([*row, *(x[f"training, MB, {precision}"] for precision in PRECISIONS)])
    return markdown(rows)


if __name__ == "__main__":
    main()
