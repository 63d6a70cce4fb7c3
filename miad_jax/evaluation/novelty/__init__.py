"""Which crystals are the same: duplicates among samples, and samples that are known already."""

from miad_jax.evaluation.novelty.decision import novelty_columns
from miad_jax.evaluation.novelty.matching import Matches, match

__all__ = ["Matches", "match", "novelty_columns"]
