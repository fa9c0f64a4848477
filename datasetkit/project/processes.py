"""What a process is besides its number, which the system uses again: its start and the boot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path


def boot() -> str:
    """Return what names the time since this machine was started, "" where it is not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def started(pid: int) -> str:
    """Return when a process of this user started, "" if there is none or that is not known."""
    if sys.platform == "linux":
        folder = Path("/proc", str(pid))
        try:
            if folder.stat().st_uid != os.getuid():
                return ""
            # The name, in brackets, may hold spaces and brackets.
            return folder.joinpath("stat").read_bytes().rpartition(b")")[2].split()[19].decode()
        except (OSError, IndexError, ValueError):
            return ""
    if sys.platform == "win32":
        return _started_on_windows(pid)
    shown = subprocess.run(
        ["ps", "-o", "lstart=", "-u", str(os.getuid()), "-p", str(pid)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return shown.stdout.strip()


def kill(pid: int, start: str, boot_id: str) -> bool:
    """Kill a process if it is the one that started then; tell whether it was."""
    if not start or started(pid) != start or boot() != boot_id:
        return False
    if sys.platform != "linux":
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))  # TerminateProcess on Windows
        return True
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # The number may have been given to another process until the descriptor was open.
        if started(pid) != start:
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _QUERY = 0x1000  # PROCESS_QUERY_LIMITED_INFORMATION

    def _started_on_windows(pid: int) -> str:
        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(_QUERY, False, pid)
        if not handle:
            return ""
        times = [wintypes.FILETIME() for _ in range(4)]
        try:
            if not kernel.GetProcessTimes(handle, *map(ctypes.byref, times)):
                return ""
        finally:
            kernel.CloseHandle(handle)
        return str((times[0].dwHighDateTime << 32) + times[0].dwLowDateTime)

else:

    def _started_on_windows(pid: int) -> str:
        return ""
