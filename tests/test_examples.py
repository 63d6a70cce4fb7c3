"""Every public name and every formula has a docstring with an example, and every example runs."""

import ast
import doctest
import importlib
import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import miad_jax
from miad_jax.diffusion.coords import WrappedNormal
from miad_jax.diffusion.lattice import LatticeDDPM
from miad_jax.diffusion.lattice_flow import LatticeFlow
from miad_jax.diffusion.lattice_vp import LatticeVP
from miad_jax.diffusion.lengths_angles import LengthsAngles
from miad_jax.diffusion.limit_cell import LimitCell
from miad_jax.diffusion.log_stretch import LogStretch
from miad_jax.diffusion.masked import MaskedTypes
from miad_jax.diffusion.torus_flow import TorusFlow
from miad_jax.diffusion.types import UniformD3PM
from miad_jax.diffusion.types_flow import TypesFlow

PACKAGE = Path(miad_jax.__file__).parent
DRAWS = {"num_steps", "prior", "draw_noise", "draw_step_noise"}
"""Methods of a process that are no formula."""


def documented_in(path):
    """Dotted names of what has an example, in a file."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    module = ".".join(parts).removesuffix(".__init__")

    def below(node, name):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                if ">>>" in (ast.get_docstring(child) or ""):
                    yield module, f"{name}{child.name}"
                yield from below(child, f"{name}{child.name}.")

    return below(ast.parse(path.read_text()), "")


EXAMPLES = [place for path in sorted(PACKAGE.rglob("*.py")) for place in documented_in(path)]


COMPILE_MUCH = {"Trajectory", "reverse_step", "generate", "score"}
"""Names whose examples take some ten seconds each."""


def _marked(module, name):
    marks = [pytest.mark.slow] if name in COMPILE_MUCH else []
    return pytest.param(module, name, marks=marks, id=f"{module}-{name}")


@pytest.mark.parametrize(("module", "name"), [_marked(*place) for place in EXAMPLES])
def test_example_runs(module, name):
    thing = module = importlib.import_module(module)
    for part in name.split("."):
        thing = getattr(thing, part)
    names = {**vars(module), "miad_jax": miad_jax, "jax": jax, "jnp": jnp, "np": np}
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in finder.find(thing, name, globs=names):
        runner.run(test)
    results = runner.summarize(verbose=False)
    assert results.failed == 0
    assert results.attempted > 0 or "doctest: +SKIP" in inspect.getdoc(thing)


@pytest.mark.parametrize("name", miad_jax.__all__)
def test_a_public_name_has_an_example(name):
    thing = getattr(miad_jax, name)
    assert (thing.__module__, name) in EXAMPLES


PROCESSES = [
    *(LatticeDDPM, LatticeVP, LatticeFlow),
    *(WrappedNormal, TorusFlow),
    *(UniformD3PM, MaskedTypes, TypesFlow),
]
CHARTS = [LogStretch, LengthsAngles, LimitCell]


@pytest.mark.parametrize("process", PROCESSES)
def test_a_formula_has_an_example(process):
    methods = {name for name in vars(process) if not name.startswith("_")} - DRAWS
    methods -= {name for name, value in vars(process).items() if not callable(value)} - {"make"}
    assert {"make", "add_noise", "loss", "clean", "step"} <= set(dir(process))
    for name in methods:
        assert (process.__module__, f"{process.__name__}.{name}") in EXAMPLES
    module = inspect.getmodule(process)
    functions = [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    ]
    for name in functions:
        assert name.startswith("_") or (module.__name__, name) in EXAMPLES


@pytest.mark.parametrize("chart", CHARTS)
def test_a_chart_of_cells_has_examples(chart):
    for name in ("make", "to_z", "of_noised", "from_z"):
        assert (chart.__module__, f"{chart.__name__}.{name}") in EXAMPLES


def test_the_names_of_the_house_are_public():
    promised = "Crystal Prediction Diffusion CSPNet infuse real_atom_mask reduce add_noise loss"
    promised += " reverse_step sample load_pretrained load_dataset to_structures from_structures"
    promised += " to_atoms from_atoms"
    assert set(promised.split()) <= set(miad_jax.__all__)
