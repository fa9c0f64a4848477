"""Progress: a line a minute where nobody looks at a bar."""

import time

from datasetkit.cli import console


def lines(capsys):
    return capsys.readouterr().err.splitlines()


def test_a_log_gets_lines_with_pace_and_note(monkeypatch, capsys):
    clock = iter(range(0, 1000, 40))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    bars = console.Bars()
    bars.start("training", 1000)
    for step in range(4):
        bars.note(f"loss {step}")
        bars.advance()
    assert lines(capsys) == [
        "training 2/1,000 40.0 s each loss 1",
        "training 4/1,000 40.0 s each loss 3",
    ]


def test_what_a_resumed_run_had_done_is_no_part_of_its_pace(monkeypatch, capsys):
    clock = iter((0.0, 0.0, 100.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    bars = console.Bars()
    bars.start("training", 1000)
    bars.advance(500)
    bars.advance(1)
    assert lines(capsys) == ["training 501/1,000 100.0 s each"]


def test_what_is_short_says_nothing(capsys):
    bars = console.Bars()
    bars.start("tagging", 3)
    bars.advance(3)
    bars.finish()
    bars.advance()
    assert lines(capsys) == []
