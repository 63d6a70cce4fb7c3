"""Alex-MP-20: crystals of Alexandria and the Materials Project with at most 20 atoms a cell.

    python -m miad_jax.download alex_mp_20
    python -m miad_jax.train --config=configs/alex_mp20.py --workdir=runs/alex_mp20

The first fetches the splits to data/alex_mp_20. `--config.data.path=DIR` takes others: DIR holds
train.csv and val.csv (gzipped or not) with a column `cif`. The set has no test.csv.
It is packed part by part; experiments/large says what so many crystals take.

Hardware: several GPUs. Hours: not measured.
Expected result: not measured.

Variants, behind a colon:
    diffcsp   The baseline: no infusion.
"""

from ml_collections import ConfigDict

from miad_jax.config import apply_variant, default_config, diffcsp


def get_config(variant: str = "") -> ConfigDict:
    """The published hyperparameters of MP-20; the number of epochs is not known here."""
    config = default_config()
    config.data.path = "data/alex_mp_20"
    config.infusion.num_atoms = 25
    config.sampling.corrector_gamma = 1e-5
    config.sampling.last_step = "denoise"  # ours; the published code holds the coordinates
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "constant"
    config.optimizer.ema_decay = 0.999  # ours: samples come from averaged parameters
    config.batch_size = 256
    config.num_epochs = 400  # ours: about as many steps as published for MP-20
    return apply_variant(config, variant, {"diffcsp": diffcsp})
