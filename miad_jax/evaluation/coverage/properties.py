"""How near the properties of samples are to those of a reference set.

The definitions are those of the CDVAE metrics (Xie et al., arXiv:2110.06197).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

from miad_jax.evaluation.statistics import Quantity, bootstrap


def property_distances(
    sample_density: Float[np.ndarray, " samples"],
    sample_num_elements: Shaped[np.ndarray, " samples"],
    reference_density: Float[np.ndarray, " references"],
    reference_num_elements: Shaped[np.ndarray, " references"],
    *,
    max_num: int,
    seed: int = 0,
) -> tuple[Quantity, Quantity]:
    """Wasserstein distances of the density and of the number of elements to a reference set.

    The distance is that of the empirical distributions (arXiv:2110.06197). Its bootstrap
    interval is one of a distance that cannot be negative: both sets are redrawn, which adds
    their noise to it, so that near zero the interval lies above the distance itself.

    Args:
        sample_density: Densities in g/cm³ of the samples that are valid in both senses.
        sample_num_elements: Numbers of different elements of the same samples.
        reference_density: Densities in g/cm³ of the reference crystals.
        reference_num_elements: Their numbers of different elements.
        max_num: Most samples that count; if there are more, so many are drawn. The metric
            takes the size of the test set.
        seed: Fixes the draw.

    Returns:
        The two distances; without a value if a set is empty.

    Raises:
        ValueError: If lengths differ, a value is not finite, or `max_num` is not positive.
    """
    if max_num < 1:
        raise ValueError(f"max_num is {max_num}; allowed: 1, 2, …")
    sample = _columns("sample", sample_density, sample_num_elements)
    reference = _columns("reference", reference_density, reference_num_elements)
    total = sample.shape[1]
    if total > max_num:
        chosen = np.random.default_rng(seed).choice(total, max_num, replace=False)
        sample = sample[:, chosen]
    drawn = f"{sample.shape[1]} of {total} valid samples to {reference.shape[1]} reference crystals"
    density, elements = (
        _wasserstein(name, unit, x, y, f"Wasserstein distance of the {words}, {drawn}")
        for name, unit, words, x, y in zip(
            ("density distance", "number of elements distance"),
            ("g/cm³", ""),
            ("densities", "numbers of different elements"),
            sample,
            reference,
            strict=True,
        )
    )
    return density, elements


def _columns(name: str, density: np.ndarray, num_elements: np.ndarray) -> np.ndarray:
    """Both properties as rows [2, n] of finite numbers."""
    density, num_elements = np.asarray(density, float), np.asarray(num_elements, float)
    if density.ndim != 1 or density.shape != num_elements.shape:
        raise ValueError(
            f"{name}_density has the shape {density.shape} and {name}_num_elements "
            f"{num_elements.shape}; both must be [n], of the same crystals"
        )
    columns = np.stack([density, num_elements])
    if not np.isfinite(columns).all():
        raise ValueError(f"a {name} property is not finite: pass valid crystals only")
    return columns


def _wasserstein(
    name: str, unit: str, sample: np.ndarray, reference: np.ndarray, definition: str
) -> Quantity:
    """The distance with its bootstrap interval."""
    from scipy.stats import wasserstein_distance

    if not sample.size or not reference.size:
        return Quantity(name, None, None, unit, definition)
    value = float(wasserstein_distance(sample, reference))
    interval = bootstrap(wasserstein_distance, sample, reference)
    return Quantity(name, value, interval, unit, definition)
