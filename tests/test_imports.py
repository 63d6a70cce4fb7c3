"""Imports run one way: each room may use only the rooms below it."""

import ast
import graphlib
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import miad_jax

PACKAGE = Path(__file__).parent.parent / "miad_jax"

# A room may import itself, the rooms named here, and nothing else of the package.
BELOW = {
    "spelling": set(),
    "version": set(),
    "hosts": set(),
    "storage": set(),
    "parallel": set(),
    "crystal": set(),
    "padding": {"crystal"},
    "mirage": {"crystal", "padding"},
    "condition": {"crystal"},
    "diffusion": {"crystal", "condition", "padding"},
    "network": {"crystal", "condition", "padding", "spelling"},
    "sampling": {
        *(
            "crystal",
            "condition",
            "diffusion",
            "mirage",
            "network",
            "padding",
            "parallel",
            "spelling",
        ),
    },
    "config": {"diffusion", "mirage", "network", "sampling", "spelling"},
    "build": {"config", "diffusion", "network", "sampling"},
    "request": {"crystal", "condition", "data", "diffusion", "padding", "spelling"},
    "data": {"crystal", "mirage", "padding", "parallel", "spelling", "storage"},
    "plots": {"crystal", "data", "mirage", "sampling", "storage"},
    "evaluation": {
        *("crystal", "mirage", "padding", "data", "storage", "parallel", "plots", "spelling"),
    },
    "training": {
        *("crystal", "condition", "padding", "mirage", "diffusion", "network", "config", "build"),
        *("data", "storage", "parallel", "hosts"),
    },
    "generation": {
        *("build", "condition", "config", "crystal", "data", "diffusion", "evaluation", "mirage"),
        *("model", "network", "parallel", "request", "sampling"),
    },
    "scoring": {
        *("build", "crystal", "data", "diffusion", "mirage", "model", "network", "padding"),
        "parallel",
    },
    "fine_tuning": {"build", "config", "data", "model", "parallel", "spelling", "training"},
    "release": {"build", "config", "storage"},
    "model": {"build", "config", "diffusion", "release", "training", "version"},
}
COMMANDS = {"__main__", "commands", "train", "sample", "evaluate", "relax", "inspect", "download"}
# Outside libraries that a room must never see.
NO_FILES = {"flax", "jraph", "pymatgen", "ase", "orbax", "optax", "pathlib"}
FOREIGN = {
    "spelling": NO_FILES | {"jax", "numpy"},
    "hosts": NO_FILES,
    "crystal": NO_FILES,
    "padding": NO_FILES,
    "mirage": NO_FILES,
    "condition": NO_FILES,
    "diffusion": NO_FILES,
    "network": {"pymatgen", "ase", "orbax", "optax"},
    "sampling": NO_FILES,
    "storage": {"jax", "flax", "jraph", "optax", "orbax", "pymatgen", "ase"},
    "parallel": {"jax", "flax", "jraph", "optax", "orbax", "pymatgen", "ase"},
    "data": {"flax", "jraph", "optax", "orbax"},
    "plots": {"flax", "jraph", "optax", "orbax"},
    "evaluation": {"flax", "jraph", "optax", "orbax"},
    "config": {"pymatgen", "ase", "orbax", "optax"},
    "build": {"pymatgen", "ase", "orbax", "optax"},
    "training": {"pymatgen", "ase", "jraph"},
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported(path: Path) -> set[str]:
    """Dotted names of the modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "miad_jax":
                names |= {f"miad_jax.{alias.name}" for alias in node.names}
            else:
                names.add(node.module)
    return names


def room_of(path: Path) -> str:
    """The folder, or the module beside the folders, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def ours(path: Path) -> set[str]:
    """The other rooms that a file imports."""
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("miad_jax.")}
    return rooms - {room_of(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_room_imports_only_what_lies_below(path):
    room = room_of(path)
    if room in COMMANDS:
        assert not ours(path) & (COMMANDS - {"commands"}), "`python -m miad_jax.x` is for users"
    else:
        assert ours(path) <= BELOW[room]
    assert not {name.split(".")[0] for name in imported(path)} & FOREIGN.get(room, set())


def test_the_rules_lead_one_way_and_are_those_of_the_rooms():
    order = [*graphlib.TopologicalSorter(BELOW).static_order()]  # refuses a cycle
    assert set(order) == set(BELOW) == {room_of(path) for path in FILES} - COMMANDS
    used: dict[str, set[str]] = {room: set() for room in BELOW}
    for path in FILES:
        if room_of(path) in BELOW:
            used[room_of(path)] |= ours(path)
    assert used == BELOW, "a rule that no file needs allows what nobody wants"


MAY_CONFIGURE = (
    PACKAGE / "hosts.py",
    PACKAGE / "sampling" / "devices.py",
    PACKAGE / "evaluation" / "stability" / "nequix.py",
)
"""The files beside the commands that change JAX's configuration: one when several processes join,
one when a user calls it, one to undo what importing nequix changes."""


def test_only_commands_read_flags_print_or_configure_jax():
    for path in FILES:
        if room_of(path) in COMMANDS:
            continue
        text = path.read_text()
        assert not {"absl", "absl.flags"} & imported(path), path
        assert path in MAY_CONFIGURE or " jax.config" not in text, path
        calls = (n.func for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call))
        assert not any(isinstance(f, ast.Name) and f.id == "print" for f in calls), path


def loaded_by(code: str) -> set[str]:
    """Libraries that a fresh interpreter has loaded after running the code."""
    code = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = {name.split(".")[0] for name in done.stdout.split()}
    return {name for name in names - sys.stdlib_module_names if not name.startswith("_")}


def test_importing_the_package_loads_nothing():
    # What every interpreter of the environment loads by itself is not ours.
    assert loaded_by("import miad_jax") - loaded_by("") == {"miad_jax"}


def test_a_core_name_loads_no_chemistry():
    loaded = loaded_by("from miad_jax import CSPNet, Condition, sample, loss, load_pretrained")
    assert "jax" in loaded
    assert not loaded & {"pymatgen", "ase", "spglib", "matplotlib", "torch"}


OF_0_1 = """CSPNet Crystal Diffusion LossTerms LossWeights Prediction add_noise default_config
draw_num_atoms from_atoms from_structures infuse load_dataset load_model load_pretrained loss
make_diffusion real_atom_mask reduce reverse_step sample save_pretrained to_atoms
to_structures""".split()


def test_every_public_name_is_its_modules_own():
    assert miad_jax.__all__ == sorted(set(miad_jax.__all__))
    assert set(OF_0_1) <= set(miad_jax.__all__)
    assert set(miad_jax.__all__) <= set(dir(miad_jax))
    listed = {name: module for module, names in miad_jax._MODULES.items() for name in names}
    assert set(listed) == set(miad_jax.__all__)
    for name, module in listed.items():
        value = getattr(miad_jax, name)
        assert value is getattr(importlib.import_module(f"miad_jax.{module}"), name)
        assert value.__module__ == f"miad_jax.{module}", f"{name} is made in {value.__module__}"


def test_type_checkers_see_the_same_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    seen = {
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("miad_jax.")
        for alias in node.names
    }
    assert seen == {
        (f"miad_jax.{module}", name)
        for module, names in miad_jax._MODULES.items()
        for name in names
    }


def test_rooms_are_attributes_and_other_names_are_refused():
    assert miad_jax.diffusion.prior is importlib.import_module("miad_jax.diffusion").prior
    with pytest.raises(AttributeError, match="module 'miad_jax' has no attribute 'sampel'"):
        miad_jax.sampel  # noqa: B018
    with pytest.raises(ImportError, match="sampel"):
        exec("from miad_jax import sampel")
