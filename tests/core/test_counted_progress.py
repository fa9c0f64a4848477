"""Long loops report how many of their items are done."""

from datasetkit.core import progress
from datasetkit.core.progress import SilentReporter, WarningRecorder, counted_off


class Counts(SilentReporter):
    def __init__(self):
        self.started, self.done, self.ended, self.warned = [], 0, 0, []

    def start(self, label, total):
        self.started.append((label, total))

    def advance(self, n=1):
        self.done += n

    def finish(self):
        self.ended += 1

    def warn(self, message):
        self.warned.append(message)


def test_every_item_is_yielded_and_counted(monkeypatch):
    for seconds in (0.0, 100.0):  # each by itself; all at the end
        monkeypatch.setattr(progress, "_EVERY_S", seconds)
        counts = Counts()
        assert list(counted_off(range(7), "writing", counts)) == list(range(7))
        assert (counts.started, counts.done, counts.ended) == ([("writing", 7)], 7, 1)


def test_nothing_to_do_is_no_item():
    counts = Counts()
    assert list(counted_off((), "writing", counts)) == []
    assert (counts.started, counts.done) == ([], 0)


def test_warnings_are_kept_and_passed_on():
    counts = Counts()
    recorder = WarningRecorder(counts)
    recorder.start("looking", 2)
    recorder.warn("careful")
    assert recorder.warnings == counts.warned == ["careful"]
    assert counts.started == [("looking", 2)]
