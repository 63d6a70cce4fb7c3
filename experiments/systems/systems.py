"""What is compared: four processes with their solvers, each with and without infusion."""

from __future__ import annotations

from pathlib import Path

from experiments.claims.claim import Claim, no_worse
from experiments.mp20.variants import RECIPE, Variant

NAMES = {"miad": "", "mattergen": ",mattergen", "flowmm": ",flowmm", "crystalflow": ",crystalflow"}
"""Systems, and their variants of `configs/mp20.py:small`; MiAD's own process is the default."""

SYSTEMS = {
    name + suffix: Variant(
        f"configs/mp20.py:small{variant}{baseline}",
        {"optimizer.learning_rate": 1e-3, "network.dtype": "bfloat16"},
        recipe=RECIPE,
    )
    for name, variant in NAMES.items()
    for suffix, baseline in (("", ""), ("-without", ",diffcsp"))
}
"""By name; `-without` is without infusion."""

TITLES = {"mattergen": "MatterGen", "flowmm": "FlowMM", "crystalflow": "CrystalFlow"}
"""Systems that the paper says infusion carries over to."""


def claims(out: Path) -> list[Claim]:
    """Whether samples of each system with infusion are valid no less often than without."""
    numbers = ("valid structure", "valid composition", "plausible structure")
    return [
        no_worse(
            "§7",
            f"Infusion carries over to the process of {title}: crystals are valid no less often",
            out / name / "report",
            out / f"{name}-without" / "report",
            numbers,
            f"python -m experiments.systems --data=DIR --only={name},{name}-without",
        )
        for name, title in TITLES.items()
    ]
