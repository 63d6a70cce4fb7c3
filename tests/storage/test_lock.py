"""One writer a folder: who is refused, what is said, and what a kill leaves."""

import re
import socket
import subprocess
import sys
import textwrap

import pytest

from miad_jax.storage.lock import LOCK, one_writer

HOLD = """
    import sys
    from pathlib import Path
    from miad_jax.storage.lock import one_writer
    with one_writer(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path):
    """Another process that writes to the folder until it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), tmp_path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_writer_is_refused_and_the_first_is_named(writer, tmp_path):
    said = f"is written to by process {writer.pid} on {socket.gethostname()}: wait for its end"
    with pytest.raises(ValueError, match=said), one_writer(tmp_path):
        pass
    writer.communicate("")
    assert not (tmp_path / LOCK).exists()
    with one_writer(tmp_path):
        assert (tmp_path / LOCK).exists()


def test_the_mark_of_a_killed_process_of_this_host_is_taken_over(writer, tmp_path):
    writer.kill()
    writer.wait()
    assert (tmp_path / LOCK).exists()
    with (
        one_writer(tmp_path),
        pytest.raises(ValueError, match="is written to"),
        one_writer(tmp_path),
    ):
        pass
    assert not (tmp_path / LOCK).exists()


def test_the_mark_of_another_host_stays_and_the_line_that_deletes_it_is_said(tmp_path):
    (tmp_path / LOCK).write_text("12345\nnode017\n")
    said = f"by process 12345 on node017: .* delete its mark: rm {re.escape(str(tmp_path / LOCK))}"
    with pytest.raises(ValueError, match=said), one_writer(tmp_path):
        pass
    (tmp_path / LOCK).write_text("")
    with pytest.raises(ValueError, match="is written to by another process"), one_writer(tmp_path):
        pass


def test_an_error_frees_the_folder_and_a_file_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt), one_writer(tmp_path / "new"):
        raise KeyboardInterrupt
    assert not (tmp_path / "new" / LOCK).exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file, not a folder"), one_writer(tmp_path / "file"):
        pass
