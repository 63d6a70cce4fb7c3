"""MP-20: inorganic crystals of the Materials Project with at most 20 atoms a cell.

    python -m miad_jax.download mp_20
    python -m miad_jax.train --config=configs/mp20.py --workdir=runs/mp20

The first fetches the splits to data/mp_20. `--config.data.path=DIR` takes others: DIR holds
train.csv and val.csv (gzipped or not) with a column `cif`. On a GPU add
`--config.network.dtype=bfloat16`; in pieces, `--config.max_minutes=10` and the same command again.

The published network on our recipe: the cross-entropy of the clean types in place of the published
loss of the types, Adam with warm-up, cosine decay and clipping, and averaged parameters. Why:
experiments/mp20_slice/README.md.

Hardware: one GPU; 900 epochs are some 95,000 steps on the 27,136 crystals of the published split.
Hours: not measured; as published, 4 days on two A100 (arXiv:2511.14426).
Expected result: not measured; as published 8.2 % S.U.N. by DFT, 12.2 % by CHGNet.

Variants, behind a colon and separated by commas, of which the later ones win. The systems
`mattergen`, `flowmm` and `crystalflow` stand beside a size and `diffcsp`, as in
`:small,flowmm,diffcsp`. They are processes and solvers, and not the networks of their papers. They
have not been trained at length; experiments/systems compares them.

    published MiAD as published: its own loss, Adam at a constant rate, no average, 8000 epochs;
              with `diffcsp` 1000 epochs.
    diffcsp   The baseline: no infusion (arXiv:2309.04475).
    small     Ours: crystals of at most 10 atoms and a network of 1.3 M parameters, for two CPU
              cores and about 45 minutes.
    small12   Ours: `small` continued with `--init_from=runs/small`, on at most 12 atoms, in 75
              minutes more. Weights of it: miad_jax/weights/MODEL_CARD.md.
    small20   Ours: `small12` continued with `--init_from=runs/small12` on all sizes, N_m 25, in
              about an hour more. What it gave with another loss of the types:
              experiments/mp20_slice/README.md.
    transformer  Ours: pair-biased attention of 9.1 M parameters, all sizes, on a mixture in
              which parts or properties are known, with the axes of crystals in any order. An H200
              makes 130 steps of 512 a second in bfloat16. `--init_from=mp20-transformer` starts
              from the weights of the package: miad_jax/weights/MODEL_CARD.md.
    mattergen The process of MatterGen (arXiv:2312.03687): a symmetric lattice whose noise ends in
              a cube, wrapped normal coordinates of a larger σ, types that are masked; 1000 steps
              with a corrector. What depends on the number of atoms there depends on N_m here.
    flowmm    The flow of FlowMM (arXiv:2406.04713): lengths and angles, coordinates on a torus;
              1000 steps. Its bits are a discrete flow of types here; see `TypesFlow`.
    crystalflow  The flow of CrystalFlow (arXiv:2412.11693): six numbers of the cell, coordinates on
              a torus; 100 steps. Its row and column are a discrete flow of types here.
    large     Ours: `transformer` with 61.5 M parameters in bfloat16, for a GPU: 6.3 GFLOP a crystal
              and training step, 1.6 TFLOP a step of 256. Not trained yet.
"""

from ml_collections import ConfigDict

from miad_jax.config import apply_variant, default_config, diffcsp
from miad_jax.sampling.quality import settings_of

PUBLISHED_EPOCHS_OF_THE_BASELINE = 1000

SIGMA_MAX_OF_MATTERGEN = 5.0
"""Of one atom; it falls with the cube root of their number, as the cell grows."""


def get_config(variant: str = "") -> ConfigDict:
    """Our recipe for the published network, or a variant of it."""
    config = default_config()
    config.data.path = "data/mp_20"
    config.infusion.num_atoms = 25
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
    config.batch_size = 256
    config.num_epochs = 900
    variants = {
        "published": published,
        "diffcsp": diffcsp,
        "small": small,
        "small12": small12,
        "small20": small20,
        "transformer": transformer,
        "mattergen": mattergen,
        "flowmm": flowmm,
        "crystalflow": crystalflow,
        "large": large,
    }
    apply_variant(config, variant, variants)
    if {"published", "diffcsp"} <= set(variant.split(",")):
        config.num_epochs = PUBLISHED_EPOCHS_OF_THE_BASELINE
    if config.network.name == "transformer" and config.infusion.enabled:
        _take_sampler_of_the_transformer(config)
    if config.diffusion.lattice == "limit":
        config.diffusion.limit_num_atoms = config.infusion.num_atoms
        config.diffusion.sigma_max = SIGMA_MAX_OF_MATTERGEN / config.infusion.num_atoms ** (1 / 3)
    return config


