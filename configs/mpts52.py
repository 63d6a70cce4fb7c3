"""MPTS-52: crystals of the Materials Project with at most 52 atoms a cell.

    python -m miad_jax.download mpts_52
    python -m miad_jax.train --config=configs/mpts52.py --workdir=runs/mpts52

The first fetches the splits to data/mpts_52. `--config.data.path=DIR` takes others: DIR holds
train.csv and val.csv (gzipped or not) with a column `cif`. On a GPU add
`--config.network.dtype=bfloat16`.

The recipe of configs/mp20.py with more slots: the paper has no crystals of this size. What a step
takes by N_m is in experiments/large.

Hardware: one GPU. Hours: not measured.
Expected result: not measured.

Variants, behind a colon and separated by commas:
    diffcsp   The baseline: no infusion.
    small     The network of 1.3 M parameters, for two CPU cores.
"""

from ml_collections import ConfigDict

from miad_jax.config import apply_variant, default_config, diffcsp


def get_config(variant: str = "") -> ConfigDict:
    """Our recipe for MP-20 on larger crystals."""
    config = default_config()
    config.data.path = "data/mpts_52"
    config.infusion.num_atoms = 64  # a multiple of 8; ⌊1.25 · 52⌋ is 65
    config.sampling.corrector_gamma = 1e-5
    config.sampling.last_step = "denoise"
    config.network.hidden_dim = 512
    config.network.num_layers = 6
    config.network.num_freqs = 128
    config.loss.types = 0.0
    config.loss.cross_entropy = 1.0
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 1000
    config.optimizer.schedule = "cosine"
    config.optimizer.final_learning_rate = 3e-5
    config.optimizer.clip_norm = 1.0
    config.optimizer.ema_decay = 0.999
    config.batch_size = 128
    config.num_epochs = 900
    return apply_variant(config, variant, {"diffcsp": diffcsp, "small": small})


def small(config: ConfigDict) -> None:
    """A model for two CPU cores."""
    config.network.hidden_dim = 192
    config.network.num_layers = 4
    config.network.num_freqs = 64
    config.optimizer.warmup_steps = 100
    config.optimizer.final_learning_rate = 1e-4
    config.batch_size = 32
    config.num_epochs = 20
    config.validate_every = 500
    config.checkpoint_every = 500
