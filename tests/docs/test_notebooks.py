"""Every notebook of the documentation runs to its end, at a small size."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "docs" / "notebooks"
SMALLEST = "mp20-small12"
SMALL = {
    "1-first-crystals": {"MODEL": SMALLEST, "NUM": 2, "QUALITY": "draft"},
    "2-steer": {"MODEL": SMALLEST, "NUM": 2, "QUALITY": "draft"},
    "3-train-on-your-data": {
        "DATA": None,
        "NUM_CRYSTALS": 24,
        "MODEL": SMALLEST,
        "NUM_STEPS": 4,
        "NUM": 2,
        "QUALITY": "draft",
    },
    "4-judge-and-compare": {"MODEL": SMALLEST, "NUM": 4, "QUALITY": "draft", "OTHERS": None},
    "5-to-vasp-on-a-cluster": {
        "MODEL": SMALLEST,
        "NUM": 3,
        "QUALITY": "draft",
        "MAX_STEPS": 20,
        "HULL": "hull.json.gz",
        "REFERENCE": "prototypes",
    },
}
"""Values of each notebook's parameters."""


def test_every_notebook_is_run():
    assert sorted(SMALL) == sorted(x.stem for x in NOTEBOOKS.glob("*.ipynb"))


@pytest.mark.parametrize("name", SMALL)
def test_notebook_runs(name, tmp_path, request):
    if "HULL" in SMALL[name]:
        hull = request.getfixturevalue("real_data") / "hull"
        (tmp_path / "hull.json.gz").symlink_to(hull / "mp_hull_reconstructed_total_entries.json.gz")
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not kept"
    (parameters,) = [x for x in notebook.cells if "parameters" in x.metadata.get("tags", ())]
    assert set(SMALL[name]) == {x.split(" = ")[0] for x in parameters.source.splitlines()}
    parameters.source = "\n".join(f"{key} = {value!r}" for key, value in SMALL[name].items())
    run = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=500, kernel_name="python3", resources=run).execute()
