"""Files with a hash of their own content: damage is found, files without a hash are read."""

import io
import json
import random

import numpy as np
import pytest

from miad_jax.storage.hashed import hashed_json, hashed_npz, read_json, read_npz

ARRAYS = {
    "numbers": np.arange(6, dtype=np.float32).reshape(2, 3),
    "words": np.array(["Na", "Cäsium"]),
    "one": np.array(7),
    "none": np.zeros((0, 3)),
}
CONTENT = {"format": "things 1", "energy": -1.25, "bounds": (1, 2), "deep": {"b": None, "a": [0.1]}}


def test_what_was_written_is_read(tmp_path):
    (tmp_path / "a.npz").write_bytes(hashed_npz(ARRAYS))
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert hashed_npz(ARRAYS) == hashed_npz(ARRAYS)
    (tmp_path / "a.json").write_bytes(hashed_json(CONTENT))
    assert read_json(tmp_path / "a.json") == {**CONTENT, "bounds": [1, 2]}


def test_files_without_a_hash_are_read_as_they_are(tmp_path):
    np.savez(tmp_path / "old.npz", **ARRAYS)
    assert read_npz(tmp_path / "old.npz").keys() == ARRAYS.keys()
    (tmp_path / "old.json").write_text(json.dumps(CONTENT))
    assert read_json(tmp_path / "old.json") == {**CONTENT, "bounds": [1, 2]}


def test_no_flipped_bit_passes_and_each_is_a_sentence(tmp_path):
    rng = random.Random(0)
    for name, write, read in (
        ("a.npz", lambda: hashed_npz(ARRAYS), read_npz),
        ("a.json", lambda: hashed_json(CONTENT), read_json),
    ):
        good = write()
        path = tmp_path / name
        path.write_bytes(good)
        expected = read(path)
        said = []
        for _ in range(300):
            place = rng.randrange(len(good))
            bad = bytearray(good)
            bad[place] ^= 1 << rng.randrange(8)
            path.write_bytes(bad)
            try:
                found = read(path)
            except ValueError as error:
                said.append(str(error))
            else:  # nothing that was written is another, and only the hash may be hidden
                assert {k: repr(found[k]) for k in expected} == {
                    k: repr(x) for k, x in expected.items()
                }
        assert len(said) > 100
        assert not any("\n" in sentence for sentence in said)


@pytest.mark.parametrize("cut", [0, 1, 30, 200])
def test_what_is_no_archive_is_a_sentence(tmp_path, cut):
    (tmp_path / "a.npz").write_bytes(hashed_npz(ARRAYS)[:cut])
    with pytest.raises(ValueError, match=r"."):
        read_npz(tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError):
        read_npz(tmp_path / "nothing.npz")


def test_an_exchanged_member_is_found(tmp_path):
    """As a tool that rewrites archives would leave it: each member is whole, their sum is not."""
    buffer = io.BytesIO()
    good = dict(np.load(io.BytesIO(hashed_npz(ARRAYS))))
    np.savez_compressed(buffer, **(good | {"one": np.array(8)}))
    (tmp_path / "a.npz").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="does not fit its hash"):
        read_npz(tmp_path / "a.npz")
    text = hashed_json(CONTENT).decode().replace("-1.25", "-1.35")
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match="does not fit its hash"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["", "[1]", "7", "{", "[" * 100_000, '{"a": '])
def test_what_is_no_object_is_a_sentence(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"."):
        read_json(tmp_path / "a.json")