def _take_sampler_of_the_transformer(config: ConfigDict) -> None:
    """What was chosen for `mp20-transformer` (experiments/mp20), where its process is MiAD's."""
    if config.diffusion.coords == "wrapped_normal" and config.sampling.solver == "ancestral":
        config.sampling.churn = 3.0
        config.sampling.coords_ahead = 4.0
        config.sampling.coords_score = "marginal"


def published(config: ConfigDict) -> None:
    """The published hyperparameters."""
    config.sampling.update(settings_of("published", config.diffusion.num_steps))
    config.sampling.last_step = "hold"
    config.loss.types = 1.0
    config.loss.cross_entropy = 0.0
    config.optimizer.warmup_steps = 0
    config.optimizer.schedule = "constant"
    config.optimizer.clip_norm = None
    config.optimizer.ema_decay = 0.0
    config.num_epochs = 8000


def small(config: ConfigDict) -> None:
    """A model for two CPU cores."""
    config.data.max_num_atoms = 10
    config.infusion.num_atoms = 12
    config.network.hidden_dim = 192
    config.network.num_layers = 4
    config.network.num_freqs = 64
    config.optimizer.warmup_steps = 100
    config.optimizer.final_learning_rate = 1e-4
    config.batch_size = 128
    config.num_epochs = 140
    config.validate_every = 500
    config.checkpoint_every = 500


def small12(config: ConfigDict) -> None:
    """The second part of the small model's training, on larger crystals."""
    small(config)
    config.data.max_num_atoms = 12
    config.infusion.num_atoms = 15
    config.optimizer.warmup_steps = 200
    config.optimizer.final_learning_rate = 3e-5
    config.num_epochs = 112


def small20(config: ConfigDict) -> None:
    """The third part, on all crystals."""
    small12(config)
    config.data.max_num_atoms = 20
    config.infusion.num_atoms = 25
    config.num_epochs = 30


def transformer(config: ConfigDict) -> None:
    """A network for little compute, which generates, predicts structures and completes."""
    config.network.name = "transformer"
    config.network.hidden_dim = 256
    config.network.num_layers = 7
    config.network.num_freqs = 16
    config.network.num_heads = 8
    config.network.pair_dim = 48
    config.data.properties = (
        *("e_above_hull", "formation_energy_per_atom"),
        *("spacegroup_number", "num_elements", "density"),
    )
    config.data.property_dropout = 0.8
    config.data.any_axes = True
    config.tasks.generate = 0.65
    config.tasks.structure = 0.2
    config.tasks.complete = 0.1
    config.tasks.cell = 0.05
    config.optimizer.learning_rate = 6e-4
    config.optimizer.warmup_steps = 500
    config.optimizer.final_learning_rate = 1e-5
    config.optimizer.ema_decay = 0.9995
    config.num_epochs = 1500


def large(config: ConfigDict) -> None:
    """The same for a GPU."""
    transformer(config)
    config.network.hidden_dim = 512
    config.network.num_layers = 12
    config.network.num_heads = 16
    config.network.pair_dim = 64
    config.network.dtype = "bfloat16"
    config.optimizer.learning_rate = 3e-4
    config.optimizer.warmup_steps = 2000


def mattergen(config: ConfigDict) -> None:
    """MatterGen's process, with a corrector as the published sampler of MiAD has it.

    Its σ_max and its limit follow from N_m when all variants are there, with and without infusion.
    """
    config.diffusion.lattice = "limit"
    config.diffusion.coords = "wrapped_normal"
    config.diffusion.types = "masked"
    last = config.diffusion.num_steps - 1
    config.sampling.update(settings_of("best", config.diffusion.num_steps) | {"first_time": last})
    config.sampling.last_step = "denoise"


def flowmm(config: ConfigDict) -> None:
    """FlowMM's flow."""
    _flow(config, steps=1000, coords_ahead=5.0)
    config.diffusion.lattice = "lengths_angles"


def crystalflow(config: ConfigDict) -> None:
    """CrystalFlow's flow."""
    _flow(config, steps=100, coords_ahead=10.0)
    config.diffusion.lattice = "flow"


def _flow(config: ConfigDict, *, steps: int, coords_ahead: float) -> None:
    """Euler's steps from the base on, which go down alone; the coordinates run ahead."""
    config.diffusion.coords = "flow"
    config.diffusion.types = "flow"
    config.diffusion.sigma_max = 0.5
    config.sampling.solver = "ancestral"
    config.sampling.steps = steps
    config.sampling.first_time = config.diffusion.num_steps - 1
    config.sampling.visit = ()
    config.sampling.churn = 0.0
    config.sampling.coords_ahead = coords_ahead
    config.sampling.cell_bounds_angstrom = (2.0, 50.0)
