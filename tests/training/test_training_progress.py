"""What a person or a log sees of a training."""

import io
import re
import sys

import pytest

from lorun.training import Progress, progress


class Clock:
    """Stands in for the time module; seconds pass when told."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_lines_tell_loss_psnr_speed_and_time_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("cs/r25/shared seed 0", 0, 100) as shown:
        clock.now += 20
        shown.update(40, 0.0123, None)
        clock.now += 20
        shown.update(80, 0.00456, 27.891)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "cs/r25/shared seed 0: step 0/100: starts",
        "cs/r25/shared seed 0: step 40/100: loss 0.0123, 2 steps/s, 30 s left",
        "cs/r25/shared seed 0: step 80/100: loss 0.00456, validation 27.89 dB, 2 steps/s, 10 s left",
    ]


def test_a_line_now_and_then_and_always_the_last(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("run", 0, 100) as shown:
        for done in range(1, 101):
            clock.now += 0.25
            shown.update(done, 1.0, None)
    steps = [int(step) for step in re.findall(r"step (\d+)/100", capsys.readouterr().err)]
    assert steps == [0, 1, 41, 81, 100]  # the first at once, then every ten seconds


def test_a_resumed_run_says_so_and_counts_its_own_speed(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("run", 900, 1000) as shown:
        clock.now += 10
        shown.update(910, 1.0, None)
    assert capsys.readouterr().err.splitlines() == [
        "run: step 900/1000: resumes",
        "run: step 910/1000: loss 1, 1 steps/s, 90 s left",
    ]


def test_no_time_passed_is_no_division_by_zero(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("run", 0, 1) as shown:
        shown.update(1, 1.0, None)
    assert capsys.readouterr().err.endswith(" 0 s left\n")


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm-256color")
    with Progress("cs/r25/shared seed 0", 0, 4) as shown:
        shown.update(4, 0.0123, 27.891)
    text = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", terminal.getvalue())
    assert "cs/r25/shared seed 0" in text
    assert "4/4" in text
    assert "loss 0.0123, validation 27.89 dB" in text
