"""Fetching data sets, from a local server."""

import hashlib
import io
import re
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from miad_jax.data import download, load_dataset
from miad_jax.data.download import download_dataset
from miad_jax.data.published import PUBLISHED, PublishedFile
from miad_jax.parallel.progress import Bar, Progress

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
    "/large/train.csv": TABLE + b"\n" * 1_500_000,
    "/prose/train.csv": b"this is a web page",
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
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield running
        running.shutdown()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_splits_come_and_load(server, tmp_path):
    folder = tmp_path / "data" / "mp_20"
    counts = download_dataset("mp_20", folder, address=f"{server.address}/mp_20/")
    assert counts == {"train.csv": 2, "val.csv": 2, "test.csv": 2}
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
        ("prose", ValueError, r"train\.csv of .* is no table of crystals: it has no column"),
        ("pointer", ValueError, r"holds a pointer of Git LFS .* media\.githubusercontent\.com"),
        ("cut", ConnectionError, r"cut/train\.csv could not be fetched .*1 more expected"),
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


def test_an_address_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="allowed: one of http:// or https://"):
        download_dataset("mp_20", tmp_path, address="s3://bucket/mp_20")
    assert names(tmp_path) == []


@pytest.fixture
def published(server, monkeypatch):
    """Published sets that the local server has."""

    def file(page, content):
        digest = hashlib.sha256(content).hexdigest()
        return PublishedFile(f"{server.address}/{page}", digest, len(content))

    sets = {
        "good": {f"{s}.csv": file(f"mp_20/{s}.csv", TABLE) for s in ("train", "val", "test")},
        "changed": {
            "train.csv": file("mp_20/train.csv", TABLE),
            "val.csv": file("mp_20/val.csv", TABLE + b"longer"),
        },
        "zip": {"alex.zip": file("alex.zip", PAGES["/alex.zip"])},
        "changed zip": {"alex.zip": file("alex.zip", b"other")},
        "pointer": {"train.csv": file("pointer/train.csv", TABLE)},
    }
    monkeypatch.setattr(download, "PUBLISHED", sets)


def test_published_files_come(published, tmp_path):
    assert download_dataset("good", tmp_path / "a") == dict.fromkeys(
        ("train.csv", "val.csv", "test.csv"), 2
    )
    assert download_dataset("zip", tmp_path / "b") == {"train.csv": 2, "val.csv": 2}
    assert names(tmp_path / "b") == ["train.csv", "val.csv"]


def test_a_file_that_is_not_the_published_one_is_refused(published, tmp_path):
    expected = len(TABLE) + len(b"longer")
    said = rf"val\.csv gave {len(TABLE)} bytes .* published file of {expected} bytes .*--address"
    with pytest.raises(ValueError, match=said):
        download_dataset("changed", tmp_path)
    assert names(tmp_path) == ["train.csv"]
    with pytest.raises(ValueError, match=r"alex\.zip gave .* published file of 5 bytes"):
        download_dataset("changed zip", tmp_path / "zip")
    assert names(tmp_path / "zip") == []
    with pytest.raises(ValueError, match="holds a pointer of Git LFS"):
        download_dataset("pointer", tmp_path / "pointer")
    assert names(tmp_path / "pointer") == []


def test_the_files_of_the_published_sets():
    """As the table of the data sets has them."""
    assert list(PUBLISHED) == ["mp_20", "perov_5", "carbon_24", "mpts_52", "alex_mp_20"]
    files = [file for files in PUBLISHED.values() for file in files.values()]
    assert len({file.sha256 for file in files}) == len({file.address for file in files}) == 13
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in files)
    assert sum(file.num_bytes for file in files) == 454_659_342
    media = "https://media.githubusercontent.com/media"
    flowmm = f"{media}/facebookresearch/flowmm/main/data"
    assert PUBLISHED["mpts_52"]["val.csv"].address == f"{flowmm}/mpts_52/val.csv"
    assert list(PUBLISHED["perov_5"]) == ["train.csv", "val.csv", "test.csv"]
    assert all(file.address.startswith(media) for file in files)


def test_progress_is_told_in_megabytes(server, tmp_path):
    told = []

    class ToldBar(Bar):
        def update(self, done, numbers=None):
            told.append(done)

        def close(self):
            told.append("closed")

    class Told(Progress):
        def bar(self, description, total, unit="", done=0):
            told.append((description, total, unit))
            return ToldBar()

    with pytest.raises(ConnectionError, match="404"):
        download_dataset("mp_20", tmp_path, address=f"{server.address}/large", progress=Told())
    assert told == [("train.csv", 1.5, "MB"), 1.0, 1.5, 1.5, "closed", "closed"]


def test_unknown_name(tmp_path):
    with pytest.raises(ValueError, match=r"did you mean 'mp_20'\?"):
        download_dataset("mp20", tmp_path)


def test_a_missing_published_set_says_how_to_fetch_it():
    with pytest.raises(ValueError, match=r"miad_jax\.download mp_20 --out=data/mp_20` fetches it"):
        load_dataset("data/mp_20")
