"""Whether a folder holds the same run, and what is said when it does not."""

import json
import os

import pytest

from miad_jax.storage.run_record import RunRecord, differences

RECORD = RunRecord("run.json", format="things 1", kind="things", key="run")
FLAT = RunRecord("settings.json", format="flat 1", kind="flat things", others=("log", "parts"))
RUN = {"seed": 7, "network": {"size": 12, "name": "cspnet"}, "bounds": (1, 2)}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_an_empty_and_the_same_folder(tmp_path):
    for folder in (tmp_path / "some" / "where", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        expected = {**RUN, "bounds": [1, 2]}
        assert RECORD.open(folder, RUN) == expected
        written = json.loads((folder / "run.json").read_text())
        assert len(written.pop("sha256")) == 64
        assert written == {"format": "things 1", "run": expected}
        other_order = dict(reversed(RUN.items()))
        assert RECORD.open(folder, other_order) == RECORD.read(folder) == expected
        assert names(folder) == ["run.json"]


def test_settings_may_stand_beside_the_format(tmp_path):
    (tmp_path / "log").write_text("")
    FLAT.open(tmp_path, RUN)
    written = json.loads((tmp_path / "settings.json").read_text())
    del written["sha256"]
    assert written == {"format": "flat 1", **RUN, "bounds": [1, 2]}
    assert FLAT.open(tmp_path, RUN) == FLAT.read(tmp_path) == {**RUN, "bounds": [1, 2]}


@pytest.mark.parametrize("record", [RECORD, FLAT])
def test_a_record_that_was_changed_is_refused(tmp_path, record):
    record.open(tmp_path, RUN)
    path = tmp_path / record.file_name
    text = path.read_text()
    path.write_text(text.replace('"seed": 7', '"seed": 5'))
    for refused in (lambda: record.read(tmp_path), lambda: record.open(tmp_path, RUN)):
        with pytest.raises(ValueError, match=r"\.json .*does not fit its hash"):
            refused()


def test_another_run_is_refused_with_every_difference(tmp_path):
    RECORD.open(tmp_path, RUN)
    before = (tmp_path / "run.json").read_bytes()
    here = {"seed": 8, "network": {"size": 12}, "bounds": [1, 2], "steps": 5}
    with pytest.raises(ValueError, match="holds things of another run") as error:
        RECORD.open(tmp_path, here)
    assert (
        "another run: network.name is cspnet there and (missing) now; seed is 7 there and 8 now; "
        "steps is (missing) there and 5 now. Name another folder, or repeat" in str(error.value)
    )
    assert (tmp_path / "run.json").read_bytes() == before


def test_fields_that_may_differ_are_named_with_those_below_them(tmp_path):
    RECORD.open(tmp_path, RUN)
    here = {"seed": 8, "network": {"size": 9}, "bounds": [1, 2]}
    there = RECORD.open(tmp_path, here, may_differ=("seed", "network"))
    assert there["seed"] == 7
    with pytest.raises(ValueError, match=r"another run: network\.size is 12 there and 9 now\."):
        RECORD.open(tmp_path, here, may_differ=("seed", "network.name", "network.si"))


def test_an_older_record_is_upgraded_and_its_file_left(tmp_path):
    RECORD.open(tmp_path, {"rng": 7})
    before = (tmp_path / "run.json").read_bytes()

    def upgrade(run):
        return {"seed": run["rng"]}

    assert RECORD.open(tmp_path, {"seed": 7}, upgrade=upgrade) == {"seed": 7}
    with pytest.raises(ValueError, match="seed is 7 there and 8 now"):
        RECORD.open(tmp_path, {"seed": 8}, upgrade=upgrade)
    assert (tmp_path / "run.json").read_bytes() == before


def test_foreign_folders_and_files_are_refused_and_left_alone(tmp_path):
    for name in ("a", "b", "c", "parts", "z"):
        (tmp_path / name).write_text(name)
    with pytest.raises(ValueError, match=r"holds files \(a, b, c, …\) but no run\.json, so it was"):
        RECORD.open(tmp_path, RUN)
    with pytest.raises(ValueError, match=r"holds files \(a, b, c, …\) but no settings\.json"):
        FLAT.open(tmp_path, RUN)
    with pytest.raises(ValueError, match="is a file, not a folder: name a new folder for things"):
        RECORD.open(tmp_path / "a", RUN)
    assert names(tmp_path) == ["a", "b", "c", "parts", "z"]
    with pytest.raises(ValueError, match=r"holds no run\.json: name a folder of things"):
        RECORD.read(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[1]", b'{"run": 1}', b'{"format": "things 1", "run": 1}', b"\xff\xfe",
     b'{"format": "things 1"}', b'{"format": "things 2", "run": {}}'],
)  # fmt: skip
def test_a_record_that_cannot_be_read_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.json is no record of things \(.*\): name another"):
        RECORD.open(tmp_path, RUN)
    assert path.read_bytes() == content


def test_what_a_kill_left_does_not_count_and_is_removed(tmp_path):
    left = [tmp_path / ".run.json.123.partial", tmp_path / ".other.124.partial"]
    for half in left:
        half.write_text("{")
        os.utime(half, (0, 0))
        RECORD.open(tmp_path, RUN)
        assert names(tmp_path) == ["run.json"]


def test_what_another_process_is_writing_stays(tmp_path):
    (tmp_path / ".run.json.123.partial").write_text("{")
    RECORD.open(tmp_path, RUN)
    assert names(tmp_path) == [".run.json.123.partial", "run.json"]


def test_differences_of_nested_settings():
    there = {"a": {"b": 1, "c": {}}, "d": None}
    assert differences(there, there) == []
    assert differences(there, {"a": {"b": 1, "c": {"e": 2}}, "d": 0}) == [
        "a.c is {} there and (missing) now",
        "a.c.e is (missing) there and 2 now",
        "d is None there and 0 now",
    ]
    assert differences(there, {"a": 1}, may_differ=("a",)) == ["d is None there and (missing) now"]
