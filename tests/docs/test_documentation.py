"""The pages of the documentation: what they link to is there, and what they say to type exists."""

import ast
import functools
import importlib
import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
import unicodedata
from pathlib import Path

import pytest
import yaml

import miad_jax
from miad_jax.commands import COMMANDS, asking, cli, sample, solving
from miad_jax.config import MOVED, validate
from miad_jax.evaluation.describe import COLUMNS
from miad_jax.evaluation.results import SAMPLE_COLUMNS
from miad_jax.evaluation.stability.relaxed import COLUMNS as RELAXED_COLUMNS
from miad_jax.generation.drawing import check, sampler_of
from miad_jax.model import WEIGHTS, load_model

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {x.relative_to(DOCS).as_posix(): x.read_text() for x in sorted(DOCS.rglob("*.md"))}
OTHERS = [ROOT / x for x in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
OTHERS += [*sorted(ROOT.glob("miad_jax/**/*.md")), *sorted(ROOT.glob("experiments/*/README.md"))]
TEXTS = {f"docs/{page}": text for page, text in PAGES.items()} | {
    x.relative_to(ROOT).as_posix(): x.read_text() for x in OTHERS
}
"""Every text that people read, by its path in the repository."""

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^\n((?:    .+\n)+)", re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
OTHER_PROGRAMS = {"pip", "export", "dask", "mkdocs", "pytest", "git", ".ci/run"}
FLAGS_OF_OTHERS = {"--signal", "--nthreads", "--no-deps", "--help", "--scheduler"}


def hook(name):
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / "hooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference, repository, formulas, claims = map(
    hook, ("reference", "repository", "formulas", "claims")
)
GENERATED = {path: page() for path, page in (reference.PAGES | claims.PAGES).items()}
FLAGS = {command: reference.flags_of(command) for command in COMMANDS}


def in_nav(nav):
    """The pages of a part of the navigation."""
    for item in nav:
        value = item if isinstance(item, str) else next(iter(item.values()))
        yield from [value] if isinstance(value, str) else in_nav(value)


