"""Files that are all of their kind in a folder, and space that is looked at before it is used."""

import shutil
from unittest import mock

import pytest

from miad_jax.storage.files import check_space, replace_files

PATTERN = r"\d+_.*\.cif"


def test_files_of_one_kind_are_replaced_and_others_stay(tmp_path):
    folder = tmp_path / "cif"
    replace_files(folder, {"1_a.cif": b"a", "2_b.cif": b"b"}, PATTERN)
    (folder / "notes.cif").write_bytes(b"mine")
    kept = (folder / "1_a.cif").stat()
    replace_files(folder, {"1_a.cif": b"a", "3_c.cif": b"c"}, PATTERN)
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert found == {"1_a.cif": b"a", "3_c.cif": b"c", "notes.cif": b"mine"}
    assert (folder / "1_a.cif").stat().st_ino == kept.st_ino


def test_a_kill_leaves_a_whole_file_or_none(tmp_path):
    replace_files(tmp_path, {"1_a.cif": b"before"}, PATTERN)
    with mock.patch("os.replace", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        replace_files(tmp_path, {"1_a.cif": b"after", "2_b.cif": b"new"}, PATTERN)
    assert {x.name: x.read_bytes() for x in tmp_path.iterdir()} == {"1_a.cif": b"before"}


def test_space_is_looked_at_first(tmp_path):
    usage = shutil.disk_usage(tmp_path)._replace(free=3_000_000)
    with mock.patch("shutil.disk_usage", return_value=usage):
        check_space(tmp_path, 500, 6000, "samples")
        with pytest.raises(ValueError, match=r"501 samples take 0\.00301 GB .* at most 500 more"):
            check_space(tmp_path, 501, 6000, "samples")
