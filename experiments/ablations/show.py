"""All tables of a folder of trainings, and what they say of the paper's claims."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from experiments.ablations import cost, crystals, curve
from experiments.ablations.studies import claim_of, reports, studies, table_of
from experiments.ablations.trainings import Size
from experiments.claims.claim import write_claims
from miad_jax.model import load_model
from miad_jax.storage.files import write_atomically

COMMAND = "python -m experiments.ablations --data=DIR --only={}"
WITH_ENERGIES = f"{COMMAND} --hull=HULL --elements=ELEMENTS"


def write(out: Path, size: Size, seeds: range) -> str:
    """Write `tables.md` and `claims.json`, and return the first."""
    out.mkdir(parents=True, exist_ok=True)
    judged = {name: crystals.rows_of(reports(out, name, seeds)) for name in crystals.BOTH}
    counts = crystals.counts_of([out / crystals.BOTH[0] / str(seed) for seed in seeds])
    parts = {
        f"{study.source}: {word}": table_of(study, out, seeds, size)
        for word, study in studies(size).items()
    }
    parts |= {
        "Figure 3: curve": curve.table(out, seeds),
        "Appendix F: real atoms during generation": crystals.on_the_way(counts),
        "Figure 4: numbers of atoms": crystals.sizes(judged, training_sizes(out)),
        "Figure 5: space groups": crystals.space_groups(judged),
        "Appendix C: cost": cost.table(out),
    }
    claims = [
        claim_of(study, out, seeds, WITH_ENERGIES.format(word))
        for word, study in studies(size).items()
    ]
    claims += [
        curve.claim_of(out, seeds, WITH_ENERGIES.format("curve")),
        crystals.changing(counts, COMMAND.format("crystals")),
        crystals.sizes_claim(judged, WITH_ENERGIES.format("crystals")),
        crystals.space_groups_claim(judged, WITH_ENERGIES.format("crystals")),
        cost.claim(out, COMMAND.format("cost")),
    ]
    write_claims(out / "claims.json", claims)
    text = "\n\n".join(f"## {title}\n\n{table}" for title, table in parts.items()) + "\n"
    write_atomically(out / "tables.md", text)
    return text


def training_sizes(out: Path) -> np.ndarray | None:
    """Numbers of atoms of the crystals that MiAD was trained on; None where it is not trained.

    They are kept in OUT, so that the table can be made where the training is not.
    """
    file, run = out / "training_sizes.json", out / crystals.BOTH[0] / "0" / "run"
    if not file.exists():
        if not (run / "checkpoints").exists():
            return None
        write_atomically(file, json.dumps(load_model(run).histogram.tolist()) + "\n")
    histogram = json.loads(file.read_text())
    return np.repeat(np.arange(len(histogram)), histogram)
