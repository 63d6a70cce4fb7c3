"""Entries of the Materials Project, from a local server that answers as theirs does."""

import gzip
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from monty.json import MontyDecoder
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.entries.computed_entries import ComputedEntry

from miad_jax.commands.download import main
from miad_jax.data.mp_hull import download_hull
from miad_jax.evaluation.stability.hull_files import read_hull

KEY = "k" * 32
VERSION = "2026.10.1"
ENERGIES = {"Na": -1.3, "Cl": -1.8, "NaCl": -3.1, "K": -1.1, "KCl": -3.2, "NaKCl2": -3.2}
"""Uncorrected energies in eV/atom."""

CORRECTIONS = {"NaCl": -0.307, "KCl": -0.307, "NaKCl2": -0.307}


def thermo_document(number, formula):
    """What the interface says of a material, as far as it is asked for."""
    composition = Composition(formula)
    num = int(composition.num_atoms)
    symbols = [str(e) for e, n in composition.items() for _ in range(int(n))]
    coords = [[i / num, 0, 0] for i in range(num)]
    entry = ComputedEntry(
        composition,
        ENERGIES[formula] * num,
        correction=CORRECTIONS.get(formula, 0.0) * num,
        entry_id=f"mp-{number}-GGA",
        parameters={"run_type": "GGA", "hubbards": {}},
        data={"oxide_type": "None"},
    ).as_dict()
    entry["@class"] = "ComputedStructureEntry"
    entry["structure"] = Structure(Lattice.cubic(3.0 * num), symbols, coords).as_dict()
    return {"entries": {"GGA": entry}, "thermo_type": "GGA_GGA+U"}


DOCUMENTS = {
    formula: (Composition(formula).chemical_system, thermo_document(i, formula))
    for i, formula in enumerate(ENERGIES)
}


@pytest.fixture(scope="module")
def server():
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            if address.path == "/heartbeat":
                said = {"version": "1.0", "db_version": VERSION, "access_controlled_batch_ids": []}
                return self.answer(200, said)
            if self.headers.get("x-api-key") != KEY:
                return self.answer(401, {"detail": "Invalid authentication credentials"})
            asked.append(query)
            systems = query.get("chemsys", query.get("formula", "")).split(",")
            found = [document for system, document in DOCUMENTS.values() if system in systems]
            start = int(query.get("_skip", 0))
            page = found[start : start + int(query.get("_limit", 1000))]
            return self.answer(200, {"data": page, "meta": {"total_doc": len(found)}})

        def answer(self, status, content):
            content = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked = asked
        running.address = f"http://127.0.0.1:{running.server_port}/"
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def client():
    """The client of the Materials Project."""
    return pytest.importorskip("mp_api.client", reason="mp-api is not installed: the extra `mp`")


def read(file):
    return json.loads(gzip.decompress(file.read_bytes()))


def test_the_entries_of_all_systems_within_make_a_hull(client, server, tmp_path):
    file = tmp_path / "new" / "hull.json.gz"
    server.asked.clear()
    head = download_hull([["Na", "Cl", "K", "Po"]], file, api_key=KEY, address=server.address)
    (query,) = server.asked
    assert query["thermo_types"] == "GGA_GGA+U"
    assert len(query["chemsys"].split(",")) == 2**4 - 1
    assert head["database_version"] == VERSION
    assert head["without_entry"] == ["Po"]
    content = read(file)
    assert {name: content[name] for name in head} == head
    entries = MontyDecoder().process_decoded(content["entries"])
    assert {e.reduced_formula: round(e.energy_per_atom, 6) for e in entries} == {
        Composition(formula).reduced_formula: round(energy + CORRECTIONS.get(formula, 0), 6)
        for formula, energy in ENERGIES.items()
    }
    assert "structure" not in content["entries"][0]
    assert KEY not in json.dumps(content)
    hull = read_hull(file)
    assert f"6 entries of hull.json.gz, Materials Project {VERSION}, 3 of them" in hull.definition
    distance = hull.e_above_hull_ev_per_atom(Composition("NaCl"), -3.0)
    assert distance == pytest.approx(0.407, abs=1e-6)


def test_the_systems_of_samples_share_what_lies_within_them(client, server, tmp_path, capsys):
    structures = [
        Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        Structure(Lattice.cubic(4), ["K", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    ]
    for i, structure in enumerate(structures):
        structure.to(str(tmp_path / f"{i}.cif"))
    out = tmp_path / "hull.json.gz"
    command = ["download", "mp_hull", f"--samples={tmp_path}", f"--out={out}"]
    assert main([*command, f"--api_key={KEY}", f"--address={server.address}"]) == 0
    assert read(out)["chemical_systems"] == ["Cl", "K", "Na", "Cl-K", "Cl-Na"]
    assert f"5 entries of 5 chemical systems, database {VERSION}" in capsys.readouterr().out


def test_a_wrong_key_and_no_server_are_said_without_the_key(client, server, tmp_path):
    other = "x" * 32
    with pytest.raises(ConnectionError, match="Invalid authentication credentials") as raised:
        download_hull([["Na"]], tmp_path / "a.json", api_key=other, address=server.address)
    assert other not in str(raised.value)
    with pytest.raises(ConnectionError, match="could not be fetched"):
        download_hull([["Na"]], tmp_path / "a.json", api_key=KEY, address="http://127.0.0.1:9/")
    with pytest.raises(ValueError, match="has no entry of Po"):
        download_hull([["Po"]], tmp_path / "a.json", api_key=KEY, address=server.address)
    assert not list(tmp_path.iterdir())


def test_without_a_key_it_is_asked_for(client, tmp_path, monkeypatch):
    monkeypatch.delenv("MP_API_KEY", raising=False)
    with pytest.raises(ValueError, match=r"no key .*--api_key.*MP_API_KEY"):
        download_hull([["Na"]], tmp_path / "a.json")


def test_without_the_package_the_line_that_installs_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mp_api", None)
    monkeypatch.setitem(sys.modules, "mp_api.client", None)
    with pytest.raises(ValueError, match=r'pip install "miad_jax\[mp\]"'):
        download_hull([["Na"]], tmp_path / "a.json", api_key=KEY)


def test_a_file_of_the_user_is_not_overwritten(tmp_path):
    file = tmp_path / "hull.json.gz"
    file.write_bytes(b"mine")
    with pytest.raises(ValueError, match="is there already, and is not overwritten"):
        download_hull([["Na"]], file, api_key=KEY)
    assert file.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("systems", "name", "said"),
    [
        ([["Na", "Qq"]], "a.json", "'Qq' is no element"),
        ([[]], "a.json", "there is no chemical system"),
        ([["H", "Li", "Be", "B", "C", "N", "O", "F", "Na", "Mg", "Al", "Si", "P"]], "a.json",
         "are 13 elements, with 8191 chemical systems"),
        ([["Na"]], "a.csv", "give one that ends in .json or .json.gz"),
    ],
)  # fmt: skip
def test_what_cannot_be_fetched_is_refused(tmp_path, systems, name, said):
    with pytest.raises(ValueError, match=said):
        download_hull(systems, tmp_path / name, api_key=KEY)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mp_hull"], "either --elements=Li,Fe,P,O or --samples=FOLDER"),
        (["mp_hull", "--elements=Li", "--samples=x"], "either --elements"),
        (["mp_20", "--elements=Li"], "--elements belongs to mp_hull"),
    ],
)
def test_flags_that_do_not_belong_together_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        main(["download", *arguments])
