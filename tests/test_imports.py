"""Imports run one way: each room may use only the rooms below it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "miad_jax"

# A room may import itself, the rooms named here, and nothing else of the package.
BELOW = {
    "crystal": set(),
    "mirage": {"crystal"},
    "condition": {"crystal"},
    "diffusion": {"crystal", "condition"},
    "network": {"crystal", "condition"},
    "sampling": {"crystal", "condition", "diffusion", "network"},
    "config": {"crystal", "diffusion", "mirage", "network", "sampling"},
    "storage": set(),
    "parallel": set(),
    "data": {"crystal", "mirage", "storage", "parallel"},
    "plots": {"crystal"},
    "evaluation": {"crystal", "mirage", "data", "storage", "parallel", "plots"},
    "training": {
        *("crystal", "condition", "mirage", "diffusion", "network", "config", "model"),
        *("data", "storage", "parallel"),
    },
    "model": {"config", "diffusion", "network", "sampling", "storage", "training"},
}
COMMANDS = {"commands", "train", "sample", "evaluate", "download"}
# Outside libraries that a room must never see.
NO_FILES = {"flax", "jraph", "pymatgen", "ase", "orbax", "optax", "pathlib"}
FOREIGN = {
    "crystal": NO_FILES,
    "mirage": NO_FILES,
    "condition": NO_FILES,
    "diffusion": NO_FILES,
    "network": {"pymatgen", "ase", "orbax", "optax"},
    "sampling": NO_FILES - {"pathlib"},
    "storage": {"jax", "flax", "jraph", "optax", "orbax", "pymatgen", "ase"},
    "parallel": {"jax", "flax", "jraph", "optax", "orbax", "pymatgen", "ase"},
    "data": {"flax", "jraph", "optax", "orbax"},
    "plots": {"flax", "jraph", "optax", "orbax"},
    "evaluation": {"flax", "jraph", "optax", "orbax"},
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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_room_imports_only_what_lies_below(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    names = imported(path)
    ours = {name.split(".")[1] for name in names if name.startswith("miad_jax.")}
    if room not in COMMANDS:
        assert ours <= BELOW[room] | {room}
    assert not {name.split(".")[0] for name in names} & FOREIGN.get(room, set())


def test_only_commands_read_flags_print_or_configure_jax():
    for path in FILES:
        if path.relative_to(PACKAGE).parts[0].removesuffix(".py") in COMMANDS:
            continue
        text = path.read_text()
        assert not {"absl", "absl.flags"} & imported(path), path
        assert " jax.config" not in text, path
        calls = (n.func for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call))
        assert not any(isinstance(f, ast.Name) and f.id == "print" for f in calls), path


def test_importing_the_package_loads_no_chemistry():
    code = (
        "import sys, miad_jax; "
        "print(*(m for m in ('pymatgen', 'ase', 'spglib', 'matplotlib', 'torch') "
        "if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
