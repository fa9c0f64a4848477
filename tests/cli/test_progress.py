"""Progress: a bar and phases on a terminal, one line a minute in a log."""

import time
from io import StringIO

import pytest
from rich.console import Console

from datasetkit.cli import console


def lines(capsys):
    return capsys.readouterr().err.splitlines()


def test_a_log_has_lines_with_pace_and_note(monkeypatch, capsys):
    clock = iter(range(0, 1000, 40))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    bars = console.Bars()
    bars.start("training", 1000)
    for step in range(4):
        bars.note(f"loss {step}")
        bars.advance()
    assert lines(capsys) == [
        "training 2/1,000, 11:05:20 left, 40.0 s each, loss 1",
        "training 4/1,000, 11:04:00 left, 40.0 s each, loss 3",
    ]


def test_the_pace_of_a_resumed_run_counts_its_new_steps_only(monkeypatch, capsys):
    clock = iter((0.0, 0.0, 100.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    bars = console.Bars()
    bars.start("training", 1000)
    bars.advance(500)
    bars.advance(1)
    assert lines(capsys) == ["training 501/1,000, 13:51:40 left, 100.0 s each"]


def test_short_work_prints_nothing_to_a_log(capsys):
    bars = console.Bars()
    bars.start("tagging", 3)
    bars.advance(3)
    bars.finish()
    bars.advance()
    assert lines(capsys) == []


@pytest.fixture
def screen(monkeypatch):
    """What a terminal of 120 columns would show."""
    shown = StringIO()
    monkeypatch.setattr(
        console, "_err", lambda: Console(file=shown, force_terminal=True, width=120)
    )
    return shown


def test_a_phase_takes_the_place_of_the_label_until_the_next_item(screen):
    with console.bars() as bars:
        bars.start("step", 3)
        bars.phase("preview 2/3")
        bars.advance()
        assert bars._progress is not None and bars._progress.tasks[0].description == "step"
        bars.phase("saving")
        assert bars._progress.tasks[0].description == "saving"
        bars._progress.refresh()
    assert "saving" in screen.getvalue()


def test_a_phase_without_a_bar_has_a_line_of_its_own(screen):
    with console.bars() as bars:
        bars.phase("loading")
        assert bars._status is not None and str(bars._status.status) == "loading"
        bars.start("encoding", 2)
        bars.advance()
        assert bars._status is None
    assert bars._progress is None


def test_a_log_has_no_line_for_a_phase(capsys):
    bars = console.Bars()
    bars.phase("loading")
    bars.start("step", 3)
    bars.phase("saving")
    bars.finish()
    assert lines(capsys) == []
