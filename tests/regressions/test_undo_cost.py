"""Undo lists each folder once, makes few folders, and shows its progress: it is as fast as the
command that it undoes.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from datasetkit import api
from datasetkit.core.progress import SilentReporter
from datasetkit.options.dataset import LayoutOptions
from datasetkit.options.images import RenameOptions
from datasetkit.project.plans import Copy, Plan
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, open_project
from tests.cli.conftest import images

IMAGES = 30


@pytest.fixture
def folder(tmp_path):
    """Images with captions and masks."""
    imgs = tmp_path / "imgs"
    for path in images(imgs, IMAGES):
        path.with_suffix(".txt").write_text("sks, lips\n", encoding="utf-8")
        mask = imgs / "masks" / path.name
        mask.parent.mkdir(exist_ok=True)
        mask.write_bytes(b"mask")
    return imgs


@pytest.fixture
def listings(monkeypatch):
    """How often each folder is listed."""
    counts: Counter[str] = Counter()

    def counted(real):
        def call(path="."):
            counts[str(path)] += 1
            return real(path)

        return call

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    return counts


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".dsk" not in path.parts
    }


@pytest.mark.parametrize("verb", ["rename", "undo"])
def test_each_folder_is_listed_a_few_times_however_many_images_there_are(verb, folder, listings):
    if verb == "undo":
        api.rename(folder, RenameOptions(prefix="p"))
        listings.clear()
        api.undo(folder)
        assert listings[str(folder)] == listings[str(folder / "masks")] == 1
    else:
        api.rename(folder, RenameOptions(prefix="p"))
        assert max(listings.values()) < IMAGES / 3


@pytest.mark.parametrize("verb", ["layout", "undo"])
def test_a_layout_and_its_undo_list_each_folder_a_few_times(verb, folder, tmp_path, listings):
    out = tmp_path / "dataset"
    api.layout((f"2_x={folder}",), LayoutOptions(out=str(out)))
    if verb == "undo":
        listings.clear()
        api.undo(out)
    assert max(listings.values(), default=0) < IMAGES / 3


def test_the_undo_of_copies_makes_few_folders(folder):
    with open_project(folder, DEFAULT_CONTEXT) as project:
        copies = (Copy(folder / "a1.png", folder / f"copy {n}.png") for n in range(IMAGES))
        project.apply(Plan.of(copies), "test")
    before = tree(folder)
    api.undo(folder)
    folders = [p.name for p in (folder / ".dsk" / "trash").rglob("*") if p.is_dir()]
    assert sorted(folders) == ["0", "1"]  # one for the entry, and one for all names
    trash = [p for p in (folder / ".dsk" / "trash").rglob("*") if p.is_file()]
    assert len(trash) == IMAGES and len(tree(folder)) == len(before) - IMAGES


def test_files_of_one_name_do_not_meet_in_the_trash(folder):
    names = ["one/a.png", "two/a.png", "three/A.PNG"]
    with open_project(folder, DEFAULT_CONTEXT) as project:
        sources = sorted(folder.glob("*.png"))
        copies = [Copy(src, folder / name) for src, name in zip(sources, names, strict=False)]
        project.apply(Plan.of(copies), "test")
    api.undo(folder)
    trash = [p for p in (folder / ".dsk" / "trash").rglob("*") if p.is_file()]
    assert len(trash) == 3 and len({str(p).casefold() for p in trash}) == 3


def test_companions_that_were_added_after_a_rename_get_the_old_names(folder):
    api.rename(folder, RenameOptions(prefix="p"))
    name = next(p.name for p in sorted(folder.glob("*.png")))
    stem = name.removesuffix(".png")
    added = {
        folder / f"{stem}.caption": ".caption",
        folder / f"{name}.txt": ".png.txt",
        folder / f"{name}.meta.json": ".png.meta.json",
        folder / "masks" / f"{name}.npz": ".png.npz",
    }
    for path in added:
        path.write_text(path.name)
    (folder / f"{stem}.other.png").write_bytes(b"another image")
    (folder / "unrelated.txt").write_text("mine")
    api.undo(folder)
    for path, end in added.items():
        assert not path.exists()
        (restored,) = path.parent.glob(f"*{end}")
        assert restored.read_text() == path.name
    assert (folder / f"{stem}.other.png").exists() and (folder / "unrelated.txt").exists()


class Progress(SilentReporter):
    """Counts what is reported."""

    def __init__(self) -> None:
        self.total = self.steps = 0

    def start(self, label: str, total: int) -> None:
        self.total += total

    def advance(self, n: int = 1) -> None:
        self.steps += n


def test_undo_shows_its_progress(folder):
    api.rename(folder, RenameOptions(prefix="p"))
    progress = Progress()
    api.undo(folder, context=RunContext(reporter=progress))
    assert progress.total == progress.steps == 3 * IMAGES
