"""Ask the weights for certain crystals, and count how often that is what comes.

    python -m experiments.control --reference=DIR --out=OUT [--weights=mp20-transformer]

Each part (`--only=elements,neutral,rejection,numbers,completion,properties,stability,variations`)
is a folder of samples in OUT, which are not drawn again, and a table. `--draw` draws alone.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

from experiments.control.answers import weights_of
from experiments.control.questions import PARTS
from experiments.control.tables import TABLES, markdown
from miad_jax.storage.files import write_atomically


def main() -> None:
    """Draw what is missing, and print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", required=True, help="the data set, with test.csv")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", default="mp20-transformer")
    parser.add_argument("--num", type=int, default=64, help="samples of a question")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--draw", action="store_true", help="draw the samples alone")
    parser.add_argument("--chunk_size", type=int, help="as of miad_jax.sample")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    weights = weights_of(options.weights, options.chunk_size)
    for name in options.only.split(","):
        answers = []
        for question in PARTS[name](options.reference, options.num):
            print(f"{name}: {question.label}", flush=True)
            file = options.out / name / f"{question.label}.npz"
            answers.append(weights.answer(question, file))
        if not options.draw:
            rows = TABLES[name](answers, options.reference)
            write_atomically(options.out / f"{name}.json", json.dumps(rows, indent=1) + "\n")
            print(f"\n{name}\n\n{markdown(rows)}\n")


if __name__ == "__main__":
    main()
