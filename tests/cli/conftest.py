"""What tests of the commands share: a runner in this process, tiny images, a toy tagger, and a
tree's snapshot.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasetkit import hub
from datasetkit.cli.main import run
from taggers import models, registry, sessions
from tests.cli import toy


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def result(self) -> Any:
        return self.json["result"]


Dsk = Callable[..., Ended]


@pytest.fixture(autouse=True)
def toy_tagger(monkeypatch):
    """Let `basic` be the toy, and let there be no network for the others."""

    def unreachable(model):
        raise hub.FetchError(
            f"the tagger {model.name} is not on this machine", hint=f"run `{model.command}`"
        )

    monkeypatch.setitem(registry.TAGGERS, registry.BASIC, "tests.cli.toy:Toy")
    monkeypatch.setattr(models, "fetch", unreachable)
    monkeypatch.setattr(models, "cached", lambda model: None)
    monkeypatch.setattr(sessions, "require_onnxruntime", lambda: None)
    toy.SEEN.clear()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def dsk(here, capsys) -> Dsk:
    """Run a command line in this process: `dsk("tag", "imgs")`."""

    def command(*arguments: object) -> Ended:
        capsys.readouterr()
        code = run([str(a) for a in arguments])
        message = capsys.readouterr()
        return Ended(code, message.out, message.err)

    return command


def write_image(path: Path, shade: int = 0, size: tuple[int, int] = (64, 48)) -> Path:
    """Make a grey image; images of one shade and size are the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(path)
    return path


def images(folder: Path, number: int = 3) -> list[Path]:
    """Make `a1.png ...`, all of them dark, no two the same."""
    return [write_image(folder / f"a{n}.png", n) for n in range(1, number + 1)]


def captions(folder: Path) -> dict[str, str]:
    """Return the text of every caption file by stem, without the final newline that each
    must have.
    """
    found = {}
    for path in sorted(folder.glob("*.txt")):
        data = path.read_bytes().decode("utf-8")
        assert data.endswith("\n") and data.count("\n") == 1 and "\r" not in data
        found[path.stem] = data[:-1]
    return found


def snapshot(root: Path, *, all_of_it: bool = True) -> dict[str, tuple[str, int]]:
    """Return kind or hash, and mtime, of everything below a folder; `.dsk` only if all of it is
    asked for.
    """
    found = {}
    for path in sorted(root.rglob("*")):
        below = path.relative_to(root)
        if not all_of_it and ".dsk" in below.parts:
            continue
        if path.is_file():
            found[str(below)] = (
                hashlib.sha256(path.read_bytes()).hexdigest(),
                path.lstat().st_mtime_ns,
            )
        else:
            found[str(below)] = ("folder", path.lstat().st_mtime_ns if all_of_it else 0)
    return found


def inode(path: Path) -> int:
    return path.stat().st_ino
