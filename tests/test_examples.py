"""Every public name has a docstring with an example, and the example runs."""

import doctest
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import miad_jax
from miad_jax.diffusion import coords, lattice, types

FORMULAS = {
    lattice: ["add_noise", "reverse_step", "loss"],
    coords: ["negative_score", "add_noise", "target", "corrector_step", "predictor_step", "loss"],
    types: [
        *("transition", "add_noise", "posterior", "reverse_step"),
        *("loss", "log_probs_0", "cross_entropy"),
    ],
}
PUBLIC = [getattr(miad_jax, name) for name in miad_jax.__all__] + [
    getattr(module, name) for module, names in FORMULAS.items() for name in names
]


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda x: f"{x.__module__}.{x.__name__}")
def test_example_runs(thing):
    assert ">>>" in (inspect.getdoc(thing) or "")
    module = inspect.getmodule(thing)
    names = {**vars(module), "miad_jax": miad_jax, "jax": jax, "jnp": jnp, "np": np}
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in finder.find(thing, thing.__name__, globs=names):
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_the_names_of_the_house_are_public():
    promised = "Crystal Prediction Diffusion CSPNet infuse real_atom_mask reduce add_noise loss"
    promised += " reverse_step sample load_pretrained load_dataset to_structures from_structures"
    promised += " to_atoms from_atoms"
    assert set(promised.split()) <= set(miad_jax.__all__)
