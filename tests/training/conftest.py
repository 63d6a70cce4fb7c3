import jax
import numpy as np
import pytest

from miad_jax.training import TrainingData


@pytest.fixture(scope="session")
def data(random_crystals) -> TrainingData:
    """24 crystals to train on and 6 to validate on, of 1 to 4 atoms, as NumPy arrays."""
    train, validation = (
        jax.tree.map(np.asarray, random_crystals([1 + i * 7 % 4 for i in range(num)], 4, seed=num))
        for num in (24, 6)
    )
    return TrainingData(train, validation, np.bincount(train.mask.sum(-1)), "abc", 0)
