"""`miad_jax.generate`: which crystals come back, and what is refused."""

import ase.build
import numpy as np
import pytest

import miad_jax
from miad_jax.sampling import Sampler


@pytest.fixture
def drawn(monkeypatch):
    """Rock salt stands for what a model draws; the first is KCl, the last has no cell."""
    salt = miad_jax.from_atoms(ase.build.bulk("NaCl", "rocksalt", a=5.64))
    calls = []

    def draw(self, keys, num_atoms, condition, bar):
        calls.append(len(keys))
        cells, coords, types = (
            np.repeat(x, len(keys), 0) for x in (salt.lattice, salt.frac_coords, salt.atom_types)
        )
        types[0, 0] = 19
        cells[-1] = np.nan
        mask = np.ones((len(keys), 2), bool)
        return miad_jax.Crystal(cells, coords, types, mask), np.full((len(keys), 1), 2)

    monkeypatch.setattr(Sampler, "draw", draw)
    return calls


def test_what_is_no_crystal_is_left_out(drawn):
    crystals = miad_jax.generate(4, progress=False)
    assert [x.composition.reduced_formula for x in crystals] == ["KCl", "NaCl", "NaCl"]
    assert drawn == [4]


def test_what_misses_a_wish_is_drawn_again_and_then_left_out(drawn):
    crystals = miad_jax.generate(3, contain="Na", attempts=2, progress=False)
    assert [x.composition.reduced_formula for x in crystals] == ["NaCl"]
    assert drawn == [3, 1]


def test_a_number_of_atoms_is_held_in_the_last_attempt_alone(monkeypatch, drawn):
    led = []
    fake = Sampler.draw

    def draw(self, keys, size, condition, *more, **fields):
        led.append(condition.num_is_led.tolist())
        return fake(self, keys, size, condition, *more, **fields)

    monkeypatch.setattr(Sampler, "draw", draw)
    miad_jax.generate(2, num_atoms=3, attempts=2, progress=False)
    assert led == [[True, True], [False, False]]


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"num": 0}, "num is 0"),
        ({"quality": "standart"}, "did you mean 'standard'"),
        ({"num_atoms": 40}, "40 atoms are asked, and the model has 25 slots"),
        ({"elements": "Li,Xx"}, "elements holds 'Xx'"),
    ],
)
def test_what_cannot_be_met_is_refused(wishes, said):
    with pytest.raises(ValueError, match=said):
        miad_jax.generate(**wishes)
