"""An image of a dataset is never the user's own file under a second name, unless they ask for it:
a program that edits the dataset in place must not change the original.
"""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from PIL import Image

from datasetkit.core import reflink
from datasetkit.core.errors import Exit
from datasetkit.project import disk_space
from tests.cli.conftest import inode, snapshot, write_image

RUN = """
[run]
steps = [{steps}]
[[concept]]
folder = "pics"
name = "sylvie"
trigger = ["sylvie"]
[tag]
tagger = "basic"
"""
Usage = namedtuple("Usage", "total used free")


def pictures(folder: Path, number: int = 3) -> list[Path]:
    """Make images that resize must shrink, with captions and a mask."""
    paths = [write_image(folder / f"{n}.png", 40 * n, (96, 80)) for n in range(1, number + 1)]
    for path in paths:
        path.with_suffix(".txt").write_text("sylvie, solo\n")
    write_image(folder / "masks" / "1.png", 255, (96, 80))
    return paths


def edit_in_place(path: Path) -> None:
    """Crop an image as programs do that write to the file that they opened."""
    image = Image.new("RGB", (32, 32))
    with path.open("r+b") as file:
        image.save(file, "PNG")
        file.truncate()


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def laid_out(root: Path) -> list[Path]:
    files = [p for p in root.rglob("*.png") if ".dsk" not in p.parts]
    assert files
    return files


@pytest.mark.parametrize(
    "commands",
    [
        pytest.param([("layout", "2_sylvie=pics")], id="layout"),
        pytest.param([("layout", "2_a=pics"), ("layout", "3_a=pics")], id="other repeats"),
        pytest.param([("layout", "a=pics", "b=more", "--steps", "5")], id="two concepts"),
        pytest.param([("layout", "a=more"), ("reg", "pics", "--class", "girl")], id="reg"),
        pytest.param([("resize", "pics", "--max", "64", "--in-place"), ("layout", "a=pics")],
                     id="resized in place"),
        pytest.param([("rename", "pics", "x"), ("layout", "a=pics")], id="renamed"),
        pytest.param([("run", "dsk.toml")], id="run"),
    ],
)  # fmt: skip
def test_editing_a_dataset_in_place_changes_no_original(commands, dsk, here):
    pictures(here / "pics")
    pictures(here / "more", 2)
    if commands == [("run", "dsk.toml")]:
        (here / "dsk.toml").write_text(RUN.format(steps='"tag", "layout"'))
    for command in commands:
        assert dsk(*command).code == Exit.DONE
    before = snapshot(here / "pics", all_of_it=False)
    files = laid_out(here / "dataset")
    for path in files:
        edit_in_place(path)
    assert snapshot(here / "pics", all_of_it=False) == before
    originals = {inode(p) for p in here.rglob("*.png") if "dataset" not in p.parts}
    assert originals.isdisjoint(map(inode, files))


def test_outputs_of_dsk_are_hard_linked_and_take_no_space(dsk, here):
    pictures(here / "pics")
    dsk("resize", "pics", "small", "--max", "64")
    result = dsk("layout", "2_sylvie=small", "--json").result
    storage = result["storage"]
    assert (storage["linked"], storage["originals"], storage["copied"]) == (3, 0, 0)
    linked = here / "dataset" / "train" / "2_sylvie"
    assert inode(linked / "1.png") == inode(here / "small" / "1.png")
    for path in laid_out(here / "dataset"):
        edit_in_place(path)
    assert size_of(here / "pics" / "1.png") == (96, 80)


def test_the_work_of_a_run_is_hard_linked(dsk, here):
    pictures(here / "pics")
    (here / "dsk.toml").write_text(RUN.format(steps='"resize", "tag", "layout"'))
    assert dsk("run", "dsk.toml").code == Exit.DONE
    [image, *_] = (here / "dataset" / "train").rglob("1.png")
    assert inode(image) == inode(here / "work" / "sylvie" / "1.png")


def test_an_output_that_the_user_changed_is_theirs_and_is_copied(dsk, here):
    pictures(here / "pics")
    dsk("resize", "pics", "small", "--max", "64")
    edit_in_place(here / "small" / "2.png")
    write_image(here / "small" / "mine.png", 7)
    dsk("layout", "2_sylvie=small")
    laid = here / "dataset" / "train" / "2_sylvie"
    shared = {p.name for p in laid.glob("*.png") if inode(p) == inode(here / "small" / p.name)}
    assert shared == {"1.png", "3.png"}


