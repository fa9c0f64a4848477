"""How long work reports its progress, without knowing who draws it."""

from typing import Protocol


class Reporter(Protocol):
    """Where progress and remarks go. The command line draws them; in a library call nothing is
    shown.
    """

    def start(self, label: str, total: int) -> None:
        """Open a progress line of `total` items."""

    def advance(self, n: int = 1) -> None:
        """Count `n` more items as done."""

    def note(self, text: str) -> None:
        """Say beside the progress line how the work stands; each note takes the place of the one
        before.
        """

    def finish(self) -> None:
        """Close the progress line."""

    def warn(self, message: str) -> None:
        """Say something that the person should read now (also kept in the result)."""


class SilentReporter:
    """The default reporter: says nothing."""

    def start(self, label: str, total: int) -> None:
        pass

    def advance(self, n: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def finish(self) -> None:
        pass

    def warn(self, message: str) -> None:
        pass


SILENT: Reporter = SilentReporter()
