import pytest


@pytest.fixture(scope="session")
def crystals(random_crystals):
    """Four crystals with two mirage atoms each, and padding."""
    return random_crystals([5, 3, 4, 4], 5, num_mirage=2)
