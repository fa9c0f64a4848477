"""Trying the preparation on three images: the commands run on copies outside of the project, of
which nothing changes.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Final

from datasetkit.core.errors import Exit, InputError
from datasetkit.verbs.studio.dry_runs import DryRunReplaced, error_of

_PROGRAM: Final = (sys.executable, "-m", "datasetkit")
# The folder that the shown command uses in the project.
_SHOWN: Final = "preview"


class PreparePreview:
    """The newest preview of a server: its folder, and the process that fills it."""

    def __init__(self) -> None:
        self._lock, self._working = Lock(), Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: TemporaryDirectory[str] | None = None
        self._newest = 0

    def make(self, project: Path, sources: Sequence[Path], work: PreviewWork) -> Path:
        """Copy images, and run the commands of a preview on them; return its folder.

        Raises DryRunReplaced when another one was asked for meanwhile, InputError for a command
        that fails.
        """
        with self._lock:
            self._newest += 1
            number = self._newest
            if self._process is not None:
                self._process.kill()
        with self._working:
            folder = self._empty_folder()
            copies = folder / "images"
            copies.mkdir()
            for path in sources:
                shutil.copyfile(path, copies / path.name)
            for words in work.commands(folder):
                self._run(project, folder, words, number)
        return folder

    def _empty_folder(self) -> Path:
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="dsk-preview-")
        folder = Path(self._folder.name).resolve()
        for name in ("images", "work", ".dsk"):
            shutil.rmtree(folder / name, ignore_errors=True)
        return folder

    def _run(self, project: Path, folder: Path, words: Sequence[str], number: int) -> None:
        # The job of a preview is none of the user's list.
        environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
        with self._lock:
            if number != self._newest:
                raise _replaced()
            process = self._process = subprocess.Popen(
                (*_PROGRAM, *words), cwd=project, env=environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
        with process:
            _, printed = process.communicate()
        if number != self._newest:
            raise _replaced()
        if process.returncode not in (Exit.DONE, Exit.SOME_FAILED):
            error, hint = error_of(printed)
            raise InputError(error, hint=hint)

    def stop(self) -> None:
        """End the process, and remove the folder."""
        with self._lock:
            self._newest += 1
            if self._process is not None:
                self._process.kill()
        with self._working, suppress(OSError):
            if self._folder is not None:
                self._folder.cleanup()


class PreviewWork:
    """The commands of a preview: of each the verb, its folders below that of the preview, and its
    options as they are typed.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[str, Path, Path, Sequence[str]]] = []

    def add(self, verb: str, source: Path, out: Path, options: Sequence[str]) -> None:
        self._steps.append((verb, source, out, options))

    @property
    def out(self) -> Path:
        """Return where the finished images are."""
        return self._steps[-1][2]

    def commands(self, folder: Path) -> list[list[str]]:
        return [
            [*verb.split(), str(folder / source), str(folder / out), *options]
            for verb, source, out, options in self._steps
        ]

    def shown(self, sources: Sequence[str]) -> str:
        """Return the line that does the same in a terminal. sources: the images as they are seen
        from the project.
        """
        images = f"{_SHOWN}/images"
        lines = [["mkdir", "-p", images], ["cp", *sources, images]]
        lines += [["dsk", *words] for words in self.commands(Path(_SHOWN))]
        return " && ".join(map(shlex.join, lines))


def _replaced() -> DryRunReplaced:
    return DryRunReplaced("a newer preview was asked for", hint="wait for that")


def chosen(images: Sequence[Path]) -> list[Path]:
    """Return the first image, the last one and the one in the middle."""
    last = len(images) - 1
    picked = dict.fromkeys((0, last // 2, last)) if images else ()
    return list({images[n].name: images[n] for n in picked}.values())
