"""Perov-5: perovskites ABX3, five atoms a cell.

    python -m miad_jax.download perov_5
    python -m miad_jax.train --config=configs/perov5.py --workdir=runs/perov5

The first fetches the splits to data/perov_5. `--config.data.path=DIR` takes others: DIR holds
train.csv and val.csv (gzipped or not) with a column `cif`.

Hardware: one GPU. Hours: not measured.
Expected result: not measured.

Variants, behind a colon:
    diffcsp   The baseline: no infusion.
"""

from ml_collections import ConfigDict

from miad_jax.config import apply_variant, default_config, diffcsp


def get_config(variant: str = "") -> ConfigDict:
    """DiffCSP's published batch, epochs and plateau; what is not published is marked as ours."""
    config = default_config()
    config.data.path = "data/perov_5"
    config.infusion.num_atoms = 6  # ⌊1.25 · 5⌋: our reading of the paper
    config.sampling.corrector_gamma = 5e-7
    config.sampling.last_step = "denoise"  # ours; the published code holds the coordinates
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "plateau"
    config.optimizer.plateau_factor = 0.6
    config.optimizer.plateau_patience = 30
    config.optimizer.final_learning_rate = 1e-4
    config.optimizer.ema_decay = 0.999  # ours: samples come from averaged parameters
    config.batch_size = 1024
    config.num_epochs = 3000
    return apply_variant(config, variant, {"diffcsp": diffcsp})
