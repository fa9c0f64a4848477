"""How a run that can save is stopped: the first request lets it save, the second ends it at once.
Other requests have it save or generate preview images after its step, and go on.

A request comes as a signal (SIGINT, SIGTERM, SIGHUP) or from a function that is asked twice a
second, such as one that looks for a request file. While there is nothing to save, the first request
ends the run at once, too: it raises KeyboardInterrupt, or Terminated for the other two signals.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final, Literal

Request = Literal["save", "now"]
# What a run is asked to do once, after the step that it is in: save the LoRA and the training
# state, or generate preview images. It goes on afterwards.
Action = Literal["save", "preview"]
ACTIONS: Final[tuple[Action, ...]] = ("save", "preview")
# Windows has no SIGHUP.
_SIGNALS: Final = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
_SECONDS_BETWEEN: Final = 0.5


class Terminated(BaseException):
    """The process was asked to end by a signal other than SIGINT."""

    def __init__(self, signum: int = signal.SIGTERM) -> None:
        super().__init__(signum)
        self.signum = signum


class RunPause(BaseException):
    """A run was asked to stop, and has saved what it needs to go on; not an error."""

    def __init__(self, message: str, signum: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = 128 + signum  # as shells do


def end_by_signals() -> None:
    """Let SIGTERM and SIGHUP raise Terminated. A signal that was ignored when the process started,
    as by nohup, stays ignored.
    """
    for signum in _SIGNALS:
        if signal.getsignal(signum) is signal.SIG_DFL:
            signal.signal(signum, _end)


def _end(signum: int, frame: FrameType | None) -> None:
    _leave_dead_terminal()
    raise KeyboardInterrupt if signum == signal.SIGINT else Terminated(signum)


def _leave_dead_terminal() -> None:
    """Send output nowhere if the terminal is gone: each write would fail, and end a run that is
    about to save.
    """
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


class StopRequests:
    """Whether a run was asked to stop, or to do something and go on.

    read: returns the request of a file, None without one. tell: is called once, in another thread,
    when the run is going to save and stop. take: returns the actions that are asked for, each
    once. could_save: there was something to save at some time.
    """

    def __init__(
        self,
        read: Callable[[], Request | None] = lambda: None,
        tell: Callable[[], None] = lambda: None,
        take: Callable[[], frozenset[Action]] = frozenset,
    ) -> None:
        self._read, self._tell, self.take_actions = read, tell, take
        self._can_save = self.could_save = False
        self._signum: int | None = None  # of the first request; SIGINT stands for a file
        self._ended = threading.Event()
        self._ending = threading.Lock()
        self._thread = 0  # that of the run

    def is_asked(self) -> bool:
        """Tell whether the run should save and stop now."""
        if self._signum is None and self._read() is not None:
            self._signum = signal.SIGINT
        return self._signum is not None

    @property
    def signum(self) -> int:
        """Return the signal of the first request; SIGINT for any other."""
        return self._signum or signal.SIGINT

    @contextmanager
    def saving(self) -> Iterator[None]:
        """From here on there is something to save: the first request no longer ends the run."""
        self._can_save = self.could_save = True
        try:
            yield
        finally:
            self._can_save = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Receive the signals, if this is the main thread, and read the request twice a second."""
        self._thread = threading.get_ident()
        earlier = self._receive_signals()
        watcher = threading.Thread(target=self._watch, name="stop requests", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            with self._ending:
                self._ended.set()
            for signum, handler in earlier.items():
                signal.signal(signum, handler)
            watcher.join()

    def _receive_signals(self) -> dict[int, Any]:
        if threading.current_thread() is not threading.main_thread():
            return {}
        # Handlers of another program that calls dsk stay, and so do signals that are ignored.
        ours = (signal.SIG_DFL, signal.default_int_handler, _end)
        earlier = {s: h for s in _SIGNALS if (h := signal.getsignal(s)) in ours}
        for signum in earlier:
            signal.signal(signum, self._on_signal)
        return earlier

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self._signum is not None or not self._can_save:
            _end(signum, frame)
        _leave_dead_terminal()
        self._signum = signum

    def _watch(self) -> None:
        is_told = False
        while not self._ended.wait(_SECONDS_BETWEEN):
            request = self._read()
            is_new = request is not None and self._signum is None
            if request == "now" or (is_new and not self._can_save):
                self._interrupt()
                return
            if is_new:
                self._signum = signal.SIGINT
            if self._signum is not None and not is_told:
                is_told = True
                self._tell()

    def _interrupt(self) -> None:
        """Raise KeyboardInterrupt in the thread that runs, even where SIGINT is ignored."""
        with self._ending:
            if not self._ended.is_set():
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread), ctypes.py_object(KeyboardInterrupt)
                )
