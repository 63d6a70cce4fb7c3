"""Reference pages, made from the code whenever the site is built: nothing in them is copied.

Flags come from the commands themselves, fields from `default_config` and the comments beside them,
public names from `miad_jax.__all__`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from absl import flags
from flax.traverse_util import flatten_dict

import miad_jax
from miad_jax import config as config_fields
from miad_jax.commands import COMMANDS, cli, start

ROOT = Path(__file__).resolve().parents[2]
FORMULAS = (
    *("mirage", "diffusion.schedules", "diffusion.lattice", "diffusion.lattice_vp"),
    *("diffusion.lattice_flow", "diffusion.log_stretch", "diffusion.limit_cell"),
    *("diffusion.lengths_angles", "diffusion.types_flow"),
    *("diffusion.stretch", "diffusion.coords", "diffusion.torus_flow", "diffusion.types"),
    *("diffusion.masked", "diffusion.joint", "diffusion.renoise", "diffusion.losses"),
    *("sampling.times", "sampling.corrector", "sampling.solvers.ancestral"),
    *("sampling.solvers.heun", "sampling.solvers.predictor_corrector", "sampling.quality"),
    *("sampling.sampler", "sampling.control", "sampling.elements", "sampling.counts"),
    *("training.tasks", "training.axes", "network.embeddings", "network.properties"),
)
"""Modules of the package that hold formulas of the science pages."""

EXIT_CODES = {
    0: "The command did what was asked.",
    cli.FAILED: "The command failed: numbers were not finite, memory or space on the disk was too "
    "little, or a worker process was lost over a crystal. The same command continues.",
    cli.BAD_INPUT: "Something that was given cannot be used. One sentence says what, and what to "
    "do.",
    start.INTERRUPTED: "The command was interrupted by Ctrl-C, SIGTERM or SIGHUP. The same command "
    "continues. A training takes a first signal as a request: it ends with a checkpoint, and 0.",
    134: "One of several processes was lost, and JAX ended this one with a message of its own. "
    "The same command continues.",
}


def flags_of(command: str) -> dict[str, flags.Flag]:
    """The flags of a command by name, in the order of the alphabet."""
    values = importlib.import_module(f"miad_jax.commands.{command}").FLAGS
    own = {flag.name: flag for module in values.flags_by_module_dict().values() for flag in module}
    return dict(sorted(own.items()))


def fields() -> dict[str, Any]:
    """The default of every field of the configuration by dotted name."""
    return flatten_dict(config_fields.default_config().to_dict(), sep=".")


def comments() -> dict[str, str]:
    """What `default_config` says beside each field and each section."""
    lines = inspect.getsource(config_fields.default_config)
    return dict(re.findall(r"^    config\.([\w.]+) = .*  # (.+)$", lines, re.MULTILINE))


def commands_page() -> str:
    """Every command with what it says of itself, and its flags."""
    parts = [
        "# Commands and flags",
        "This page is made from the code when the site is built. `miad-jax COMMAND --help` prints "
        "the same. `miad-jax sample` and `python -m miad_jax.sample` are the same command, and so "
        "are the others. A flag is written as `--name=value`, with dashes or underscores in the "
        "name. A switch is written as `--name` or `--noname`.",
        "## For programs",
        "Every command that makes something has the switches `--json` and `--quiet`. With `--json` "
        "it prints one JSON object on standard output when it ends, and nothing else there. The "
        "object has `command`, `files` (what was written), counts and numbers; a number that is "
        "not finite is `null`. With `--quiet` no lines and no bars are shown. Warnings and errors "
        "go to standard error in both cases. A command that ends with code 2 prints no object.",
        "## Exit codes",
        _table(("code", "meaning"), [(str(x), meaning) for x, meaning in EXIT_CODES.items()]),
    ]
    for command, what in COMMANDS.items():
        module = importlib.import_module(f"miad_jax.commands.{command}")
        parts += [f"## miad-jax {command}", f"*{what[0].upper()}{what[1:]}.*"]
        parts += [inspect.cleandoc(module.__doc__)]
        if found := flags_of(command):
            rows = [
                (f"`--{name}`", _kind(flag), _default(flag.default), flag.help)
                for name, flag in found.items()
            ]
            parts += [_table(("flag", "value", "default", "meaning"), rows)]
    return "\n\n".join(parts) + "\n"


def configuration_page() -> str:
    """Every field of the configuration, and the configurations that come with the package."""
    parts = [
        "# Configuration",
        "This page is made from the code when the site is built. Every field is a flag of "
        "`miad-jax train`: `--config.batch_size=64` sets `config.batch_size`. In Python "
        "[`default_config`][miad_jax.config.default_config] returns all fields.",
    ]
    said = comments()
    by_section: dict[str, list[tuple[str, str, str]]] = {}
    for name, default in fields().items():
        section = name.partition(".")[0] if "." in name else ""
        row = f"`config.{name}`", f"`{default!r}`", said.get(name, "")
        by_section.setdefault(section, []).append(row)
    for section, rows in sorted(by_section.items()):
        about = said.get(section, "")
        parts += [f"## config.{section}" if section else "## The run"]
        parts += [f"{about[0].upper()}{about[1:]}."] if about else []
        parts += [_table(("field", "default", "meaning"), rows)]
    moved = [(f"`config.{old}`", f"`config.{new}`") for old, new in config_fields.MOVED.items()]
    parts += ["## Fields of version 0.1", _table(("then", "now"), moved)]
    parts += [
        "## Ready configurations",
        "`--config=NAME` takes one of these, and `--config=NAME:VARIANT` one of its variants.",
    ]
    for path in sorted((ROOT / "configs").glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        parts += [f"### {path.stem}", f"```text\n{text}\n```"]
    return "\n\n".join(parts) + "\n"


def api_page() -> str:
    """Every public name."""
    parts = [
        "# Python names",
        "These are the public names of `miad_jax`. `import miad_jax` is enough: each name is "
        "loaded from its module when it is first used. Shapes stand in the annotations: "
        '`Float[Array, "*batch 3 3"]` is an array of floats with any number of batch dimensions, '
        "and then 3 × 3.",
    ]
    for name in miad_jax.__all__:
        module = getattr(miad_jax, name).__module__
        parts += [f"::: {module}.{name}"]
    return "\n\n".join(parts) + "\n"


def formulas_page() -> str:
    """The modules that hold formulas."""
    parts = [
        "# Formulas in the code",
        "These modules hold the formulas of the science pages. Each function is pure: its noise is "
        "an argument. The text comes from the code when the site is built.",
    ]
    public = {getattr(miad_jax, name) for name in miad_jax.__all__}
    for name in FORMULAS:
        module = importlib.import_module(f"miad_jax.{name}")
        own = [
            key
            for key, value in vars(module).items()
            if not key.startswith("_")
            and getattr(value, "__module__", None) == module.__name__
            and (inspect.isclass(value) or inspect.isfunction(value))
            and value not in public
        ]
        parts += [f"## miad_jax.{name}", inspect.cleandoc(module.__doc__ or "")]
        elsewhere = [x.__name__ for x in public if x.__module__ == module.__name__]
        if elsewhere:
            named = (f"[`{x}`][{module.__name__}.{x}]" for x in sorted(elsewhere))
            parts += [f"Its public names are on [Python names](api.md): {', '.join(named)}."]
        for key in own:
            options = "    options: {heading_level: 3}"
            parts += [f"::: {module.__name__}.{key}\n{options}"]
    return "\n\n".join(parts) + "\n"


KINDS = {
    "int": "whole number",
    "float": "number",
    "comma separated list of strings": "list",
    "multi string": "text, may be repeated",
}
"""What flags take, by what absl calls it."""

PAGES: dict[str, Callable[[], str]] = {
    "reference/commands.md": commands_page,
    "reference/configuration.md": configuration_page,
    "reference/api.md": api_page,
    "reference/formulas.md": formulas_page,
}
"""The pages by their path in the site."""


def on_files(files: Any, config: Any) -> Any:
    """Add the pages; MkDocs calls this with all files of the site."""
    from mkdocs.structure.files import File

    for path, page in PAGES.items():
        files.append(File.generated(config, path, content=page()))
    return files


def _kind(flag: flags.Flag) -> str:
    """What a flag takes, in a word or as its choices."""
    if isinstance(flag, flags.BooleanFlag):
        return "switch"
    if choices := getattr(flag.parser, "enum_values", None):
        return " or ".join(f"`{x}`" for x in choices)
    return KINDS.get(flag.flag_type(), "text")


def _default(value: Any) -> str:
    return "" if value is None or value == [] else f"`{str(value).lower()}`"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [list(head), ["---"] * len(list(head)), *map(list, rows)]
    return "\n".join(
        "| " + " | ".join(str(x).replace("|", "\\|").replace("\n", " ") for x in line) + " |"
        for line in lines
    )