def test_the_navigation_names_every_page_once():
    named = list(in_nav(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    notebooks = [x.relative_to(DOCS).as_posix() for x in DOCS.rglob("*.ipynb")]
    assert sorted(named) == sorted([*PAGES, *GENERATED, *notebooks])


def slug(title):
    """The anchor of a heading, as Python-Markdown makes it."""
    plain = re.sub(r"[`*]|\\\(.*?\\\)", "", title)
    ascii_only = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip().lower())


def anchors(markdown):
    return {slug(x) for x in re.findall(r"^#+ (.+)$", FENCED.sub("", markdown), re.MULTILINE)}


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_to_pages_files_and_headings(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", TEXTS[page])):
        if link.startswith(("http", "\\(")):
            continue
        name, _, anchor = link.partition("#")
        path = repository.target(page, name) if name else page
        text = GENERATED.get(path.removeprefix("docs/")) if page.startswith("docs/") else None
        if text is None:
            assert (ROOT / path).is_file(), f"{page} links to {link}"
            text = (ROOT / path).read_text() if path.endswith(".md") else ""
        assert not anchor or anchor in anchors(text), f"{page} links to {link}"


@pytest.mark.parametrize("page", PAGES)
def test_names_of_the_code_are_in_the_code(page):
    for name in re.findall(r"\]\[(miad_jax\.[\w.]+)\]", PAGES[page]):
        parts = name.split(".")
        module = next(
            ".".join(parts[:n]) for n in range(len(parts), 0, -1) if _is_module(parts[:n])
        )
        thing = importlib.import_module(module)
        for part in parts[module.count(".") + 1 :]:
            thing = getattr(thing, part)
        in_reference = f"::: {name}" in "\n".join(GENERATED.values())
        of_a_class = f"::: {name.rpartition('.')[0]}" in "\n".join(GENERATED.values())
        assert in_reference or of_a_class, f"{page}: {name} is on no reference page"


def _is_module(parts):
    path = ROOT.joinpath(*parts)
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_the_copies_of_repository_files_link_to_each_other():
    linked = repository.linked({f"docs/{page}": text for page, text in PAGES.items()})
    assert "experiments/few_steps/README.md" in linked
    assert "experiments/few_steps/few_steps.png" in linked  # which that page shows
    shown = repository.rewritten(PAGES["results.md"], "results.md")
    assert "](repository/experiments/few_steps/README.md)" in shown
    shown = repository.rewritten(PAGES["howto/vasp.md"], "howto/vasp.md")
    assert shown == PAGES["howto/vasp.md"]
    code = "`[a](../x.md)` and [b](../experiments/speed/README.md)"
    assert repository.rewritten(code, "faq.md") == (
        "`[a](../x.md)` and [b](repository/experiments/speed/README.md)"
    )


def test_reference_pages_hold_what_the_code_has():
    commands = GENERATED["reference/commands.md"]
    for command, flags in FLAGS.items():
        section = commands.partition(f"## miad-jax {command}\n")[2].partition("\n## ")[0]
        assert len(section) > 200
        assert all(f"| `--{name}` |" in section for name in flags), command
    assert len(FLAGS["sample"]) > 40
    fields = GENERATED["reference/configuration.md"]
    assert all(f"| `config.{name}` |" in fields for name in reference.fields())
    assert all(f"### {path.stem}" in fields for path in (ROOT / "configs").glob("*.py"))
    names = GENERATED["reference/api.md"]
    assert all(re.search(rf"^::: miad_jax\..*\.{x}$", names, re.M) for x in miad_jax.__all__)
    assert GENERATED["reference/formulas.md"].count(":::") > 30


def test_the_page_of_claims_has_every_claim():
    page, files = GENERATED["claims.md"], sorted(ROOT.glob("experiments/*/results/claims.json"))
    assert len(files) > 1
    for file in files:
        assert f"(../experiments/{file.parents[1].name}/README.md)" in page
        for claim in json.loads(file.read_text()):
            row = " | ".join(claim[x] for x in ("source", "claim", "measured", "holds"))
            assert f"| {row} | `{claim['command']}` |" in page


def test_every_field_of_the_configuration_is_explained():
    said = reference.comments()
    assert [name for name in reference.fields() if not said.get(name)] == []


def commands_of(markdown):
    """The command lines of a text, as words: in its code blocks, and ours within its sentences."""
    plain = FENCED.sub("", markdown)
    blocks = [block for language, block in FENCED.findall(markdown) if language in ("", "bash")]
    for block in [*blocks, *INDENTED.findall(plain)]:
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            for part in line.split(" && "):
                if words := shlex.split(part, comments=True):
                    yield words
    for code in INLINE.findall(plain):
        if re.match(r"(miad-jax \w+|python -m \S+)( |$)", code) and "…" not in code:
            yield shlex.split(code)


LINES = [(page, words) for page, text in TEXTS.items() for words in commands_of(text)]


@pytest.mark.parametrize(("page", "words"), LINES, ids=lambda x: x if isinstance(x, str) else x[0])
def test_a_command_exists_with_its_flags(page, words):
    words = [x for x in words if not re.match(r"[A-Z_]+=", x)]
    for launcher, num in (("srun", 1), ("taskset", 3)):
        words = words[num:] if words[0] == launcher else words
    if words[:2] == ["python", "-m"]:
        name = words[2]
        if name.startswith("experiments."):
            check_study(name, words[3:], page)
        if name == "miad_jax" or name.startswith("experiments."):
            return
        words = ["miad-jax", name.removeprefix("miad_jax."), *words[3:]]
    if words[0] in OTHER_PROGRAMS:
        for extra in re.findall(r"(?:^|miad_jax|\.)\[([\w,]+)\]", " ".join(words)):
            assert set(extra.split(",")) - {"cuda12", "cuda13"} <= set(EXTRAS)
        return
    assert words[0] == "miad-jax", f"{page}: {words[0]}"
    assert words[1] in COMMANDS
    for word in (x for x in words[2:] if x.startswith("--") and x != "--help"):
        check_flag(words[1], word, page)


def check_study(name, words, page):
    """That a module of a study exists, and that its source names the flags."""
    assert _is_module(name.split(".")) or _is_module([*name.split("."), "__main__"]), (
        f"{page}: {name}"
    )
    source = "".join(x.read_text() for x in ROOT.joinpath(*name.split(".")[:2]).glob("*.py"))
    if "add_energy_options(" in source:  # flags that studies share
        source += (ROOT / "experiments" / "mp20" / "work.py").read_text()
    for flag in (x[2:].partition("=")[0] for x in words if x.startswith("--")):
        assert f'"--{flag}"' in source or f'"{flag}"' in source, f"{page}: {name} --{flag}"


def check_flag(command, word, page):
    name, _, value = word[2:].partition("=")
    name = name.replace("-", "_")
    if name.startswith("config."):
        assert command == "train"
        assert name.removeprefix("config.") in reference.fields(), f"{page}: {word}"
    else:
        known = FLAGS[command]
        switch = name.removeprefix("no") if name not in known else name
        assert switch in known, f"{page}: miad-jax {command} {word}"
        assert value or reference._kind(known[switch]) == "switch", f"{page}: {word}"
    if name == "config":
        file, _, variant = value.partition(":")
        importlib.import_module(f"configs.{Path(file).stem}").get_config(variant)


@pytest.mark.parametrize("page", TEXTS)
def test_flags_and_fields_in_the_text_exist(page):
    text = FENCED.sub("", TEXTS[page])
    known = {name for flags in FLAGS.values() for name in flags}
    fields = {*reference.fields(), *{x.partition(".")[0] for x in reference.fields()}, *MOVED}
    of_study = ""
    if page.startswith("experiments/"):
        of_study = "".join(x.read_text() for x in (ROOT / page).parent.glob("*.py"))
    flags = [x for code in INLINE.findall(text) if code.startswith("--") for x in code.split()]
    for flag in (x.partition("=")[0] for x in flags if x.startswith("--")):
        plain = flag[2:].replace("-", "_")
        is_ours = plain in known or plain.removeprefix("no") in known
        is_field = plain.removeprefix("config.") in fields
        is_of_study = f'"{flag}"' in of_study or f'"{plain}"' in of_study
        assert is_ours or is_field or is_of_study or flag in FLAGS_OF_OTHERS, f"{page}: {flag}"
    for field in re.findall(r"`config\.(?!py`)([\w.]+)", text):
        assert field in fields, f"{page}: config.{field}"


def wishes_of(page):
    """The wishes of a page as arguments of `sample`: in its commands, and flags in its sentences.

    Flags in a sentence name no model, and are meant for the default one.
    """
    for words in commands_of(TEXTS[page]):
        if words[:2] == ["miad-jax", "sample"] or words[1:3] == ["-m", "miad_jax.sample"]:
            yield words[words.index("-m") + 2 if "-m" in words else 2 :]
    for code in INLINE.findall(FENCED.sub("", TEXTS[page])):
        words = code.split()
        if not words or any(not re.match(r"--\w+(=|$)", x) for x in words):
            continue
        names = {x[2:].partition("=")[0] for x in words}
        if names & {"add", "keep_cell"}:
            words.append("--complete=host.cif")
        if names & {"strength"}:
            words.append("--like=seed.cif")
        if names <= set(FLAGS["sample"]) and all("=" in x or x[2:] in SWITCHES for x in words):
            yield words


SWITCHES = {x for x in FLAGS["sample"] if reference._kind(FLAGS["sample"][x]) == "switch"}
WISHES = sorted(
    {
        (page, tuple(dict.fromkeys(words)))
        for page in TEXTS
        if page == "README.md" or page.startswith("docs/")
        for words in wishes_of(page)
        if {x[2:].partition("=")[0] for x in words} & set(asking.NAMES)
    }
)
CRYSTAL = """data_NaCl
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 60
_cell_angle_beta 60
_cell_angle_gamma 60
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na 0 0 0
Cl 0.5 0.5 0.5
"""


@functools.cache
def model_called(name):
    return load_model(name)


def check_wish(words):
    """What the command does with the flags before it samples; runs of the reader pass."""
    values = importlib.reload(sample).FLAGS
    cli.parse(values, ["sample", *words], "")
    if values.checkpoint not in WEIGHTS:
        return
    model = model_called(values.checkpoint)
    config = validate(solving.config_with(values, model.config), num_devices=1)
    request = asking.request_of(values, config)
    check(request, model, sampler_of(model, config, request).size)


@pytest.mark.parametrize(("page", "words"), WISHES, ids=lambda x: x if isinstance(x, str) else "")
def test_a_wish_can_be_asked_of_the_model_that_it_names(page, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for word in words:
        name, _, value = word.partition("=")
        if name in ("--complete", "--like"):
            Path(value).write_text(CRYSTAL)
        elif name == "--formula" and value.endswith(".txt"):
            Path(value).write_text("LiFePO4\nTiO2\n")
    check_wish(words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--num_atoms=8..30"], "30 atoms are asked, and the model has 25 slots"),
        (["--formula=LiFePO4", "--formula_units=1..4"], "are 28 atoms"),
        (["--checkpoint=mp20-small12", "--property=density=4.5"], "it was told none"),
    ],
)
def test_a_wish_that_the_model_cannot_meet_would_be_found(words, said):
    with pytest.raises(ValueError, match=said):
        check_wish(words)


def test_the_readme_has_wishes():
    assert len([page for page, _ in WISHES if page == "README.md"]) > 5
    assert len(WISHES) > 30


@pytest.mark.parametrize("page", TEXTS)
def test_python_in_the_pages_is_python(page):
    for language, block in FENCED.findall(TEXTS[page]):
        others = () if page.startswith("docs/") else ("", "bibtex")
        assert language in ("bash", "python", "text", *others)
        if language == "python":
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "miad_jax":
                    assert node.attr in miad_jax.__all__, f"{page}: miad_jax.{node.attr}"


def columns_in(section):
    """The names in the first column of the tables of a section of formats.md."""
    text = PAGES["formats.md"].partition(f"\n### {section}\n")[2].partition("\n## ")[0]
    text = text.partition("\n### ")[0]
    cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_the_formats_page_has_every_column():
    asked = ["asked", "is_as_asked", "missed", "attempts", "best_of", "e_above_hull_as_generated"]
    assert columns_in("samples.csv") == ["index", "seed", *_sorted_as_page(COLUMNS), *asked]
    evaluated = [name for name in SAMPLE_COLUMNS if name not in COLUMNS]
    assert sorted(columns_in("crystals.csv")) == sorted(evaluated)
    assert columns_in("relaxed.csv") == list(RELAXED_COLUMNS)


def _sorted_as_page(columns):
    """Columns of space groups stand in the page by kind, in the table by tolerance."""
    by_kind = sorted((x for x in columns if re.search(r"_0\.", x)), key=_kind_and_tolerance)
    return [by_kind.pop(0) if re.search(r"_0\.", x) else x for x in columns]


def _kind_and_tolerance(column):
    kind, _, tolerance = column.rpartition("_")
    return len(kind), -float(tolerance)


def formulas_in(markdown):
    """The formulas of a page, and whether each stands alone."""
    found = re.findall(r"\\\((.+?)\\\)|\\\[(.+?)\\\]", markdown, re.DOTALL)
    return [(inline or alone, bool(alone)) for inline, alone in found]


def test_formulas_are_understood():
    pytest.importorskip("latex2mathml")
    found = [x for text in PAGES.values() for x in formulas_in(FENCED.sub("", text))]
    assert len(found) > 80
    for latex, block in found:
        assert formulas.mathml(latex, block=block).startswith("<math")
    with pytest.raises(ValueError, match="is not understood"):
        formulas.mathml(r"\nosuchcommand x", block=False)
    page = r'<p>a <span class="arithmatex">\(x &lt; y\)</span></p>'
    assert re.search(
        r'<span class="arithmatex"><math .*&lt;.*</math></span></p>$',
        (formulas.on_page_content(page).replace("&#x0003C;", "&lt;")),
    )


@pytest.mark.slow
def test_the_site_builds(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={tmp_path / 'site'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    page = (site / "science" / "lattice" / "index.html").read_text()
    assert "reference/formulas/#miad_jax.diffusion.lattice.LatticeDDPM.step" in page
    assert (site / "repository" / "experiments" / "few_steps" / "few_steps.png").is_file()
    assert (site / "trajectory.gif").is_file()
