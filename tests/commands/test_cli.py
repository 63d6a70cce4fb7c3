"""What the commands say and leave when something ends them."""

import errno
import io
import signal
import subprocess
import sys
import textwrap
import time
from unittest import mock

import pytest

from miad_jax.commands import cli, start
from miad_jax.commands.start import lacks_memory
from miad_jax.storage.files import write_atomically
from tests.in_process import ROOT


@pytest.fixture(autouse=True)
def signals(monkeypatch):
    """Handlers of signals as they were."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


def ended_by(error, capfd):
    """Exit code and words of a command that raises."""

    def main(arguments):
        raise error

    with pytest.raises(SystemExit) as ended:
        cli.run(main)
    return ended.value.code, capfd.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("no such thing"), 2, "error: no such thing\n"),
        (FloatingPointError("the loss of step 3"), 1, "error: the loss of step 3\n"),
        (FileNotFoundError(2, "No such file", "x.csv"), 2, "[Errno 2] No such file: 'x.csv'\n"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b.npz"), 1, "for a/b.npz: make room"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "a/b.npz"), 1, "for a/b.npz: make room"),
        (ValueError("RESOURCE_EXHAUSTED: write: No space left on device"), 1, "make room"),
        (MemoryError(), 1, "too little memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 1, "too little memory"),
        (ImportError("lib.so: failed to map segment from shared object"), 1, "too little memory"),
        (RuntimeError("can't start new thread"), 1, "too little memory"),
        (KeyboardInterrupt(), 130, "interrupted; the same command continues"),
    ],
)  # fmt: skip
def test_each_end_has_its_code_and_one_sentence(capfd, error, code, said):
    found, words = ended_by(error, capfd)
    assert found == code
    assert said in words
    assert words.strip().count("\n") == 0


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_a_terminal_has_no_character_for_is_spelt_out(monkeypatch, encoding):
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)

    def main(arguments):
        print("0.1 Å, σ, \udcff")
        raise ValueError("no σ")

    monkeypatch.setattr(start, "importlib", mock.Mock(import_module=_imported(main)))
    with pytest.raises(SystemExit) as ended:
        start.start("sample")
    assert ended.value.code == 2
    for stream in (out, err):
        stream.flush()
    known = "σ" if encoding == "utf-8" else "\\u03c3"
    assert known in out.buffer.getvalue().decode(encoding)
    assert err.buffer.getvalue().decode(encoding) == f"error: no {known}\n"


def _imported(main):
    """What stands in for the import of a command."""
    return lambda name: cli if name.endswith(".cli") else mock.Mock(main=main)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_imports_ends_with_130(monkeypatch, capfd, number):
    def imports(name):
        signal.raise_signal(number)

    monkeypatch.setattr(start, "importlib", mock.Mock(import_module=imports))
    with pytest.raises(SystemExit) as ended:
        start.start("sample")
    assert ended.value.code == 130
    assert capfd.readouterr().err == "\ninterrupted; the same command continues\n"


def test_a_signal_within_a_finalizer_is_not_lost(monkeypatch, capfd):
    class Finalized:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    def main(arguments):
        Finalized()
        time.sleep(20)
        raise AssertionError("the command went on")

    monkeypatch.setattr(start, "importlib", mock.Mock(import_module=_imported(main)))
    with pytest.raises(SystemExit) as ended:
        start.start("sample")
    assert ended.value.code == 130
    assert capfd.readouterr().err == "\ninterrupted; the same command continues\n"


def test_an_error_of_the_program_is_raised():
    def main(arguments):
        raise KeyError("a fault")

    with pytest.raises(KeyError, match="a fault"):
        cli.run(main)
    assert not lacks_memory(ImportError("No module named 'x'"))
    assert not lacks_memory(RuntimeError("something else"))


def test_a_full_disk_names_the_file(tmp_path, capfd):
    with (
        mock.patch("os.fsync", side_effect=OSError(errno.ENOSPC, "No space left on device")),
        pytest.raises(OSError, match="No space") as raised,
    ):
        write_atomically(tmp_path / "samples.csv", "x")
    assert raised.value.filename == str(tmp_path / "samples.csv")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_asks_and_ctrl_c_then_interrupts(number, capfd):
    asked = cli.stop_on_signal()
    assert not asked()
    signal.raise_signal(number)
    assert asked()
    assert "ending with a checkpoint" in capfd.readouterr().err
    signal.raise_signal(signal.SIGTERM)  # asks for nothing new
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_two_ctrl_c_during_one_long_call_are_two():
    asked = cli.stop_on_signal()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    _, writer = cli._signal_sockets()
    signal.raise_signal(signal.SIGINT)
    writer.send(bytes([signal.SIGINT]))  # as the interpreter writes it, before a handler runs
    with pytest.raises(KeyboardInterrupt):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    assert asked()


def test_an_ignored_hangup_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asked = cli.stop_on_signal()
    signal.raise_signal(signal.SIGHUP)
    assert not asked()


@pytest.mark.slow
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_clean_up_ends_with_130(second):
    script = """
    import time
    from miad_jax.commands import cli, start

    def main(arguments):
        try:
            print("begun", flush=True)
            time.sleep(100)
        finally:
            print("cleaning", flush=True)
            time.sleep(100)

    cli.run(main)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cleaning\n"
    began = time.monotonic()
    process.send_signal(second)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - began < 20
    assert "Traceback" not in said
