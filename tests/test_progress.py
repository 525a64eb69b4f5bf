"""What is shown of work that takes long: lines of a log, the live line of a terminal."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator

import pytest

from stndt_jax.console import progress
from stndt_jax.console.lines import counted, duration


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time, which stands still but for the tests; lines come as soon as they are due."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "FIRST_S", 2.0)
    monkeypatch.setattr(progress, "_TICK_S", 0.001)
    yield now


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the thread of the display prints now."""
    time.sleep(0.1)
    return capsys.readouterr().err.splitlines()


def test_lines_of_a_log(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown():
        clock[0] += 1.9
        assert lines(capsys) == []
        clock[0] += 0.2
        assert lines(capsys) == ["working, 2 s so far"]
        with progress.task("compiling"):
            clock[0] += 1
            assert lines(capsys) == []
            clock[0] += 2
            assert lines(capsys) == ["compiling, 3 s so far"]
            clock[0] += 19
            assert lines(capsys) == []
            clock[0] += 2
            assert lines(capsys) == ["compiling, 24 s so far"]
        progress.say("a line of another")
        clock[0] += 19
        assert lines(capsys) == ["a line of another"]
        with progress.task("trials", 10) as trials, progress.task("epoch", 40, 20) as epoch:
            trials.at(4)
            epoch.at(20)
            clock[0] += 10
            epoch.at(30, "loss 0.5")
            (line,) = lines(capsys)
            assert line == "trials 4/10; epoch 30/40  loss 0.5  about 10 s left"
            trials.at(5)
            clock[0] += 30
            assert lines(capsys) == ["trials 5/10; epoch 30/40  loss 0.5  about 20 s left"]
    clock[0] += 100
    assert lines(capsys) == []


def test_pauses_grow_with_the_time_taken() -> None:
    assert [progress.pause_s(s) for s in (0, 120, 240, 480, 7200)] == [15, 15, 30, 60, 60]


def test_the_time_left_is_that_of_late(clock: list[float]) -> None:
    task = progress.Task("epoch", 200)
    task.at(0)
    assert task.left_s is None and task.line == "epoch 0/200, 0 s so far"
    for done in range(1, 101):
        clock[0] += 10 if done <= 50 else 1
        task.at(done)
    assert task.left_s == pytest.approx(100)
    clock[0] += 30
    assert task.left_s == pytest.approx(70)
    clock[0] += 300
    assert task.left_s is None and task.line == "epoch 100/200, 15 min so far"
    task.at(200, "done")
    assert task.line == "epoch 200/200  done"


def test_nothing_is_shown_without_a_display(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    @progress.displayed
    def public(*, quiet: bool = False) -> list[int]:
        with progress.task("thinking"):
            clock[0] += 10
            time.sleep(0.1)
        return list(progress.each([1, 2, 3], "numbers"))

    with progress.task("compiling"):
        clock[0] += 10
        assert lines(capsys) == []
    assert public(quiet=True) == [1, 2, 3]
    assert lines(capsys) == []
    assert public() == [1, 2, 3]
    assert lines(capsys) == ["thinking, 10 s so far"]
    with progress.shown():
        progress.off()
        clock[0] += 10
        assert lines(capsys) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_live_line_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(progress, "LIVE_S", 0.0)
    out, err = Terminal(), Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    with progress.shown(), progress.task("epoch", 30) as epoch:
        assert progress.is_live()
        epoch.at(15, "loss " + "0" * 80)
        time.sleep(0.3)
        print("a line of the command " + "x" * 70)
        progress.say("a line of the log")
        time.sleep(0.2)
    assert not progress.is_live() and out.getvalue() == ""
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", err.getvalue())
    assert "epoch 15/30 ━━━━━━━━━━━━━━━━━━━━ 0 s so far  loss 0000" in shown
    assert "a line of the command " + "x" * 70 + "\n" in shown and "a line of the log\n" in shown
    assert max(len(row) for row in re.split(r"[\r\n]", shown) if "epoch" in row) < 60
    # The cursor, hidden meanwhile, is there again.
    assert err.getvalue().rindex("\x1b[?25h") > err.getvalue().rindex("\x1b[?25l")


def test_words() -> None:
    seconds = (0.4, 89, 91, 5399, 5500, 7200)
    assert [duration(s) for s in seconds] == [
        "0 s",
        "89 s",
        "2 min",
        "1 h 30 min",
        "1 h 32 min",
        "2 h",
    ]
    assert counted(1, "trial") == "1 trial" and counted(0, "trial") == "0 trials"
    assert counted(2, "line was", "lines were") == "2 lines were"
