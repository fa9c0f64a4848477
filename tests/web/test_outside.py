"""U11: what other programs, other tabs and hands change meanwhile is shown, and never
overwritten.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from datasetkit import api
from tests.web import datasets
from tests.web.client import Browser, captions, numbers, review

# Seconds within which the page knows of a change; it looks every second.
SOON = 15


def write(path: Path, text: str) -> None:
    """Write a caption so that its time tells it from the one before, on any file system."""
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 1_000_000))


def wait_for(page: Browser, told: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask what is new since the version that the page knows, as it does every two seconds."""
    since = page.version
    ends = time.monotonic() + SOON
    while time.monotonic() < ends:
        new: dict[str, Any] = page.get("changes", since=since)
        if told(new):
            return new
        time.sleep(0.05)
    raise AssertionError(f"not told within {SOON} s: {new}")


# ---- nothing unseen is overwritten
# ------------------------------------------------------------------------------


def test_one_caption_changed_outside_stops_the_whole_operation(folder):
    with review(folder) as page:
        write(folder / "p2.txt", "sks, lips, by hand\n")
        before = captions(folder)
        answer = page.do(remove=["lips"], status=409)
        assert captions(folder) == before
        assert answer["count"] == 1 and answer["error"] and answer["hint"]
        (changed,) = answer["changed"]
        assert (changed["name"], changed["known"], changed["now"]) == (
            "p2.jpg",
            "sks, lips",
            "sks, lips, by hand",
        )
        assert (changed["added"], changed["removed"]) == (["by hand"], [])
        # The same again, with the version of the answer, is what the person then wants.
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
def test_a_caption_that_is_edited_is_not_overwritten(folder, meanwhile, now):
    with review(folder) as page:
        known = page.get("image/1")["hash"]
        meanwhile(folder / "p0.txt")
        before = captions(folder)
        answer = page.edit(1, "mine", known=known, status=409)
        assert answer["changed"][0]["now"] == now
        assert captions(folder) == before


def test_a_caption_that_appeared_is_not_overwritten(folder):
    with review(folder) as page:
        write(folder / "p6.txt", "new\n")
        assert page.edit(7, "mine", known="", status=409)["changed"][0]["now"] == "new"
        assert (folder / "p6.txt").read_text() == "new\n"


def test_a_caption_that_can_no_longer_be_read_is_left_alone(folder):
    with review(folder) as page:
        (folder / "p0.txt").write_bytes(b"\xff\xfe\x00")
        before = captions(folder)
        answer = page.do(remove=["sks"], status=400)
        assert "p0.txt" in answer["error"] and "UTF-8" in answer["error"]
        assert captions(folder) == before


def test_the_same_text_written_again_is_no_conflict(folder):
    with review(folder) as page:
        write(folder / "p0.txt", "sks,lips ,  blue eyes")
        assert page.do(remove=["lips"])["changed"] == 3
        assert (folder / "p0.txt").read_bytes() == b"sks, blue eyes\n"


def test_what_the_operation_does_not_touch_may_have_changed(folder):
    with review(folder) as page:
        write(folder / "p4.txt", "by hand\n")
        assert page.do(remove=["lips"])["changed"] == 3
        assert (folder / "p4.txt").read_text() == "by hand\n"


def test_of_two_tabs_one_is_first(folder):
    with review(folder) as page:
        other = Browser(page.serving, folder, page.cookie, page.token, page.version)
        assert page.do({"in": "ids", "ids": [1]}, add=["from one"])["changed"] == 1
        answer = other.do({"in": "ids", "ids": [1]}, add=["from two"], status=409)
        assert answer["changed"][0]["added"] == ["from one"]
        assert other.do({"in": "ids", "ids": [2]}, add=["from two"])["changed"] == 1
        assert other.do({"in": "ids", "ids": [1]}, add=["from two"])["changed"] == 1


