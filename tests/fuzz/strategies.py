"""What is fuzzed with: crystals that nobody makes, and bytes that are not as they were written.

`pytest --hypothesis-profile=long tests/fuzz` tries twenty times as many, other ones at each call.
"""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

CELLS = {
    "usual": lambda rng: 4 * np.eye(3) + rng.normal(size=(3, 3)),
    "flat": lambda rng: np.diag([4.0, 4.0, 0.3]) + 0.1 * rng.normal(size=(3, 3)),
    "needle": lambda rng: np.diag([0.5, 0.5, 300.0]) + 0.1 * rng.normal(size=(3, 3)),
    "tiny": lambda rng: 0.05 * (np.eye(3) + 0.2 * rng.normal(size=(3, 3))),
    "huge": lambda rng: 2e4 * (np.eye(3) + 0.2 * rng.normal(size=(3, 3))),
    "skewed": lambda rng: (4 * np.eye(3) + rng.normal(size=(3, 3))).T @ np.triu(
        rng.integers(-9, 10, (3, 3)), 1
    ) + 4 * np.eye(3),
    "left-handed": lambda rng: -4 * np.eye(3) - rng.normal(size=(3, 3)) / 2,
    "nearly no volume": lambda rng: np.diag([4.0, 4.0, 4.0])
    @ (np.ones((3, 3)) + 1e-4 * rng.normal(size=(3, 3))),
}  # fmt: skip
"""Cell vectors in Å, as rows."""

PLACES = {
    "anywhere": lambda rng, n: rng.random((n, 3)),
    "coincident": lambda rng, n: np.repeat(rng.random((1, 3)), n, 0),
    "close": lambda rng, n: rng.random((1, 3)) + 1e-6 * rng.normal(size=(n, 3)),
    "far outside": lambda rng, n: 1e6 * rng.normal(size=(n, 3)),
    "at the edge": lambda rng, n: rng.choice([0, 1, -1e-9, 1 - 1e-9, 0.5], (n, 3)),
}
"""Fractional coordinates."""


@st.composite
def structures(draw, largest):
    """Lattice, fractional coordinates and atomic numbers of up to so many atoms."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num = draw(st.integers(1, largest))
    lattice = CELLS[draw(st.sampled_from([*CELLS]))](rng)
    frac_coords = PLACES[draw(st.sampled_from([*PLACES]))](rng, num)
    first = draw(st.integers(1, 99))
    return lattice, frac_coords, (first + np.arange(num) * draw(st.integers(0, 20)) - 1) % 99 + 1


@st.composite
def damaged(draw, content):
    """Bytes of which one is another, or some are left out, doubled, overwritten or moved."""
    size = len(content)
    a, length = draw(st.integers(0, size - 1)), draw(st.integers(1, 60))
    part = content[a : a + length]
    how = draw(st.sampled_from(["byte", "without", "twice", "lines", "number"]))
    if how == "byte":
        return content[:a] + bytes([draw(st.integers(0, 255))]) + content[a + 1 :]
    if how == "without":
        return content[:a] + content[a + length :]
    if how == "twice":
        return content[:a] + part + content[a:]
    if how == "number":
        number = draw(st.sampled_from([b"nan", b"1e999", b"-1", b"0", b"99999999", b"?", b"."]))
        return content[:a] + number + content[a + len(number) :]
    lines = content.splitlines(keepends=True)
    i, j = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    lines[i], lines[j] = lines[j], lines[i]
    return b"".join(lines)


def fuzzed(num):
    """Settings of a test that tries so many examples, or in proportion in another profile."""
    return settings(max_examples=max(1, num * settings().max_examples // 10))
