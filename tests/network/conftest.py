import jax
import pytest


@pytest.fixture(autouse=True)
def strict_dtypes():
    """Mixing precisions by accident is an error."""
    with jax.numpy_dtype_promotion("strict"):
        yield
