"""What other programs, other tabs and people change is shown and never overwritten."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from datasetkit import api
from datasetkit.options.toml import Config, find
from datasetkit.project.store import Store
from datasetkit.verbs.review.dataset import ReviewDataset
from tests.web import datasets
from tests.web.client import Browser, captions, image_ids, review

# Seconds until a change must be known.
TIMEOUT = 15


@pytest.fixture(autouse=True)
def fast_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll the disk every 50 ms instead of every second."""
    monkeypatch.setattr("datasetkit.verbs.review.watch._PAUSE", 0.05)


def write(path: Path, text: str) -> None:
    """Write a caption with a new modification time on any file system."""
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 1_000_000))


def wait_for(page: Browser, expected: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Poll for changes since the version that the page has seen."""
    since = page.version
    ends = time.monotonic() + TIMEOUT
    while time.monotonic() < ends:
        new: dict[str, Any] = page.get("changes", since=since)
        if expected(new):
            return new
        time.sleep(0.05)
    raise AssertionError(f"not reported within {TIMEOUT} s: {new}")


# ---- conflicts


def test_a_caption_changed_on_disk_refuses_the_whole_operation(folder):
    with review(folder) as page:
        write(folder / "p2.txt", "sks, lips, by hand\n")
        before = captions(folder)
        response = page.do(remove=["lips"], status=409)
        assert captions(folder) == before
        assert response["count"] == 1 and response["error"] and response["hint"]
        (conflict,) = response["conflicts"]
        assert (conflict["name"], conflict["expected"], conflict["current"]) == (
            "p2.jpg",
            "sks, lips",
            "sks, lips, by hand",
        )
        assert (conflict["added"], conflict["removed"]) == (["by hand"], [])
        # With the version of the response the same operation succeeds.
        assert page.do(remove=["lips"])["changed"] == 3
        assert (folder / "p2.txt").read_bytes() == b"sks, by hand\n"


@pytest.mark.parametrize(
    ("meanwhile", "now"),
    [
        (lambda path: path.unlink(), None),
        (lambda path: path.write_bytes(b"other\n"), "other"),
        (lambda path: path.write_bytes(b""), ""),
        (lambda path: path.rename(path.with_name("elsewhere.txt")), None),
    ],
)
def test_a_caption_changed_on_disk_is_not_overwritten(folder, meanwhile, now):
    with review(folder) as page:
        known = page.get("image/1")["hash"]
        meanwhile(folder / "p0.txt")
        before = captions(folder)
        response = page.edit(1, "mine", known_hash=known, status=409)
        assert response["conflicts"][0]["current"] == now
        assert captions(folder) == before


def test_a_new_caption_file_is_not_overwritten(folder):
    with review(folder) as page:
        write(folder / "p6.txt", "new\n")
        assert page.edit(7, "mine", known_hash="", status=409)["conflicts"][0]["current"] == "new"
        assert (folder / "p6.txt").read_text() == "new\n"


def test_an_unreadable_caption_is_not_overwritten(folder):
    with review(folder) as page:
        (folder / "p0.txt").write_bytes(b"\xff\xfe\x00")
        before = captions(folder)
        response = page.do(remove=["sks"], status=400)
        assert "p0.txt" in response["error"] and "UTF-8" in response["error"]
        assert captions(folder) == before


def test_a_rewritten_caption_with_the_same_tags_is_no_conflict(folder):
    with review(folder) as page:
        write(folder / "p0.txt", "sks,lips ,  blue eyes")
        assert page.do(remove=["lips"])["changed"] == 3
        assert (folder / "p0.txt").read_bytes() == b"sks, blue eyes\n"


def test_a_changed_caption_that_the_operation_does_not_change_is_no_conflict(folder):
    with review(folder) as page:
        write(folder / "p4.txt", "by hand\n")
        assert page.do(remove=["lips"])["changed"] == 3
        assert (folder / "p4.txt").read_text() == "by hand\n"


def test_of_two_tabs_the_second_gets_a_conflict(folder):
    with review(folder) as page:
        other = Browser(page.server, folder, page.cookie, page.token, page.version)
        assert page.do({"in": "ids", "ids": [1]}, add=["from one"])["changed"] == 1
        response = other.do({"in": "ids", "ids": [1]}, add=["from two"], status=409)
        assert response["conflicts"][0]["added"] == ["from one"]
        assert other.do({"in": "ids", "ids": [2]}, add=["from two"])["changed"] == 1
        assert other.do({"in": "ids", "ids": [1]}, add=["from two"])["changed"] == 1


def test_of_many_tabs_at_once_one_wins(folder):
    with review(folder) as page:
        version = page.version
        tabs = [Browser(page.server, folder, page.cookie, page.token, version) for _ in range(8)]

        def add(n: int) -> bool:
            sent = {
                "version": version,
                "scope": {"in": "ids", "ids": [1]},
                "do": {"add": [f"tab {n}"]},
            }
            return "entry" in tabs[n].send("apply", **sent).json

        with ThreadPoolExecutor(8) as pool:
            first = list(pool.map(add, range(8)))
        assert first.count(True) == 1
        assert f"tab {first.index(True)}" in (folder / "p0.txt").read_text()
        assert page.post("undo", version=page.version)["title"] == f"add tab {first.index(True)}"
        assert (folder / "p0.txt").read_text() == "sks, lips, blue eyes\n"


def test_a_dry_run_needs_no_version(folder):
    with review(folder) as page:
        write(folder / "p0.txt", "by hand\n")
        assert page.dry_run(remove=["lips"])["changed"] in (2, 3)
        assert (folder / "p0.txt").read_text() == "by hand\n"


# ---- undo


def test_undo_does_not_revert_a_caption_that_was_edited_since(folder):
    with review(folder) as page:
        page.do(remove=["lips"])
        write(folder / "p2.txt", "sks, by hand\n")
        before = captions(folder)
        response = page.post("undo", version=page.version, status=409)
        assert captions(folder) == before
        assert [one["name"] for one in response["conflicts"]] == [
            "p2.jpg"
        ] and "--partial" in response["hint"]


def test_the_page_does_not_undo_another_command(folder):
    with review(folder) as page:
        page.do(remove=["lips"])
        api.rules(folder, api.RulesOptions(additional=("best",)))
        before = captions(folder)
        response = page.post("undo", version=page.version, status=409)
        assert "dsk rules" in response["error"] and "dsk undo" in response["hint"]
        assert captions(folder) == before
        api.undo(folder)
        assert page.post("undo", version=page.version)["title"].startswith("remove lips")


def test_nothing_to_undo_or_redo_is_an_error(folder):
    with review(folder) as page:
        for call in ("undo", "redo"):
            assert "nothing to" in page.post(call, version=page.version, status=409)["error"]


# ---- the disk watcher


def test_a_caption_changed_on_disk_is_reported(folder):
    with review(folder) as page:
        write(folder / "p4.txt", "by another program\n")
        new = wait_for(page, lambda new: bool(new["ids"]))
        assert new["ids"] == new["external"] == [5] and new["version"] > 1
        assert page.get("image/5")["caption"] == "by another program"
        assert image_ids(page, 'tag:"by another program"') == [5]
        # The page has loaded it: an edit is not a conflict.
        assert page.edit(5, "mine")["changed"] == 1


def test_edits_of_the_page_are_not_reported_as_external(folder):
    with review(folder) as page:
        since = page.version
        page.do(remove=["lips"])
        time.sleep(0.5)  # some polls
        new = page.get("changes", since=since)
        assert sorted(new["ids"]) == [1, 3, 6]
        assert new["external"] == []


def test_added_and_removed_images_are_reported(folder):
    with review(folder) as page:
        datasets.drawing(folder / "p10.jpg", 40)
        write(folder / "p10.txt", "new, tag\n")
        (folder / "p3.jpg").unlink()
        new = wait_for(page, lambda new: bool(new["added"] and new["removed"]))
        assert new["removed"] == [4]
        (number,) = new["added"]
        assert page.get("images")["name"] == [
            *(f"p{n}.jpg" for n in (0, 1, 2, 4, 5)),
            "p6.png",
            "p10.jpg",
        ]
        assert page.get(f"image/{number}")["caption"] == "new, tag"
        assert page.ask("GET", "/thumb/4", headers={"Cookie": page.cookie}).status == 404
        assert page.ask("GET", f"/thumb/{number}", headers={"Cookie": page.cookie}).status == 200


def test_a_replaced_image_gets_a_new_url(folder, tmp_path):
    with review(folder) as page:
        old = page.get("image/1")["v"]
        since = page.version
        datasets.drawing(tmp_path / "other.jpg", 77).replace(folder / "p0.jpg")
        ends = time.monotonic() + TIMEOUT
        while time.monotonic() < ends and page.get("image/1")["v"] == old:
            time.sleep(0.05)
        assert page.get("image/1")["v"] != old
        assert page.get("changes", since=since)["ids"] == [1]


def test_a_page_that_is_too_far_behind_is_reset(folder):
    with review(folder) as page:
        for n in range(3):
            page.edit(1, f"text {n}")
        assert page.get("changes", since=1)["ids"] == [1]
        assert page.get("changes", since=10**9)["reset"] is True


def test_commands_and_the_page_can_alternate(folder):
    with review(folder) as page:
        api.rules(folder, api.RulesOptions(exclude=("lips",)))
        wait_for(page, lambda new: len(new["external"]) == 3)
        page.version = page.get("session")["version"]
        assert image_ids(page, "tag:lips") == []
        assert page.do(remove=["hat"])["changed"] == 3
        titles = [(entry.verb, entry.title) for entry in api.history(folder)]
        assert titles == [("review", "remove hat (3 captions)"), ("rules", "set")]


def test_the_finished_images_take_the_place_of_the_raw_ones(tmp_path):
    """A page that was open before its images were resized edits the captions that are trained."""
    photos = datasets.many(tmp_path / "photos", 3)
    for n, image in enumerate(sorted(photos.glob("*.jpg"))):
        image.with_suffix(".txt").write_text(f"solo, raw {n}", encoding="utf-8")
    (tmp_path / "dsk.toml").write_text(
        '[run]\nsteps = ["resize"]\n[[concept]]\nname = "kitsu"\nfolder = "photos"\n',
        encoding="utf-8",
    )
    with review(tmp_path) as page:
        raw = captions(photos)
        assert page.get("images")["id"] == [1, 2, 3]
        api.resize(photos, tmp_path / "work" / "kitsu", api.ResizeOptions(max=32))
        new = wait_for(page, lambda new: len(new["added"]) == 3)
        assert (new["removed"], new["added"]) == ([1, 2, 3], [4, 5, 6])
        page.version = page.get("session")["version"]
        assert page.do(remove=["solo"])["changed"] == 3
        assert captions(photos) == raw
        assert set(captions(tmp_path / "work" / "kitsu").values()) == {b"raw 0", b"raw 1", b"raw 2"}
        page.post("undo", version=page.version)
        assert captions(tmp_path / "work" / "kitsu") == raw


def test_dsk_toml_is_read_again_only_after_a_change(tmp_path, monkeypatch):
    """The folders are looked at each second."""
    photos = datasets.many(tmp_path / "photos", 2)
    config = tmp_path / "dsk.toml"
    text = '[run]\nsteps = ["resize"]\n[[concept]]\nname = "kitsu"\nfolder = "photos"\n'
    config.write_text(text, encoding="utf-8")
    dataset = ReviewDataset(tmp_path)
    with Store.open(tmp_path) as store:
        dataset.load(store)
    assert dataset.moved_sets() is None
    read: list[Path] = []

    def counted(folder: Path) -> Config:
        read.append(folder)
        return find(folder)

    monkeypatch.setattr("datasetkit.verbs.review.dataset.find", counted)
    assert dataset.moved_sets() is None and read == []
    work = tmp_path / "work" / "kitsu"
    work.mkdir(parents=True)
    assert dataset.moved_sets() is None and len(read) == 1  # no image is finished yet
    shutil.copy(next(photos.glob("*.jpg")), work)
    moved = dataset.moved_sets()
    assert moved is not None and [each.folder for each in moved.train] == [work]
    shutil.rmtree(work)
    write(config, text + "[train]\nseed = 5\n")
    assert dataset.moved_sets() is None
    read.clear()
    assert dataset.moved_sets() is None and read == []
