"""Fetching data sets, from a local server."""

import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from miad_jax.data import load_dataset
from miad_jax.data.download import download_dataset

CIF = """data_x
_cell_length_a 3
_cell_length_b 3
_cell_length_c 3
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_type_symbol
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Po Po1 0 0 0
"""
TABLE = f'material_id,cif\na,"{CIF}"\nb,"{CIF}"\n'.encode()


def zipped(**members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, member in members.items():
            file.writestr(f"set/{name}.csv", member)
    return content.getvalue()


PAGES = {
    **{f"/mp_20/{split}.csv": TABLE for split in ("train", "val", "test")},
    "/two/train.csv": TABLE,
    "/pointer/train.csv": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "/cut/train.csv": TABLE,
    "/alex.zip": zipped(train=TABLE, val=TABLE, readme=b"x"),
    "/empty.zip": zipped(readme=b"x"),
    "/broken.zip": b"no zip",
}


@pytest.fixture(scope="module")
def server():
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            page = PAGES.get(self.path)
            if page is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(page) + self.path.startswith("/cut")))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked = asked
        running.address = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_splits_come_and_load(server, tmp_path):
    seen = []
    folder = tmp_path / "data" / "mp_20"
    counts = download_dataset(
        "mp_20",
        folder,
        address=f"{server.address}/mp_20/",
        report=lambda *told: seen.append(told),
    )
    assert counts == {"train.csv": 2, "val.csv": 2, "test.csv": 2}
    assert ("val.csv", len(TABLE), len(TABLE)) in seen
    assert (folder / "test.csv").read_bytes() == TABLE
    crystals, records = load_dataset(folder, "val", cache_dir=tmp_path, num_workers=0)
    assert list(records.ids) == ["a", "b"]
    assert crystals.atom_types.tolist() == [[84], [84]]


def test_what_is_there_stays(server, tmp_path):
    (tmp_path / "train.csv.gz").write_bytes(b"mine")
    (tmp_path / "val.csv").write_bytes(b"mine too")
    server.asked.clear()
    assert download_dataset("mp_20", tmp_path, address=f"{server.address}/mp_20") == {"test.csv": 2}
    assert server.asked == ["/mp_20/test.csv"]
    assert (tmp_path / "train.csv.gz").read_bytes() == b"mine"
    assert (tmp_path / "val.csv").read_bytes() == b"mine too"


def test_a_split_in_another_form_stays(server, tmp_path):
    for name in ("train.zip", "val.extxyz"):
        (tmp_path / name).write_bytes(b"mine")
    assert download_dataset("mp_20", tmp_path, address=f"{server.address}/mp_20") == {"test.csv": 2}
    assert names(tmp_path) == ["test.csv", "train.zip", "val.extxyz"]


def test_an_interrupted_set_goes_on(server, tmp_path):
    with pytest.raises(ConnectionError, match=r"two/val\.csv could not be fetched .*404"):
        download_dataset("mp_20", tmp_path, address=f"{server.address}/two")
    assert names(tmp_path) == ["train.csv"]
    counts = download_dataset("mp_20", tmp_path, address=f"{server.address}/mp_20")
    assert counts == {"val.csv": 2, "test.csv": 2}


def test_splits_come_out_of_a_zip(server, tmp_path):
    address = f"{server.address}/alex.zip"
    counts = download_dataset("alex_mp_20", tmp_path, address=address)
    assert counts == {"train.csv": 2, "val.csv": 2}
    assert names(tmp_path) == ["train.csv", "val.csv"]
    server.asked.clear()
    assert download_dataset("alex_mp_20", tmp_path, address=address) == {}
    assert not server.asked


@pytest.mark.parametrize(
    ("place", "error", "said"),
    [
        (
            "pointer",
            ValueError,
            r"train\.csv of .* is no table of crystals: it has no column",
        ),
        ("cut", ConnectionError, "ended after .* bytes|IncompleteRead"),
        ("empty.zip", ValueError, "holds none of train"),
        ("broken.zip", ValueError, "is no zip"),
    ],
)
def test_what_is_no_data_set_leaves_no_file(server, tmp_path, place, error, said):
    with pytest.raises(error, match=said):
        download_dataset("mp_20", tmp_path, address=f"{server.address}/{place}")
    assert names(tmp_path) == []


def test_no_server(tmp_path):
    with pytest.raises(ConnectionError, match="could not be fetched"):
        download_dataset("mp_20", tmp_path, address="http://127.0.0.1:9/mp_20")


def test_unknown_name(tmp_path):
    with pytest.raises(ValueError, match=r"did you mean 'mp_20'\?"):
        download_dataset("mp20", tmp_path)


def test_a_missing_published_set_says_how_to_fetch_it():
    with pytest.raises(ValueError, match=r"miad_jax\.download mp_20 --out=data/mp_20` fetches it"):
        load_dataset("data/mp_20")