@pytest.mark.parametrize("verb", ["layout", "reg"])
def test_hard_links_are_made_on_request_and_said(verb, dsk, here):
    pictures(here / "pics")
    write_image(here / "pics" / "4.png", 9)
    dsk("layout", "1_other=pics")
    command = {"layout": ["2_sylvie=pics", "--out", "linked"], "reg": ["pics", "--class", "girl"]}
    ended = dsk(verb, *command[verb], "--link")
    assert "4 images hard-linked" in ended.err and "changes the original too" in ended.err
    folder = here / {"layout": "linked/train/2_sylvie", "reg": "dataset/reg/2_girl"}[verb]
    [folder] = [folder] if folder.is_dir() else list(folder.parent.iterdir())
    assert inode(folder / "1.png") == inode(here / "pics" / "1.png")


def test_a_layout_without_link_replaces_hard_links_by_copies(dsk, here):
    pictures(here / "pics")
    dsk("layout", "2_sylvie=pics", "--link")
    dsk("layout", "2_sylvie=pics")
    for path in laid_out(here / "dataset"):
        edit_in_place(path)
    assert size_of(here / "pics" / "1.png") == (96, 80)
    assert "unchanged" not in dsk("layout", "2_sylvie=pics").out
    assert "unchanged" in dsk("layout", "2_sylvie=pics").out


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_the_bytes_of_copies_are_said_before_and_after(arguments, dsk, here):
    pictures(here / "pics")
    size = sum(p.stat().st_size for p in (here / "pics").rglob("*.png"))
    storage = dsk("layout", "2_sylvie=pics", "--json", *arguments).result["storage"]
    assert storage["copied"] == 3 and storage["linked"] == 0
    assert storage["copied_bytes"] in (0, size)  # 0 where the disk has reflinks
    shutil.rmtree(here / "dataset", ignore_errors=True)
    assert "3 images copied: " in dsk("layout", "2_sylvie=pics", *arguments).out


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_a_disk_without_room_is_known_before_anything_is_written(arguments, dsk, here, monkeypatch):
    pictures(here / "pics")
    dsk("layout", "2_sylvie=pics")
    pictures(here / "pics", 5)
    monkeypatch.setattr(disk_space, "can_reflink", lambda *_: False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 99, 1))
    before = snapshot(here, all_of_it=False)
    ended = dsk("layout", "4_sylvie=pics", *arguments)
    assert ended.code == Exit.STORAGE
    assert "MB free" in ended.err and "--out" in ended.err
    assert snapshot(here, all_of_it=False) == before


def test_copies_that_share_their_blocks_need_no_room(dsk, here, monkeypatch):
    """A disk with reflinks, played by one that copies: the copy is asked for in this form."""
    asked = []

    def share(source: int, target: int) -> bool:
        asked.append((source, target))
        data = os.pread(source, 1_000_000, 0)
        return not data or os.write(target, data) == len(data)

    pictures(here / "pics")
    monkeypatch.setattr(reflink, "reflink", share)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 99, 1))
    ended = dsk("layout", "2_sylvie=pics", "--json")
    assert ended.code == Exit.DONE and asked
    storage = ended.result["storage"]
    assert (storage["linked"], storage["copied"], storage["copied_bytes"]) == (0, 3, 0)
    copy, original = here / "dataset/train/2_sylvie/1.png", here / "pics/1.png"
    assert copy.read_bytes() == original.read_bytes()
    assert copy.stat().st_mtime_ns == original.stat().st_mtime_ns
    assert dsk("undo", "dataset").code == Exit.DONE


def test_check_knows_the_source_of_a_copied_image(dsk, here):
    pictures(here / "pics")
    dsk("layout", "2_sylvie=pics")
    assert "differs from its source" not in dsk("check", "dataset").out
    (here / "dataset/train/2_sylvie/1.txt").write_text("sylvie, hat\n")
    assert "differs" in dsk("check", "dataset").out


def test_a_settings_file_that_was_only_found_cannot_ask_for_hard_links(dsk, here):
    """It may have come with the images; the option that the refusal names is typed instead."""
    pictures(here / "pics")
    (here / "dsk.toml").write_text("[layout]\nlink = true\n")
    ended = dsk("layout", "2_sylvie=pics")
    assert ended.code == Exit.USAGE and "--link" in ended.err
    assert not (here / "dataset").exists()
    assert dsk("layout", "2_sylvie=pics", "--link").code == Exit.DONE
    assert inode(here / "dataset/train/2_sylvie/1.png") == inode(here / "pics/1.png")
