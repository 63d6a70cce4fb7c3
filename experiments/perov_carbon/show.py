"""Both data sets as tables: how flat the loss is, and what the samples are like."""

from __future__ import annotations

from pathlib import Path

from experiments.claims.claim import Claim, markdown, no_worse, write_claims
from experiments.claims.numbers import number_of
from experiments.mp20.table import lines
from experiments.perov_carbon.sets import SETS
from miad_jax.storage.files import write_atomically

METHODS = ("miad", "diffcsp")
TRAINING = "training crystals"
"""Judged as if they were samples: what coverage can be with so many."""

POINTS = 8
"""A training is validated so often, at equal distances."""

BETTER_IF_LARGE = ("valid structure", "valid composition", "COV-R", "COV-P")
NUMBERS = (*BETTER_IF_LARGE, "density distance", "number of elements distance", "atoms per cell")
COMMAND = "python -m experiments.perov_carbon"


def write(out: Path) -> str:
    """Write `tables.md` and `claims.json`, and return the first."""
    out.mkdir(parents=True, exist_ok=True)
    parts = [f"## {title}\n\n{table(out / name)}\n\n{losses(out / name)}" for name, title in
             SETS.items()]  # fmt: skip
    write_claims(out / "claims.json", [claim_of(out, name) for name in SETS])
    text = "\n\n".join(parts) + "\n"
    write_atomically(out / "tables.md", text)
    return text


def table(folder: Path) -> str:
    """Every number of both methods, and of training crystals."""
    columns = (*METHODS, TRAINING)
    rows: list[list[object]] = [["", *columns]]
    for name in NUMBERS:
        rows.append([name, *(number_of([folder / x / "report"], name) for x in columns)])
    return markdown(rows)


def losses(folder: Path) -> str:
    """Losses of the validation crystals on the way, which tell whether training came to rest."""
    head = ["", "step", "epochs", "lattice", "coordinates", "cross-entropy"]
    rows: list[list[object]] = [[*head]]
    for method in METHODS:
        logged = lines(folder / method / "run" / "metrics.jsonl")
        epochs = next((x["epoch"] / x["step"] for x in logged if "epoch" in x), 0.0)
        for line in (x for x in logged if "validation_loss" in x):
            found = [line[f"validation_{x}"] for x in ("lattice", "coords", "cross_entropy")]
            epoch = f"{line['step'] * epochs:.1f}"
            rows.append([method, line["step"], epoch, *(f"{x:.4f}" for x in found)])
    return markdown(rows)


def claim_of(out: Path, name: str) -> Claim:
    """Whether infusion costs any of validity and coverage."""
    claim = f"{SETS[name]}: with infusion validity and coverage are no worse than without"
    one, other = (out / name / method / "report" for method in METHODS)
    return no_worse("Table 6", claim, one, other, BETTER_IF_LARGE, f"{COMMAND} --{name}=DIR")
