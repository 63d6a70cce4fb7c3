"""What is shown of work that goes on, and where."""

import sys

import pytest

from miad_jax.parallel.progress import Progress, TerminalProgress, as_progress


def tell(progress):
    progress.say("relaxation")
    with progress.bar("sampling", 8, "samples", done=2) as bar:
        bar.update(4, {"loss": 0.12345})
        bar.update(6)
    with progress.bar("reading", 3) as bar:
        for _ in range(3):
            bar.advance()


@pytest.mark.parametrize("silent", [False, None, Progress()])
def test_nothing_is_shown_by_default(silent, capfd):
    tell(as_progress(silent))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("loud", [True, TerminalProgress()])
def test_lines_and_bars_go_to_standard_error(loud, capfd):
    tell(as_progress(loud))
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("relaxation\n")
    assert "2/8" in err
    assert "loss=0.123" in err
    assert "6/8" in err
    assert "3/3" in err


def test_a_bar_that_is_done_at_once_is_not_starting(capfd):
    with TerminalProgress().bar("sampling", 4, "samples") as bar:
        bar.advance(4)
    first, last = capfd.readouterr().err.strip().split("\r")
    assert "starting" in first
    assert "4/4" in last
    assert "starting" not in last


def test_a_users_own_progress_is_taken_as_it_is():
    mine = Progress()
    assert as_progress(mine) is mine


def test_the_rate_counts_from_the_first_call(monkeypatch):
    import tqdm

    clock = [0.0]
    monkeypatch.setattr(tqdm.tqdm, "_time", lambda self: clock[0], raising=False)
    bar = TerminalProgress().bar("training", 100, "steps")
    bar._bar._time = lambda: clock[0]
    clock[0] = 1000.0  # compilation, and a run that was resumed at step 50
    bar.update(50)
    clock[0] = 1010.0
    bar.update(60)
    shown = bar._bar.format_dict
    bar.close()
    assert (shown["n"] - shown["initial"], shown["n"]) == (10, 60)
    assert shown["elapsed"] < 100
    assert shown["rate"] == pytest.approx(1.0)


def test_the_rate_of_shares_counts_from_the_first_too(monkeypatch):
    clock = [0.0]
    bar = TerminalProgress().bar("sampling", 16, "samples", done=4)
    bar._bar._time = lambda: clock[0]
    clock[0] = 1000.0
    bar.advance(2)
    clock[0] = 1010.0
    bar.advance(5)
    shown = bar._bar.format_dict
    bar.close()
    assert (shown["n"] - shown["initial"], shown["n"]) == (5, 11)
    assert shown["elapsed"] < 100


def test_work_of_one_call_keeps_its_time():
    with TerminalProgress().bar("reading", 3) as bar:
        bar.advance(3)
        shown = bar._bar.format_dict
    assert (shown["initial"], shown["n"]) == (0, 3)


def test_a_part_has_a_bar_below_on_a_terminal(capfd, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with TerminalProgress().bar("sampling", 2) as bar:
        bar.advance(1)
        with bar.part("attempt 2 of 4", 2, "samples") as part:
            part.advance(1)
        bar.advance(1)
    said = capfd.readouterr().err
    assert "attempt 2 of 4:  50%" in said
    assert said.rstrip().splitlines()[-1].count("2/2")
    with Progress().bar("sampling", 2).part("attempt", 1) as silent:
        silent.advance(1)


def test_shares_add_up_to_the_whole(recwarn, capfd):
    with TerminalProgress().bar("sampling", 16, "samples") as bar:
        for _ in range(60):
            bar.advance(16 / 60)
    assert "16.0/16 " in capfd.readouterr().err
    assert not recwarn
