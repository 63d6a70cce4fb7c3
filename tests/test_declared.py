"""What the package imports is what it declares, and its files are what a wheel takes along."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
# Distributions whose module has another name.
NAMES = {"PIL": "pillow", "absl": "absl-py", "orbax": "orbax-checkpoint"}
# Declared for their versions alone: chgnet runs on torch, optax on chex, nequix on e3nn-jax,
# distributed on dask.
UNSEEN = {"torch", "chex", "dask", "e3nn-jax"}
# Installed with --no-deps, because it declares JAX with CUDA.
APART = {"nequix"}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements):
    return {normal(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}


def modules(node):
    """The modules that a node of the syntax tree imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) else []


def imported(folder):
    """Distributions that the modules of a folder import, each with a file that does."""
    found = {}
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            for module in modules(node):
                top = module.split(".")[0]
                beside = path.with_name(f"{top}.py").exists()  # as workers import it
                if top not in sys.stdlib_module_names and top != "miad_jax" and not beside:
                    found.setdefault(normal(NAMES.get(top, top)), path.relative_to(ROOT))
    return found


REQUIRED = declared(PROJECT["dependencies"])
EXTRAS = {name: declared(x) for name, x in PROJECT["optional-dependencies"].items()}
# Extras of what works on the package from outside.
TOOLS = ("test", "docs")
OF_TOOLS = EXTRAS["test"] | EXTRAS["docs"]
IMPORTED = imported("miad_jax")


@pytest.mark.parametrize("name", sorted(IMPORTED.keys() - APART))
def test_what_is_imported_is_declared(name):
    users = REQUIRED.union(*(names for extra, names in EXTRAS.items() if extra not in TOOLS))
    assert name in users, f"{IMPORTED[name]} imports {name}"


@pytest.mark.parametrize("name", sorted(REQUIRED.union(*EXTRAS.values()) - OF_TOOLS - UNSEEN))
def test_what_is_declared_is_imported(name):
    assert name in IMPORTED


def test_every_requirement_has_a_highest_version():
    for requirements in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        assert all(re.search(r"<[\d.]+$", requirement) for requirement in requirements)


def test_the_lowest_versions_are_those_that_are_tested():
    lines = (ROOT / ".ci" / "lowest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    for requirement in PROJECT["dependencies"]:
        name, lowest = re.match(r"([\w.-]+)>=([\w.]+),<", requirement).groups()
        assert re.fullmatch(rf"{re.escape(lowest)}(\.0)*", pinned.pop(name)), requirement
    assert not pinned, "lowest versions of what is not declared"


def test_every_file_of_the_package_goes_into_a_wheel():
    package_data = PYPROJECT["tool"]["setuptools"]["package-data"]
    taken = {
        path
        for package, patterns in package_data.items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    files = {x for x in (ROOT / "miad_jax").rglob("*") if x.is_file() and x.suffix != ".pyc"}
    assert {x for x in files if x.suffix != ".py"} == taken
    assert all((x.parent / "__init__.py").exists() for x in files if x.suffix == ".py")
