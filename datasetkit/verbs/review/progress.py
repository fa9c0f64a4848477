"""How far an edit of the review page is, for the bar at the top of the page."""

from __future__ import annotations

from dataclasses import dataclass

from datasetkit.core.progress import SilentReporter


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` items; total 0: nothing is reported. label: what is done to them."""

    label: str = ""
    done: int = 0
    total: int = 0


class EditProgress(SilentReporter):
    """Keeps the progress of the edit that runs. Any thread may read `now`."""

    def __init__(self) -> None:
        self.now = Progress()

    def start(self, label: str, total: int) -> None:
        self.now = Progress(label, 0, total)

    def advance(self, n: int = 1) -> None:
        now = self.now
        self.now = Progress(now.label, min(now.total, now.done + n), now.total)

    def finish(self) -> None:
        self.now = Progress()
