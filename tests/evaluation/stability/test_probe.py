"""A user's potential is told apart from another by energies of its own."""

import json

import pytest
from pymatgen.core import Lattice, Structure

from miad_jax.evaluation.stability.potential import PROBE, describe_potential
from miad_jax.evaluation.stability.relax import relax
from miad_jax.parallel.executor import Serial

WRAPPER = """
import pathlib
from ase.calculators.lj import LennardJones

energies_are_corrected = True

def factory():
    text = pathlib.Path(__file__).with_name("parameters.txt").read_text()
    return LennardJones(sigma=2.0, epsilon=float(text), rc=6.0)
"""
SALT = Structure(Lattice.cubic(4.1), ["Cs", "Cl"], [[0] * 3, [0.5] * 3])


@pytest.fixture
def wrapper(tmp_path, monkeypatch):
    """A module whose potential depends on a file that it does not name."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "probed_wrapper.py").write_text(WRAPPER)
    monkeypatch.syspath_prepend(tmp_path / "modules")

    def write(epsilon):
        (tmp_path / "modules" / "parameters.txt").write_text(str(epsilon))
        # A new process would load it anew.
        from miad_jax.evaluation.stability import potential

        potential._potential.cache_clear()

    return write


def energy(folder):
    (found,) = relax(
        [SALT], folder, calculator="probed_wrapper:factory", max_steps=0, executor=Serial()
    )
    return found.energy_ev_per_atom


def test_results_of_other_weights_do_not_mix(wrapper, tmp_path):
    wrapper(0.5)
    one = energy(tmp_path / "out")
    assert energy(tmp_path / "out") == one
    wrapper(1.5)
    with pytest.raises(ValueError, match=rf"relaxations of another run: {PROBE} is .* there and"):
        energy(tmp_path / "out")
    assert energy(tmp_path / "new") == pytest.approx(3 * one)


def test_a_folder_of_an_older_version_goes_on(wrapper, tmp_path):
    wrapper(0.5)
    one = energy(tmp_path / "out")
    file = tmp_path / "out" / "settings.json"
    settings = json.loads(file.read_text())
    assert len(settings.pop(PROBE)) == 3
    del settings["sha256"]  # which it did not write
    file.write_text(json.dumps(settings))
    assert energy(tmp_path / "out") == one
    assert PROBE not in json.loads(file.read_text())


FEW_ELEMENTS = """
from ase.calculators.lj import LennardJones
energies_are_corrected = False
class Few(LennardJones):
    def calculate(self, atoms, *arguments):
        if set(atoms.symbols) - {KNOWN}:
            raise KeyError("unknown element")
        super().calculate(atoms, *arguments)
def factory():
    return Few(sigma=2.0, rc=6.0)
"""


@pytest.mark.parametrize(("element", "place"), [("Cu", 2), ("C", 3), ("Fe", 7)])
def test_a_potential_that_knows_one_element_has_one_energy(tmp_path, monkeypatch, element, place):
    module = f"few_elements_{element}"
    text = FEW_ELEMENTS.replace("KNOWN", repr(element))
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    request = {
        **{"calculator": f"{module}:factory", "weights_file": "", "path": []},
        **{"log": str(tmp_path / "log"), "parent": -1},
    }
    found = describe_potential(request)[PROBE]
    assert found[:place] == [None] * place
    assert len(found) == place + 1
    assert isinstance(found[place], float)


ODD = """
from ase.calculators.lj import LennardJones
energies_are_corrected = True
class Failing(LennardJones):
    def calculate(self, *arguments):
        raise RuntimeError("bad\\nthing\\x1b[31m")
failing = Failing
a_class = lambda: LennardJones
"""


@pytest.fixture
def odd(tmp_path, monkeypatch):
    (tmp_path / "odd_potentials.py").write_text(ODD)
    monkeypatch.syspath_prepend(tmp_path)

    def relaxed(factory):
        name = f"odd_potentials:{factory}"
        (found,) = relax([SALT], calculator=name, max_steps=0, executor=Serial())
        return found

    return relaxed


def test_odd_potentials_are_named(odd):
    assert odd("failing").reason == "the potential failed: RuntimeError: bad thing[31m"
    with pytest.raises(ValueError, match="must return an ASE calculator"):
        odd("a_class")
