"""What is killed: a small training, sampling and judging, and what each leaves when it is done."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict
from pymatgen.core import Element
from pymatgen.entries.computed_entries import ComputedEntry

from miad_jax.model import load_model
from miad_jax.storage.files import is_partial, write_atomically
from miad_jax.storage.lock import LOCK

VALIDATE_EVERY = 60
TRAINING = f"""--config=configs/prototypes.py:quick --config.data.max_num_atoms=4
--config.infusion.num_atoms=5 --config.network.hidden_dim=16 --config.network.num_layers=1
--config.network.num_freqs=4 --config.network.time_dim=8 --config.batch_size=32
--config.num_steps=600 --config.log_every=20 --config.validate_every={VALIDATE_EVERY}
--config.checkpoint_every=30""".split()

SAMPLING = ["--num=160", "--steps=60", "--first_time=900", "--batch_size=8", "--seed=3"]
JUDGING = [
    "--reference=prototypes",
    "--calculator=experiments.drill.potential:lennard_jones",
    "--max_steps=5",
    "--num_relaxed=32",
    "--nocoverage",
]

VARYING = ("steps_per_second", "seconds", "finished", "started", "date", "time")
"""Names of values that say when or how fast, and so differ from run to run."""


@dataclass(frozen=True)
class Stage:
    """A command that is killed and started again.

    Attributes:
        name: Of the command.
        arguments: Its flags, of the folder it fills.
        outcome: What is left in the folder, as names and digests of values.
    """

    name: str
    arguments: Callable[[Path], Sequence[str]]
    outcome: Callable[[Path], dict[str, str]]

    def command(self, folder: Path) -> list[str]:
        """The whole command line."""
        return [sys.executable, "-m", f"miad_jax.{self.name}", *self.arguments(folder)]


def stages(model: Path, samples: Path, hull: Path) -> dict[str, Stage]:
    """The three stages, by name.

    Args:
        model: A finished training, which is sampled from.
        samples: Finished samples, which are judged.
        hull: The hull above which their energies are.
    """
    return {
        "train": Stage("train", lambda folder: [*TRAINING, f"--workdir={folder}"], trained),
        "sample": Stage(
            "sample",
            lambda folder: [*SAMPLING, f"--checkpoint={model}", f"--out={folder}"],
            files,
        ),
        "evaluate": Stage(
            "evaluate",
            lambda folder: [str(samples), *JUDGING, f"--hull={hull}", f"--out={folder}"],
            judged,
        ),
    }


def write_hull(path: Path) -> None:
    """A hull of the elements alone, each at the same energy."""
    symbols = [Element.from_Z(z).symbol for z in range(1, 100)]
    entries = [ComputedEntry(symbol, -1.0, entry_id=symbol).as_dict() for symbol in symbols]
    write_atomically(path, json.dumps(entries))


def trained(folder: Path) -> dict[str, str]:
    """The averaged parameters bit for bit, and the validation losses value for value.

    A run that was asked to end also validates where it ended, which is left out.
    """
    model = load_model(folder)
    params = flatten_dict(model.params, sep="/")
    found = {f"parameter {name}": _hash(np.asarray(x).tobytes()) for name, x in params.items()}
    found["step"] = str(model.step)
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        said = json.loads(line)
        if "event" in said or said["step"] % VALIDATE_EVERY:
            continue
        # The means of a window that a kill cut short are of fewer steps; validation is whole.
        for name, value in said.items():
            if name.startswith("validation_"):
                found[f"step {said['step']} {name}"] = repr(value)
    return found


def files(folder: Path) -> dict[str, str]:
    """Every file byte for byte, but pictures, and what batches were written."""
    return {
        str(path.relative_to(folder)): _hash(path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".png", ".npz") and "batches" not in path.parts
    } | {f"array {name}": value for name, value in _arrays(folder / "samples.npz").items()}


def judged(folder: Path) -> dict[str, str]:
    """The report value for value, but times."""
    report = json.loads((folder / "report.json").read_text())
    return {
        "report.json": _hash(json.dumps(_lasting(report), sort_keys=True).encode()),
        "crystals.csv": _hash((folder / "crystals.csv").read_bytes()),
    }


def broken(folder: Path) -> list[str]:
    """Files under a final name that cannot be read whole."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or is_partial(path) or path.name == LOCK:
            continue
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".npz":
                _arrays(path)
            elif path.suffix in (".csv", ".cif", ".extxyz", ".html", ".md"):
                assert path.read_text().endswith("\n")
        except Exception as error:  # whatever it is, the file is not whole
            found.append(f"{path}: {error!r}")
    return found


def _arrays(path: Path) -> dict[str, str]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: _hash(arrays[name].tobytes()) for name in arrays.files}


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _lasting(x)
            for name, x in value.items()
            if not any(word in name.split(" ") for word in VARYING)
        }
    return [_lasting(x) for x in value] if isinstance(value, list) else value


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
