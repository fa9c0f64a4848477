"""`python -m tests.as_windows ...`: run dsk on a system without what only POSIX has.

What other packages need is loaded first. Then the modules and functions that Windows does not have
are taken away, folders cannot be opened, and locks are those of `msvcrt`. Paths stay as they are.
"""

import asyncio
import ctypes
import fcntl
import multiprocessing
import os
import platform
import signal
import sqlite3
import sys
import tempfile
import types
from pathlib import Path
from types import SimpleNamespace

import filelock
import ftfy
import huggingface_hub
import matplotlib.font_manager
import matplotlib.pyplot
import numpy
import onnxruntime
import pandas
import PIL.Image
import pydantic
import rich.console
import rich.progress
import rich.status
import rich.table
import tokenizers
import tomli_w
import typer

LOADED = (
    PIL, asyncio, filelock, ftfy, huggingface_hub, matplotlib.pyplot, multiprocessing, numpy,
    onnxruntime, pandas, pydantic, rich, sqlite3, tempfile, tokenizers, tomli_w, typer,
)  # fmt: skip
MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty")
SIGNALS = (
    "SIGALRM", "SIGHUP", "SIGKILL", "SIGTSTP", "SIGTTIN", "SIGUSR1", "SIGUSR2", "alarm",
    "pthread_sigmask",
)  # fmt: skip
FUNCTIONS = (
    "O_DIRECTORY", "O_NOFOLLOW", "O_TMPFILE", "chown", "copy_file_range", "fchmod", "fork",
    "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getuid", "killpg", "lchown", "mkfifo",
    "posix_fallocate", "sched_getaffinity", "sendfile", "setsid", "sync", "uname",
)  # fmt: skip


def locking(descriptor: int, mode: int, size: int) -> None:
    """Lock or unlock bytes from the current position, as `msvcrt.locking` does."""
    kind = fcntl.LOCK_UN if mode == 0 else fcntl.LOCK_EX | fcntl.LOCK_NB
    try:
        fcntl.lockf(descriptor, kind, size, os.lseek(descriptor, 0, os.SEEK_CUR))
    except BlockingIOError:
        raise PermissionError(13, "Permission denied") from None


def become_windows() -> None:
    platform.system(), platform.machine()  # they ask the system once
    fonts = "_get_win32_installed_fonts"
    setattr(matplotlib.font_manager, fonts, set)  # it asks the registry
    msvcrt = types.ModuleType("msvcrt")
    msvcrt.LK_NBLCK, msvcrt.LK_UNLCK, msvcrt.locking = 2, 0, locking  # type: ignore[attr-defined]
    sys.modules["msvcrt"] = msvcrt
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for owner, names in ((signal, SIGNALS), (os, FUNCTIONS)):
        for name in names:
            if hasattr(owner, name):
                delattr(owner, name)
    open_file = os.open

    def opened(path, flags, mode=0o777, **more):
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        return open_file(path, flags, mode, **more)

    os.open = opened
    sys.platform = "win32"
    # Windows' own functions are asked when a process started, and answer that there is none.
    kernel = SimpleNamespace(OpenProcess=lambda *_: 0)
    ctypes.windll = SimpleNamespace(kernel32=kernel)  # type: ignore[attr-defined]


if __name__ == "__main__":
    become_windows()
    from datasetkit.cli.main import main

    sys.argv = ["dsk", *sys.argv[1:]]
    main()
