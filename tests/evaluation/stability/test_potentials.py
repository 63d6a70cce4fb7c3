"""Potentials by name, their weights, and what is refused before anything runs."""

import hashlib
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pymatgen.core import Lattice, Structure

from miad_jax.data.published import PublishedFile
from miad_jax.evaluation.stability import nequix, potential
from miad_jax.evaluation.stability.potentials import (
    check_installed,
    check_potential,
    error_sentence,
    prepare_potential,
)
from miad_jax.evaluation.stability.relax import relax
from miad_jax.parallel.executor import Serial

SEVENNET = """
from ase.calculators.emt import EMT


class SevenNetCalculator(EMT):
    def __init__(self, model, device):
        assert device == "cpu"
        if "broken" in model:
            raise KeyError("modal")
        super().__init__()
"""


@pytest.mark.parametrize(
    ("calculator", "weights", "message"),
    [
        (
            "nequx",
            None,
            r"'nequx' \(did you mean 'nequix'\?\); allowed: 'chgnet', 'nequix', 'seven",
        ),
        ("module:", None, "allowed: .*'module:factory'"),
        ("chgnet", "0.2.0", "'chgnet' brings its own: leave them out, or choose nequix or sevenn"),
        ("emt:EMT", "w.pt", "'emt:EMT' brings its own"),
        ("nequix", "nequix-mp1", r"called 'nequix-mp1' \(did you mean 'nequix-mp-1'\?\); allowed"),
        ("sevennet", "7net-1", r"no weights of sevennet are called '7net-1' \(did you mean '7net-"),
    ],
)
def test_what_is_no_potential_is_refused(calculator, weights, message):
    with pytest.raises(ValueError, match=message):
        check_potential(calculator, weights)


def test_weights_by_name_or_as_a_file(tmp_path):
    (tmp_path / "mine").touch()
    check_potential("nequix", "nequix-mp-1")
    check_potential("nequix", tmp_path / "mine")
    check_potential("sevennet", "7net-0")
    for missing in (tmp_path / "gone", "gone.nqx"):
        with pytest.raises(
            FileNotFoundError, match=r"gone.* does not exist: name a file of weights"
        ):
            check_potential("nequix", missing)


def test_a_missing_package_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "nequix", None)
    with pytest.raises(ValueError, match=r"'nequix' is missing: .*--no-deps nequix"):
        check_installed("nequix")
    monkeypatch.setitem(sys.modules, "sevenn", None)
    with pytest.raises(ValueError, match=r'pip install "miad_jax\[sevennet\]"'):
        prepare_potential("sevennet")
    with pytest.raises(ValueError, match=r"'no_such:make' is missing: .*PYTHONPATH"):
        check_installed("no_such:make")
    check_installed("ase.calculators.emt:EMT")


