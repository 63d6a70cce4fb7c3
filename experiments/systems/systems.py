"""What is compared: four processes with their solvers, each with and without infusion."""

from __future__ import annotations

from experiments.mp20.variants import Variant

NAMES = {"miad": "", "mattergen": ",mattergen", "flowmm": ",flowmm", "crystalflow": ",crystalflow"}
"""Systems, and their variants of `configs/mp20.py:small`; MiAD's own process is the default."""

SYSTEMS = {
    name + suffix: Variant(
        f"configs/mp20.py:small{variant}{baseline}", {"optimizer.learning_rate": 1e-3}
    )
    for name, variant in NAMES.items()
    for suffix, baseline in (("", ""), ("-without", ",diffcsp"))
}
"""By name; `-without` is without infusion."""
