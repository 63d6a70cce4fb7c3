"""Crystals to turn in a notebook: what the page holds, and that a browser draws it."""

import html
import json
import re
import shutil
import subprocess

import ase.build
import numpy as np
import pytest

import miad_jax

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def scenes(view):
    return json.loads(re.search(r"const scenes = (.*);", view.page)[1])


@pytest.fixture(scope="module")
def crystals():
    """Rock salt and copper, as ASE has them."""
    return [ase.build.bulk("NaCl", "rocksalt", a=5.64), ase.build.bulk("Cu", a=3.6)]


def test_crystals_of_every_kind_give_the_same_page(crystals):
    packed = miad_jax.from_atoms(crystals)
    kinds = (crystals, miad_jax.to_structures(packed), packed, list(packed))
    pages = {miad_jax.show(kind).page for kind in kinds}
    assert len(pages) == 1
    found = scenes(miad_jax.show(crystals))
    assert [x["title"] for x in found] == ["NaCl, 2 atoms", "Cu, 1 atom"]
    assert set(found[0]["elements"]) == {"Na", "Cl"}
    assert scenes(miad_jax.show(crystals[1])) == found[1:]


def test_a_trajectory_is_shown_on_its_way(crystals):
    salt = miad_jax.from_atoms(crystals[:1])
    types = np.repeat(salt.atom_types[None], 3, 1)
    types[0, 0] = 0  # all mirage, which is not shown
    cells, coords, mask = (
        np.repeat(x[None], 3, 1) for x in (salt.lattice, salt.frac_coords, salt.mask)
    )
    states = miad_jax.Crystal(cells, coords, types, mask)
    trajectory = miad_jax.Trajectory(states, np.array([9, 4, -1]), np.array([0, 5, 10]))
    titles = [x["title"] for x in scenes(miad_jax.show(trajectory))]
    assert titles == ["NaCl, 2 atoms, time 4", "NaCl, 2 atoms"]


def test_nothing_to_show_is_refused(crystals):
    empty = miad_jax.from_atoms(crystals[1])
    empty.atom_types[:] = 0
    with pytest.raises(ValueError, match="no crystal to show"):
        miad_jax.show(empty)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")
def test_a_browser_draws_it(crystals, tmp_path):
    view = miad_jax.show(crystals)
    assert (
        html.unescape(re.search(r'srcdoc="(.*?)" sandbox', view._repr_html_(), re.S)[1])
        == view.page
    )
    view.save(tmp_path / "view.html")
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader", f"--user-data-dir={tmp_path / 'home'}",
            "--virtual-time-budget=8000", "--enable-logging=stderr", "--dump-dom",
            (tmp_path / "view.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert not re.findall(r"CONSOLE.*", done.stderr)
    assert 'data-drawn="0"' in done.stdout
    assert "<canvas" in done.stdout
