"""`miad-jax`: its commands, its help, its completion, and configurations by name."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import miad_jax
from miad_jax import __main__ as umbrella
from miad_jax.commands import train
from tests.in_process import ROOT, run_command


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["miad-jax", *arguments])
    code = 0
    try:
        umbrella.main()
    except SystemExit as ended:
        code = ended.code
    return code, capsys.readouterr()


def test_help_names_every_command_and_loads_nothing():
    script = (
        "import sys, miad_jax.__main__ as m; sys.argv = ['miad-jax']; m.main();"
        "assert not {'jax', 'numpy', 'pymatgen', 'absl'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^  (\w+)  ", done.stdout, re.MULTILINE) == list(umbrella.COMMANDS)


def test_the_version_and_a_command_that_is_none(monkeypatch, capsys):
    code, said = call(monkeypatch, capsys, "--version")
    assert (code, said.out) == (0, f"{miad_jax.__version__}\n")
    code, said = call(monkeypatch, capsys, "sampel")
    assert code == 2
    assert "no command 'sampel' (did you mean 'sample'?)" in said.err


def test_a_command_gets_its_flags(monkeypatch, capsys):
    code, said = call(monkeypatch, capsys, "sample", "--num=0")
    assert code == 2
    assert "--num" in said.err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("miad-jax ev", "evaluate"),
        ("miad-jax sample --qua", "--quality="),
        ("miad-jax relax --fm", "--fmax="),
    ],
)
def test_a_shell_completes(words, found, tmp_path):
    done = run_command("completion", "bash")
    (tmp_path / "complete.sh").write_text(done.stdout)
    line = words.split(" ")
    script = (
        f"source {tmp_path / 'complete.sh'}; COMP_WORDS=({' '.join(line)}); "
        f"COMP_CWORD={len(line) - 1}; _miad_jax; echo ${{COMPREPLY[@]}}"
    )
    shell = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert shell.stdout.strip() == found, shell.stderr


def test_a_shell_that_is_not_known_is_refused():
    done = run_command("completion", "fish")
    assert done.returncode == 2
    assert "allowed: bash, zsh" in done.stderr


def test_configurations_by_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    file = ROOT / "configs" / "mp20.py"
    for given in ("mp20:small", "configs/mp20.py:small"):
        name, _, variant = train._with_file(f"--config={given}").partition("=")[2].partition(":")
        assert (Path(name).read_text(), variant) == (file.read_text(), "small")
    with pytest.raises(ValueError, match=r"'mp02' \(did you mean 'mp20'\?\); allowed: alex_mp20"):
        train._with_file("--config=mp02")
    (tmp_path / "mp20").write_text("")  # a file of one's own goes first
    assert train._with_file("--config=mp20") == "--config=mp20"


@pytest.mark.parametrize("given", ["band_gap,density", '("band_gap", "density")'])
def test_properties_are_names_with_commas_or_a_tuple(given, tmp_path):
    done = run_command(
        "train", "--config=mp20:transformer", f"--workdir={tmp_path}",
        f"--config.data.properties={given}", "--config.batch_size=0",
    )  # fmt: skip
    assert "config.batch_size is 0" in done.stderr
    assert train._names(("band_gap,density",)) == train._names(("band_gap", "density"))
