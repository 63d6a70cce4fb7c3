"""What is trained on Perov-5 and Carbon-24, in two sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from experiments.mp20.variants import Variant

SETS = {"perov5": "Perov-5", "carbon24": "Carbon-24"}
"""Configuration files, and what their data sets are called."""

SMALL: dict[str, Any] = {
    "network.hidden_dim": 192,
    "network.num_layers": 4,
    "network.num_freqs": 64,
    "loss.types": 0.0,
    "loss.cross_entropy": 1.0,
    "optimizer.warmup_steps": 100,
    "optimizer.schedule": "cosine",
    "optimizer.clip_norm": 1.0,
    "network.dtype": "bfloat16",
}
"""The recipe of `configs/mp20.py:small`: a network of 1.3 M parameters for two CPU cores."""


@dataclass(frozen=True)
class Size:
    """How large the trainings are.

    Attributes:
        fields: Fields that differ from the configuration files.
        lengths: Fields of the length and the batch of each data set's training.
        samples: Samples of each training.
    """

    fields: dict[str, Any]
    lengths: dict[str, dict[str, Any]]
    samples: int


TWO_CORES = Size(
    fields=SMALL,
    lengths={
        "perov5": {"num_steps": 8000, "batch_size": 128},
        "carbon24": {"num_steps": 6000, "batch_size": 32},
    },
    samples=500,
)

PUBLISHED = Size(
    fields={"network.dtype": "bfloat16"},
    lengths={"perov5": {}, "carbon24": {}},
    samples=10_000,
)
"""Epochs and batch as published: 3,000 of 1,024 and 4,000 of 256."""


def variant(name: str, size: Size, *, infused: bool) -> Variant:
    """A training on a data set, with infusion or as its baseline."""
    path = f"configs/{name}.py" + ("" if infused else ":diffcsp")
    # The baseline's own sampler: with that of MiAD it loses symmetry (experiments/few_steps).
    own = {"sampling.churn": 2.0, "sampling.coords_ahead": 1.5} if size is TWO_CORES else {}
    return Variant(path, size.fields | size.lengths[name] | ({} if infused else own), recipe={})
