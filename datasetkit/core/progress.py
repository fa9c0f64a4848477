"""How long work reports its progress, without knowing who shows it."""

import time
from collections.abc import Iterable, Iterator, Sized
from typing import Protocol, TypeVar

T = TypeVar("T")
# To report each item would take longer than what is done to many of them.
_EVERY_S = 0.02


class Reporter(Protocol):
    """Where progress and warnings go. The command line shows them; in a library call nothing is
    shown.
    """

    def start(self, label: str, total: int) -> None:
        """Open a progress line of `total` items."""

    def advance(self, n: int = 1) -> None:
        """Count `n` more items as done."""

    def phase(self, name: str) -> None:
        """Name what the work does between two items, or before the first: `loading`, `preview 2/3`,
        `saving`.

        The next start, advance, phase or finish ends it.
        """

    def note(self, text: str) -> None:
        """Show the state of the work beside the progress line; each note replaces the one
        before.
        """

    def finish(self) -> None:
        """Close the progress line."""

    def warn(self, message: str) -> None:
        """Show a message that a person should read now."""


class SilentReporter:
    """The default reporter: shows nothing."""

    def start(self, label: str, total: int) -> None:
        pass

    def advance(self, n: int = 1) -> None:
        pass

    def phase(self, name: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def finish(self) -> None:
        pass

    def warn(self, message: str) -> None:
        pass


SILENT: Reporter = SilentReporter()


def counted_off(
    items: Iterable[T], label: str, reporter: Reporter, *, number: int | None = None
) -> Iterator[T]:
    """Yield items, and report how many of them are done. number: how many there are, where the
    items cannot say it.
    """
    if number is None:
        number = len(items) if isinstance(items, Sized) else 0
    if not number:
        return
    reporter.start(label, number)
    waiting, reported = 0, time.monotonic()
    for item in items:
        yield item
        waiting += 1
        now = time.monotonic()
        if now - reported >= _EVERY_S:
            reporter.advance(waiting)
            waiting, reported = 0, now
    if waiting:
        reporter.advance(waiting)
    reporter.finish()


class WarningRecorder:
    """A reporter that passes everything on to another one, and keeps what it warned of."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.warnings: list[str] = []
        self.start, self.advance, self.finish = reporter.start, reporter.advance, reporter.finish
        self.phase, self.note = reporter.phase, reporter.note

    def warn(self, message: str) -> None:
        self.warnings.append(message)
        self._reporter.warn(message)
