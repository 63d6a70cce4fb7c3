"""A data set of 600,000 crystals: packing, the first training step, and novelty, on one core.

    taskset -c 0 python -m experiments.large.streaming --data=DIR/mp_20 --folder=/tmp/large

Makes a CSV of MP-20's training and validation crystals, repeated under new ids, in the folder, and
prints what each stage takes. Seconds of the core do not depend on who else uses it. Each stage is a
process of its own, whose peak memory is its own. Packing all rows takes the better part of an hour,
nearly all of it spent on CIFs. So the stage `parse` times that on some rows, and `stream` packs all
rows with cells that were made before.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from miad_jax.commands.train import load_training_data, train
from miad_jax.config import load_config, validate
from miad_jax.data import load_dataset, pack, read_rows
from miad_jax.data.structures import to_structures
from miad_jax.evaluation.novelty import match
from miad_jax.evaluation.reference import load_reference
from miad_jax.parallel.executor import Serial
from miad_jax.parallel.progress import Bar

NUM_ROWS = 600_000
NUM_TIMED = 4_000
NUM_VALIDATION = 1_000
NUM_SAMPLES = 1_000
STEPS = 40


def make(data: Path, folder: Path) -> dict:
    """Write the CSV: every training and validation crystal, again and again under new ids."""
    rows = [row for split in ("train", "val") for row in _table(data / f"{split}.csv.gz")]
    folder.mkdir(parents=True, exist_ok=True)
    for name, num in (("train", NUM_ROWS), ("val", NUM_VALIDATION)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            for i, row in enumerate(islice(cycle(rows), num)):
                table.writerow(row | {"material_id": f"{row['material_id']}-{i // len(rows)}"})
    size = (folder / "train.csv").stat().st_size
    return {"rows": NUM_ROWS, "distinct": len(rows), "megabytes": round(size / 1e6)}


def parse(data: Path, folder: Path) -> dict:
    """Read crystals in earnest, as the packing of a new set does, and time it."""
    rows = list(islice(read_rows(folder / "train.csv"), NUM_TIMED))
    begun = time.process_time()
    crystals, _ = pack(rows, executor=Serial())
    return {"crystals a second": round(len(crystals) / (time.process_time() - begun))}


def stream(data: Path, folder: Path) -> dict:
    """Pack all rows through the cache, with standard cells looked up by their CIF."""
    known = {}
    for split in ("train", "val"):
        crystals, records = load_dataset(data, split)
        rows = {row.id: row.source for row in read_rows(data / f"{split}.csv.gz")}
        masks = np.asarray(crystals.mask)
        for i, name in enumerate(records.ids):
            mask = masks[i]
            arrays = crystals.lattice[i], crystals.frac_coords[i][mask]
            known[rows[name]] = (*arrays, crystals.atom_types[i][mask])
    before = _peak()

    class LookUp(Serial):
        def map(self, function: Callable, requests: list, *, seconds: float | None = None):
            for index, (sources, _) in enumerate(requests):
                yield index, [known.get(source, "not known") for source in sources]

    begun = time.perf_counter(), time.process_time()
    crystals, records = load_dataset(folder, "train", executor=LookUp())
    found = _times(begun) | {"crystals": len(crystals), "rejected": len(records.rejected)}
    size = max(x.stat().st_size for x in (folder / "cache" / "datasets").glob("*.npz"))
    return found | {"cache megabytes": round(size / 1e6), "peak before": before}


def first_step(data: Path, folder: Path) -> dict:
    """Load the packed set, and train a small network for some steps."""
    config = load_config({})
    config.data.path = str(folder)
    config.infusion.num_atoms = 25
    config.network.hidden_dim, config.network.num_layers, config.network.num_freqs = 64, 2, 16
    config.batch_size, config.log_every, config.num_steps = 64, 10, STEPS
    config.validate_every = config.checkpoint_every = 10 * STEPS
    begun = time.perf_counter(), time.process_time()
    loaded = load_training_data(validate(config))
    found = {"load": _times(begun), "peak after load": _peak()}

    settled: list[tuple[int, float]] = []

    class Watch(Bar):
        def update(self, done: float, numbers: object = None) -> None:
            settled.append((int(done), time.process_time()))

    train(config, loaded, folder / f"run-{time.time_ns()}", bar=Watch())
    (first, at), *_, (last, end) = settled[:-1]  # the last is of the validation
    steps_a_second = (last - first) / (end - at)
    return found | {
        "core seconds to the first losses": round(at - begun[1]),
        "steps a second": round(steps_a_second, 2),
        "minutes an epoch": round(NUM_ROWS / config.batch_size / steps_a_second / 60, 1),
    }


def novelty(data: Path, folder: Path) -> dict:
    """Compare crystals of the test split with all that is packed."""
    begun = time.perf_counter(), time.process_time()
    reference = load_reference(folder, splits=("train",))
    found = {"load": _times(begun), "peak after load": _peak()}
    samples = to_structures(load_dataset(data, "test")[0][:NUM_SAMPLES])
    begun = time.perf_counter(), time.process_time()
    matches = match(samples, reference.train, executor=Serial())
    known = sum(x is not None for x in matches.known_as)
    return found | {"match": _times(begun), "samples": len(samples), "known": known}


STAGES = (make, parse, stream, first_step, novelty)


def _table(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


def _times(begun: tuple[float, float]) -> dict[str, float]:
    """Seconds by the clock, and of the core."""
    clock, core = time.perf_counter() - begun[0], time.process_time() - begun[1]
    return {"seconds": round(clock, 1), "core seconds": round(core, 1)}


def _peak() -> str:
    """The most memory that this process has had."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB"


def main() -> None:
    """Run the stages, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--stage", choices=[x.__name__ for x in STAGES])
    given = parser.parse_args()
    os.environ["MIAD_JAX_CACHE"] = str(given.folder / "cache")
    for stage in STAGES:
        if given.stage == stage.__name__:
            print(json.dumps(stage(given.data, given.folder) | {"peak": _peak()}))
        elif given.stage is None:
            command = [sys.executable, "-m", "experiments.large.streaming", f"--data={given.data}"]
            command += [f"--folder={given.folder}", f"--stage={stage.__name__}"]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            print(stage.__name__, done.stdout.splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