def test_many_tabs_at_once_lose_nothing(folder):
    with review(folder) as page:
        version = page.version
        tabs = [Browser(page.serving, folder, page.cookie, page.token, version) for _ in range(8)]

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


def test_a_preview_is_of_what_is_known_and_needs_no_version(folder):
    with review(folder) as page:
        write(folder / "p0.txt", "by hand\n")
        assert page.would(remove=["lips"])["changed"] in (2, 3)
        assert (folder / "p0.txt").read_text() == "by hand\n"


# ---- undo
# --------------------------------------------------------------------------------------------------


def test_undo_does_not_take_a_persons_change_with_it(folder):
    with review(folder) as page:
        page.do(remove=["lips"])
        write(folder / "p2.txt", "sks, by hand\n")
        before = captions(folder)
        answer = page.post("undo", version=page.version, status=409)
        assert captions(folder) == before
        assert [one["name"] for one in answer["changed"]] == ["p2.jpg"] and "--partial" in answer[
            "hint"
        ]


def test_what_another_command_did_is_not_undone_by_the_page(folder):
    with review(folder) as page:
        page.do(remove=["lips"])
        api.rules(folder, api.RulesOptions(additional=("best",)))
        before = captions(folder)
        answer = page.post("undo", version=page.version, status=409)
        assert "dsk rules" in answer["error"] and "dsk undo" in answer["hint"]
        assert captions(folder) == before
        api.undo(folder)
        assert page.post("undo", version=page.version)["title"].startswith("remove lips")


def test_nothing_to_undo_or_to_do_again_is_an_answer(folder):
    with review(folder) as page:
        for call in ("undo", "redo"):
            assert "nothing to" in page.post(call, version=page.version, status=409)["error"]


# ---- the folder is watched
# --------------------------------------------------------------------------------------


def test_a_caption_changed_outside_is_told(folder):
    with review(folder) as page:
        write(folder / "p4.txt", "by another program\n")
        new = wait_for(page, lambda new: bool(new["ids"]))
        assert new["ids"] == new["outside"] == [5] and new["version"] > 1
        assert page.get("image/5")["caption"] == "by another program"
        assert numbers(page, 'tag:"by another program"') == [5]
        # The page knows it now: an edit on it is no conflict.
        assert page.edit(5, "mine")["changed"] == 1


def test_its_own_changes_are_not_told_as_others(folder):
    with review(folder) as page:
        since = page.version
        page.do(remove=["lips"])
        time.sleep(2.5)
        new = page.get("changes", since=since)
        assert sorted(new["ids"]) == [1, 3, 6]
        assert new["outside"] == []


def test_images_that_come_and_go_are_told(folder):
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


def test_a_image_that_was_replaced_gets_a_new_address(folder, tmp_path):
    with review(folder) as page:
        old = page.get("image/1")["v"]
        since = page.version
        datasets.drawing(tmp_path / "other.jpg", 77).replace(folder / "p0.jpg")
        ends = time.monotonic() + SOON
        while time.monotonic() < ends and page.get("image/1")["v"] == old:
            time.sleep(0.05)
        assert page.get("image/1")["v"] != old
        assert page.get("changes", since=since)["ids"] == [1]


def test_who_is_too_far_behind_starts_anew(folder):
    with review(folder) as page:
        for n in range(3):
            page.edit(1, f"text {n}")
        assert page.get("changes", since=1)["ids"] == [1]
        assert page.get("changes", since=10**9)["reset"] is True


def test_the_commands_and_the_page_work_side_by_side(folder):
    with review(folder) as page:
        api.rules(folder, api.RulesOptions(exclude=("lips",)))
        wait_for(page, lambda new: len(new["outside"]) == 3)
        page.version = page.get("session")["version"]
        assert numbers(page, "tag:lips") == []
        assert page.do(remove=["hat"])["changed"] == 3
        titles = [(entry.verb, entry.title) for entry in api.history(folder)]
        assert titles == [("review", "remove hat in 3 captions"), ("rules", "set")]