@pytest.fixture
def server(tmp_path):
    """A local server of the files in tmp_path / "served"."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *arguments: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_weights_are_fetched_once_and_held_against_their_hash(server, monkeypatch, tmp_path):
    folder, address = server
    content = b"weights"
    (folder / "good.nqx").write_bytes(content)
    (folder / "bad.nqx").write_bytes(b"other weights")
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setenv("MIAD_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        nequix,
        "WEIGHTS",
        {name: PublishedFile(f"{address}/{name}.nqx", digest, 7) for name in ("good", "bad")},
    )
    path = nequix.find_weights("good")
    assert path.read_bytes() == content
    assert path.is_relative_to(tmp_path / "cache")
    (folder / "good.nqx").unlink()
    assert nequix.find_weights("good") == path
    assert nequix.find_weights(folder / "bad.nqx") == folder / "bad.nqx"
    with pytest.raises(ValueError, match=r"its SHA-256 differs.*--weights=FILE\.nqx"):
        nequix.find_weights("bad")
    monkeypatch.setitem(nequix.WEIGHTS, "bad", PublishedFile(f"{address}/gone.nqx", digest, 7))
    with pytest.raises(ConnectionError, match=r"could not be fetched.*--weights=FILE\.nqx"):
        nequix.find_weights("bad")
    assert [x.name for x in path.parent.iterdir()] == ["good.nqx"]


@pytest.fixture
def sevennet(tmp_path, monkeypatch):
    """A stand-in for the package, whose potential is EMT; returns the file of its weights."""
    folder = tmp_path / "modules" / "sevenn"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "calculator.py").write_text(SEVENNET)
    weights = folder / "7net-l3i5.pth"
    weights.write_bytes(b"numbers")
    (folder / "util.py").write_text(
        f"pretrained_name_to_path = lambda name: {str(folder)!r} + f'/{{name}}.pth'"
    )
    monkeypatch.syspath_prepend(folder.parent)
    for name in [name for name in sys.modules if name.split(".")[0] == "sevenn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(potential.importlib.metadata, "version", lambda name: f"{name}-7")
    potential._potential.cache_clear()
    yield weights
    for name in [name for name in sys.modules if name.split(".")[0] == "sevenn"]:
        del sys.modules[name]


COPPER = Structure(
    Lattice.cubic(3.65), ["Cu"] * 4, [[0, 0, 0.02], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
)


def test_sevennet_by_name_and_by_file(sevennet, tmp_path):
    settings = {"calculator": "sevennet", "executor": Serial()}
    (result,) = relax([COPPER], tmp_path / "named", **settings)
    assert result.status == "converged"
    assert result.potential == {
        "energies_are_corrected": False,
        "version": "sevenn sevenn-7",
        "weights": "7net-l3i5",
        "weights_sha256": hashlib.sha256(b"numbers").hexdigest(),
    }
    mine = tmp_path / "mine.pth"
    mine.write_bytes(b"other numbers")
    with pytest.raises(
        ValueError, match=r"weights is 7net-l3i5 there and mine\.pth now; weights_sha"
    ):
        relax([COPPER], tmp_path / "named", weights=mine, **settings)
    (other,) = relax([COPPER], weights=mine, **settings)
    assert other.potential["weights_sha256"] == hashlib.sha256(b"other numbers").hexdigest()
    broken = tmp_path / "broken.pth"
    broken.touch()
    with pytest.raises(ValueError, match=r"broken\.pth holds no weights of SevenNet"):
        relax([COPPER], weights=broken, **settings)


def test_a_factory_may_name_its_weights(tmp_path, monkeypatch):
    (tmp_path / "weights.bin").write_bytes(b"numbers")
    (tmp_path / "withweights.py").write_text(
        "from ase.calculators.emt import EMT\n"
        "energies_are_corrected = True\n"
        f"weights = {str(tmp_path / 'weights.bin')!r}\n"
        "def lost(): return EMT()\n"
        "lost.weights = 'gone.bin'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    potential._potential.cache_clear()
    settings = {"executor": Serial()}
    (result,) = relax([COPPER], tmp_path / "out", calculator="withweights:EMT", **settings)
    assert result.potential["weights"] == "weights.bin"
    assert result.potential["weights_sha256"] == hashlib.sha256(b"numbers").hexdigest()
    (tmp_path / "weights.bin").write_bytes(b"trained longer")
    potential._potential.cache_clear()
    with pytest.raises(ValueError, match=r"weights_sha256 is .* there and .* now"):
        relax([COPPER], tmp_path / "out", calculator="withweights:EMT", **settings)
    with pytest.raises(ValueError, match=r"weights that withweights names cannot be read.*gone"):
        relax([COPPER], calculator="withweights:lost", **settings)


def test_a_measured_error_belongs_to_the_weights():
    facts = {"weights_sha256": nequix.WEIGHTS["nequix-oam-1"].sha256, "weights": "any name"}
    assert "nequix are off by 0.028 eV/atom" in error_sentence("nequix", facts)
    assert "not measured" in error_sentence("nequix", {"weights_sha256": "0"})
    assert "mine:factory are from DFT was not measured" in error_sentence("mine:factory", {})
