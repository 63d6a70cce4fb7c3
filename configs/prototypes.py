"""The embedded data set: AFLOW prototypes with similar elements put in; no download.

    python -m miad_jax.train --config=configs/prototypes.py --workdir=runs/prototypes

Hardware: any; on two CPU cores choose `:quick`. Hours on a GPU: not measured.
Expected result: crystals of familiar structure types; not for research.

Variants, behind a colon and separated by commas:
    diffcsp   The baseline: no infusion.
    quick     Crystals of at most 8 atoms and a small network: about three minutes on two CPU
              cores.

All hyperparameters are ours; the network and the constant rate of Adam are MiAD's of MP-20.
"""

from miad_jax.config import get_config

__all__ = ["get_config"]
