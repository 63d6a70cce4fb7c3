"""What is trained: MiAD, its baseline, and MiAD with one choice changed, in two sizes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.mp20.table import lines
from experiments.mp20.variants import Variant
from experiments.mp20.work import train
from miad_jax.storage.files import write_atomically

PILOT_SHARE = 5
"""A pilot has a fifth of the steps."""


@dataclass(frozen=True)
class Size:
    """How large the studies are.

    Attributes:
        config: Variant of `configs/mp20.py`.
        fields: Fields that differ from it.
        slots: N_m of Table 3; the second is MiAD's.
        types: Name of the loss of the types.
        steps: Training steps.
        samples: Samples of each training.
        relaxed: So many of the first samples are relaxed.
        seeds: Trainings of each kind.
    """

    config: str
    slots: tuple[int, int, int, int]
    types: str
    steps: int
    samples: int
    relaxed: int
    seeds: int
    fields: dict[str, Any] = field(default_factory=dict)


TWO_CORES = Size(
    config="small",
    slots=(8, 10, 12, 14),
    types="cross_entropy",
    steps=4000,
    samples=500,
    relaxed=200,
    seeds=3,
    fields={"data.max_num_atoms": 8, "network.dtype": "bfloat16"},
)
"""Crystals of at most 8 atoms, whose N_m have the published ratios."""

PUBLISHED = Size(
    config="published",
    slots=(20, 25, 30, 35),
    types="types",
    steps=848_000,
    samples=10_000,
    relaxed=10_000,
    seeds=1,
    fields={"network.dtype": "bfloat16"},
)
"""As published: 8,000 epochs of the 27,136 crystals of MP-20, 10,000 samples."""


def trainings(size: Size) -> dict[str, Variant]:
    """All trainings by name; the weights of `rescaled` ones are not in them."""
    weight = f"loss.{size.types}"
    changes: dict[str, dict[str, Any]] = {
        "miad": {},
        "uniform-nonmasked": {"infusion.mask_mirage": False},
        "center-masked": {"infusion.placement": "center"},
        "center-nonmasked": {"infusion.placement": "center", "infusion.mask_mirage": False},
        **{f"slots-{n}": {"infusion.num_atoms": n} for n in _other_slots(size)},
        "types-half": {weight: 0.5},
        "types-double": {weight: 2.0},
    }
    usual = {"infusion.num_atoms": size.slots[1], **size.fields}
    path = f"configs/mp20.py:{size.config}"
    found = {name: Variant(path, usual | x, recipe={}) for name, x in changes.items()}
    # The baseline's own sampler: with that of MiAD it loses symmetry (experiments/few_steps).
    own = {"sampling.churn": 2.0, "sampling.coords_ahead": 1.5} if size is TWO_CORES else {}
    found["diffcsp"] = Variant(f"{path},diffcsp", usual | own, recipe={})
    return found


def rescaled(size: Size) -> list[str]:
    """Trainings of Table 3 whose loss of the types has a weight of their own."""
    return [f"slots-{n}" for n in _other_slots(size)]


def _other_slots(size: Size) -> list[int]:
    return [n for n in size.slots if n != size.slots[1]]


def types_weight(name: str, size: Size, data: str, out: Path, steps: int) -> float:
    """w_A with which the types keep the share of the loss that they have in MiAD (Table 3).

    The losses at the end are those of two short trainings with w_A = 1, of this N_m and of MiAD's.
    """
    file = out / "pilots" / name / "weight.json"
    if not file.exists():
        ratio = {}
        for pilot in ("miad", name):
            folder = out / "pilots" / pilot
            short = max(steps // PILOT_SHARE, 1)
            train(trainings(size)[pilot], data, folder, num_steps=short, checkpoint_every=short)
            losses = final_losses(folder, size)
            assert losses is not None
            ratio[pilot] = (losses["lattice"] + losses["coords"]) / losses["types"]
        write_atomically(file, json.dumps({"weight": ratio[name] / ratio["miad"]}) + "\n")
    return float(json.loads(file.read_text())["weight"])


def final_losses(run: Path, size: Size) -> dict[str, float] | None:
    """Losses of the validation crystals where a training ended, or None before.

    "loss" is their weighted sum.
    """
    found = [x for x in lines(run / "metrics.jsonl") if "validation_loss" in x]
    if not found:
        return None
    names = {"lattice": "lattice", "coords": "coords", "types": size.types, "loss": "loss"}
    return {name: found[-1][f"validation_{loss}"] for name, loss in names.items()}
