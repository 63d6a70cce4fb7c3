"""The cache is a help: where it is damaged or cannot be, work goes on and it is said."""

from pathlib import Path

import numpy as np
import pytest

from miad_jax.storage import cache
from miad_jax.storage.cache import default_cache_dir, is_writable, kept_array

VALUES = np.arange(6.0).reshape(2, 3)


def kept(file, made):
    return kept_array(file, lambda: made.append(0) or VALUES, lambda x: x.shape == VALUES.shape)


def test_an_array_is_made_once(tmp_path):
    made, file = [], tmp_path / "sub" / "a.npz"
    for _ in range(2):
        np.testing.assert_array_equal(kept(file, made), VALUES)
    assert len(made) == 1


def test_an_array_of_an_older_version_is_read(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    made = []
    np.testing.assert_array_equal(kept(tmp_path / "a.npz", made), VALUES)
    assert not made


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00", b"PK\x03\x04"])
@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_a_damaged_one_is_told_and_made_again(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    made = []
    with pytest.warns(UserWarning, match=rf"{name} is damaged \(.+\) and made again"):
        np.testing.assert_array_equal(kept(tmp_path / "a.npz", made), VALUES)
    assert len(made) == 1


def test_what_cannot_be_kept_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    assert not is_writable(tmp_path / "file" / "sub")
    assert is_writable(tmp_path / "new" / "sub")
    with pytest.warns(UserWarning, match=r"could not be kept .*MIAD_JAX_CACHE"):
        kept(tmp_path / "file" / "a.npz", [])


@pytest.mark.parametrize("variables", [{}, {"MIAD_JAX_CACHE": "~/cache"}])
def test_without_a_home_a_passing_folder_serves(monkeypatch, variables):
    def homeless(*_):
        raise RuntimeError("Could not determine home directory.")

    for name in ("MIAD_JAX_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(Path, "expanduser", homeless)
    cache._passing_folder.cache_clear()
    with pytest.warns(UserWarning, match="no cache folder .*MIAD_JAX_CACHE"):
        folder = default_cache_dir()
    assert is_writable(folder)
    assert default_cache_dir() == folder  # told once
    cache._passing_folder.cache_clear()
