"""The page as headless Chromium shows it: what is on it then, and what the browser complains of."""

import base64
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib.figure import Figure
from pymatgen.core import Lattice, Structure

from miad_jax.data.structures import from_structures
from miad_jax.evaluation.describe import describe
from miad_jax.evaluation.report.files import write_report
from miad_jax.evaluation.results import SAMPLE_COLUMNS, EvaluationResult
from miad_jax.evaluation.statistics import Rate

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = ('"; alert(1)//', "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium: apt-get install chromium"
)


def rocksalt(cation, anion, length):
    lattice = Lattice.cubic(length)
    return Structure.from_spacegroup("Fm-3m", lattice, [cation, anion], [[0, 0, 0], [0.5, 0, 0]])


@pytest.fixture(scope="module")
def result():
    """Three judged crystals with hostile names, the last of them relaxed."""
    structures = [rocksalt("Na", "Cl", 5.64), rocksalt("Mg", "O", 4.21), rocksalt("K", "I", 7.0)]
    rows = [
        describe(from_structures(x)[0])
        | dict.fromkeys(SAMPLE_COLUMNS)
        | {"id": name, "unique": True, "novel": True, "sun": True, "msun": True}
        | {"e_above_hull_ev_per_atom": -0.01 * i}
        for i, (name, x) in enumerate(zip(HOSTILE, structures, strict=True))
    ]
    tables = {"Validity": [Rate("valid", 3, 3, "Of <all> samples.")]}
    relaxed = [None, None, structures[2]]
    return EvaluationResult(rows, tables, structures, relaxed, np.zeros(0, int))


DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
)


@pytest.fixture(scope="module")
def folder(result, tmp_path_factory):
    """A report that was moved after it was written; its pictures are a dot each."""
    written = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, file, **settings: file.write(DOT))
        write_report(written, result)
    return written.rename(written.with_name("moved # here"))


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Open an address: the page as it is then, and what the browser complained of."""
    home = tmp_path_factory.mktemp("home")

    def run(address, width=1280):
        done = subprocess.run(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu-sandbox",
                "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run",
                "--disable-dev-shm-usage", f"--user-data-dir={home}", "--enable-logging=stderr",
                f"--window-size={width},900", "--virtual-time-budget=8000", "--dump-dom", address,
            ],
            capture_output=True, text=True, timeout=90, env={**os.environ, "HOME": str(home)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout, re.findall(r"CONSOLE.*", done.stderr)

    return run


def test_the_page_opens_without_a_complaint(folder, browse):
    page, complaints = browse((folder / "report.html").as_uri())
    assert complaints == []
    assert "<caption>In short</caption>" in page
    assert "<dialog open" not in page
    assert "<canvas" not in page
    assert "3Dmol-min.js" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 2])
def test_a_crystal_turns(result, folder, browse, index):
    page, complaints = browse(f"{(folder / 'report.html').as_uri()}#crystal-{index}", width=400)
    assert complaints == []
    assert re.search(r"<dialog[^>]* open", page)
    assert "<canvas" in page
    first = "relaxed" if result.relaxed[index] else "as generated"
    assert f'data-drawn="{first}"' in page
    text = HOSTILE[index].replace("<", "&lt;").replace(">", "&gt;")
    assert f'<p class="id">{text}</p>' in page


@pytest.mark.slow
def test_a_page_alone_says_what_it_lacks(folder, browse, tmp_path):
    shutil.copy(folder / "report.html", tmp_path)
    page, _ = browse(f"{(tmp_path / 'report.html').as_uri()}#crystal-0")
    assert "the folder “viewer” is not beside this page" in page
    assert "<canvas" not in page
