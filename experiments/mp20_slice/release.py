"""Make a release file of a run: `python -m experiments.mp20_slice.release RUN FILE.npz`.

RUN is the --workdir of a training on mp_20_slice. Further arguments, such as `steps=250`, set
fields of `config.sampling`.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import miad_jax
from miad_jax.training import Checkpoints

NUM_CRYSTALS = 14_875
"""Of the slice's training split."""


def main(arguments: list[str]) -> None:
    """Write the file and say its size."""
    if len(arguments) < 2 or not all("=" in x for x in arguments[2:]):
        sys.exit(f"error: give RUN, FILE.npz and fields as name=value\n\n{__doc__}")
    run, file, *fields = arguments
    pairs = (field.split("=", 1) for field in fields)
    sampling = {name: _value(text) for name, text in pairs}
    try:
        about = describe(Checkpoints(run).meta()["num_train"])
        miad_jax.save_pretrained(run, file, about, sampling=sampling)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"{file}: {Path(file).stat().st_size / 1e6:.1f} MB")


def describe(num_train: int) -> dict[str, str]:
    """What the file says of itself besides configuration and data hash."""
    return {
        "data": f"MP-20, a slice: {num_train:,} of {NUM_CRYSTALS:,} training crystals; Materials "
        "Project, with split lists of CDVAE and MPTS-52",
        "not for": "judging on the published test sets of MP-20 and MPTS-52: these crystals are "
        "part of the published validation and test sets",
        "licence of the data": "CC BY 4.0 (Materials Project)",
        "attribution": "Jain et al., APL Materials 1, 011002 (2013); Xie et al., "
        "arXiv:2110.06197; Baird et al., JOSS 9, 5618 (2024)",
        "licence of the weights": "Apache-2.0",
        "card": "MODEL_CARD.md",
    }


def _value(text: str) -> object:
    """A number where it is one, else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


if __name__ == "__main__":
    main(sys.argv[1:])
