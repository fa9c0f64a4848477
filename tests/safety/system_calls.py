"""The calls by which a command changes files, as the system sees them: logged, or made to fail, by
a library that is loaded before the C library (system_calls.c).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
COMPILER = shutil.which("cc") or shutil.which("gcc")
STORE = ".dsk/store.sqlite"


@dataclass(frozen=True)
class Call:
    """A call that changed a file, or was to. name: write, fsync, syncfs, rename or link."""

    name: str
    path: Path
    to: Path | None
    failed: bool = False

    @property
    def is_store(self) -> bool:
        return STORE in self.path.as_posix()


def compiled(folder: Path) -> Path:
    """Compile the library."""
    assert COMPILER is not None
    library = folder / "system_calls.so"
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True
    )
    return library


def logged(
    library: Path, root: Path, arguments: list[str], fail: str = ""
) -> tuple[subprocess.CompletedProcess[str], list[Call]]:
    """Run Python with some arguments; return how it ended and its calls below `root`."""
    log = root.with_name(f"{root.name}.log")
    log.unlink(missing_ok=True)
    variables = os.environ | {
        "LD_PRELOAD": str(library), "DSK_LOG": str(log), "DSK_BELOW": f"{root}/", "DSK_FAIL": fail,
        "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=root, env=variables, capture_output=True, text=True
    )
    lines = log.read_text("utf-8").splitlines() if log.exists() else []
    calls = []
    for line in lines:
        name, path, to = line.split("\t")
        calls.append(
            Call(
                name.removeprefix("failed "), Path(path), Path(to) if to else None,
                name.startswith("failed "),
            )
        )  # fmt: skip
    return ended, calls


def faults(calls: list[Call]) -> list[str]:
    """Return where a power cut would lose what the calls rely on.

    - A file has a new name only once its bytes are on the disk.
    - The journal says so only once the new names are on the disk.
    - At the end all names are on the disk.
    """
    unsynced: set[Path] = set()
    unsynced_folders: set[Path] = set()
    found: list[str] = []
    for call in calls:
        if call.name == "syncfs":
            unsynced.clear()
            unsynced_folders.clear()
        elif call.name == "fsync":
            unsynced.discard(call.path)
            unsynced_folders.discard(call.path)
        elif call.name == "write":
            if call.is_store and unsynced_folders:
                names = sorted(map(str, unsynced_folders))
                found.append(f"the store is written before the names in {names} are synced")
                unsynced_folders.clear()
            unsynced.add(call.path)
        elif call.to is not None:
            for path in unsynced:
                if path == call.path or path.is_relative_to(call.path):
                    found.append(f"{path} gets the name {call.to} before its bytes are synced")
            unsynced_folders |= {call.to.parent}
            if call.name == "rename":
                unsynced_folders |= {call.path.parent}
    return found + [f"the names in {path} are never synced" for path in unsynced_folders]
