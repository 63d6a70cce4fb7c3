r"""Does a model that was fine-tuned on band gaps make crystals with the gaps it is asked for?

    python -m miad_jax.train --config=mp20:transformer --config.data.path=DIR \
        --init-from=mp20-transformer --config.data.properties=dir_gap \
        --config.infusion.num_atoms=6 --config.batch_size=128 --config.num_steps=3000 \
        --config.optimizer.warmup_steps=100 --workdir=RUN
    python -m experiments.control.gaps --reference=DIR --weights=RUN --out=OUT --chunk_size=32

DIR is Perov-5, whose direct gaps in eV were computed for every composition. So the gap of a
sample is known where its composition is one of the set's. Compositions of the training split and
those of the other splits are counted apart, because the model has seen the gaps of the former.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path

import numpy as np
from pymatgen.core import Structure

from experiments.control.answers import Answer, weights_of
from experiments.control.questions import Question
from experiments.control.tables import Row, markdown
from miad_jax import load_dataset, to_structures
from miad_jax.request import Request
from miad_jax.storage.files import write_atomically

PROPERTY = "dir_gap"
WEIGHTS_OF_GUIDANCE = (1.0, 2.0)
GAPS = (0.0, 1.0, 2.0, 4.0)
"""Asked for, in eV."""


def main() -> None:
    """Draw what is missing, look up the gaps, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", required=True, help="Perov-5, with three splits")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", required=True, help="the fine-tuned model")
    parser.add_argument("--num", type=int, default=256, help="samples of a question")
    parser.add_argument("--chunk_size", type=int, help="as of miad_jax.sample")
    options = parser.parse_args()
    weights = weights_of(options.weights, options.chunk_size)
    seen = known_gaps(options.reference, "train")
    unseen = known_gaps(options.reference, "val") | known_gaps(options.reference, "test")
    rows = [everything(seen | unseen)]
    for question in questions(options.num):
        answer = weights.answer(question, options.out / "gaps" / f"{question.label}.npz")
        rows.append(row(answer, seen, {x: gap for x, gap in unseen.items() if x not in seen}))
    write_atomically(options.out / "gaps.json", json.dumps(rows, indent=1) + "\n")
    print(markdown(rows))


def questions(num: int) -> list[Question]:
    """Nothing, and every gap with more and more guidance."""
    asked = [
        Question(f"{gap:g} eV, {weight:g}", num, Request.of(properties={PROPERTY: gap}), weight)
        for gap, weight in product(GAPS, WEIGHTS_OF_GUIDANCE)
    ]
    return [Question("nothing", num), *asked]


def known_gaps(reference: str, split: str) -> dict[str, float]:
    """The gap of every composition of a split; of one that comes twice, the larger."""
    crystals, records = load_dataset(reference, split)
    gaps = np.asarray(records.columns[PROPERTY], float)
    found: dict[str, float] = {}
    for structure, gap in zip(to_structures(list(crystals)), gaps.tolist(), strict=True):
        name = composition(structure)
        found[name] = max(gap, found.get(name, 0.0))
    return found


def composition(structure: Structure) -> str:
    """The reduced formula, elements in one order."""
    return str(structure.composition.reduced_formula)


def row(answer: Answer, seen: dict[str, float], unseen: dict[str, float]) -> Row:
    """What came, and the known gaps of it."""
    names = [composition(x) for x in answer.structures]
    return {
        "asked, guidance": answer.question.label,
        "plausible": answer.validity()["plausible"],
        **told("seen", [seen[x] for x in names if x in seen]),
        **told("unseen", [unseen[x] for x in names if x in unseen]),
    }


def everything(gaps: dict[str, float]) -> Row:
    """The same of the data set itself."""
    values = [*gaps.values()]
    return {
        "asked, guidance": "the data",
        "plausible": None,
        **told("seen", values),
        **told("unseen", []),
    }


def told(kind: str, gaps: list[float]) -> Row:
    """How many compositions are known, how many of them have a gap, and how large it is."""
    open_gaps = [x for x in gaps if x > 0]
    return {
        f"{kind}: samples": len(gaps),
        f"{kind}: with a gap": float(np.mean([x > 0 for x in gaps])) if gaps else None,
        f"{kind}: median of these": f"{np.median(open_gaps):.1f} eV" if open_gaps else None,
    }


if __name__ == "__main__":
    main()
