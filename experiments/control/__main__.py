"""Ask the weights for certain crystals, and count how often that is what comes.

    python -m experiments.control --reference=DIR --out=OUT [--weights=mp20-transformer]

Each part (`--only=elements,numbers,completion,formulas`) is a table in OUT that is not made again.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import jax

from experiments.control.work import PARTS, Weights
from miad_jax.model import load_model
from miad_jax.sampling.devices import cores_as_devices
from miad_jax.storage.files import write_atomically


def main() -> None:
    """Make what is missing, and print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", required=True, help="the data set, with test.csv")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", default="mp20-transformer")
    parser.add_argument("--num", type=int, default=64, help="samples of a row")
    parser.add_argument("--only", default=",".join(PARTS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    options.out.mkdir(parents=True, exist_ok=True)
    cores_as_devices()
    jax.config.update("jax_default_matmul_precision", "float32")
    weights = Weights(load_model(options.weights))
    for name in options.only.split(","):
        file = options.out / f"{name}.json"
        if not file.exists():
            rows = PARTS[name](weights, options.reference, options.num)
            write_atomically(file, json.dumps(rows, indent=1) + "\n")
        print(f"\n{name}\n\n{markdown(json.loads(file.read_text()))}")


def markdown(rows: list[dict]) -> str:
    """Rows as a table: shares in percent."""
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[shown(name, value) for name, value in row.items()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(name: str, value: object) -> str:
    """A number as people read it."""
    if not isinstance(value, float):
        return "–" if value is None else str(value)
    if name.startswith(("atoms", "seconds", "rms", "distance")):
        return f"{value:.2f}"
    return f"{100 * value:.1f} %"


if __name__ == "__main__":
    main()
