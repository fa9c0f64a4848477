"""The tabs Check and Plan over HTTP: cards with fixes, buckets and cuts as numbers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from datasetkit import api
from datasetkit.cli.main import run
from tests.web.client import Browser, studio
from tests.web.datasets import drawing

CONFIG = """\
[[concept]]
name = "kitsu"
folder = "faces"
trigger = ["kitsu"]
repeats = 4

[run]
steps = ["layout"]

[train]
pretrained_model_name_or_path = "tiny"
resolution = 128
min_bucket_reso = 64
bucket_reso_steps = 64
train_batch_size = 2
max_train_epochs = 3
"""


@pytest.fixture
def page(tmp_path, monkeypatch) -> Iterator[Browser]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "project"
    for n in range(3):
        path = drawing(folder / "faces" / f"a{n}.png", n)
        path.with_suffix(".txt").write_text("kitsu, smile, smile\n" if n else "smile, kitsu\n")
    drawing(folder / "faces" / "tall.png", 5, (100, 300)).with_suffix(".txt").write_text("kitsu\n")
    (folder / "dsk.toml").write_text(CONFIG)
    monkeypatch.chdir(folder)
    with studio(folder) as browser:
        yield browser


def test_before_the_checks_ran_there_are_no_cards(page):
    report = page.get("check")
    assert (report["ran"], report["cards"], report["images"]) == (None, [], 4)


def test_the_findings_are_cards_with_images_and_a_fix(page):
    assert run(["check", "."]) in (0, 3)
    report = page.get("check")
    assert report["ran"] and report["current"] and report["images"] == 4
    cards = {card["check"]: card for card in report["cards"]}
    twice = cards["tag-twice"]
    assert (twice["findings"], twice["fixable"], twice["severity"]) == (2, 2, "warning")
    assert twice["why"] and [image["name"] for image in twice["images"]] == ["a1.png", "a2.png"]
    shown = twice["images"][0]
    response = page.ask(
        "GET", f"/source/{shown['id']}?v={shown['v']}&side=64", headers={"Cookie": page.cookie}
    )
    assert response.status == 200
    assert page.get("check/findings", check="tag-twice")["findings"] == twice["images"]


def test_a_fix_is_shown_then_done_and_undone(page):
    run(["check", "."])
    captions = {p.name: p.read_text() for p in (page.folder / "faces").glob("*.txt")}
    planned = page.post("check/fix", checks=["tag-twice"], dry_run=True)
    assert planned["count"] == 2 and len(planned["changes"]) == 2 and planned["entry"] is None
    assert {p.name: p.read_text() for p in (page.folder / "faces").glob("*.txt")} == captions
    done = page.post("check/fix", checks=["tag-twice"])
    assert done["count"] == 2 and done["entry"]
    assert (page.folder / "faces" / "a1.txt").read_text() == "kitsu, smile\n"
    assert not page.get("check")["current"]
    api.undo(page.folder)
    assert {p.name: p.read_text() for p in (page.folder / "faces").glob("*.txt")} == captions


@pytest.mark.parametrize("checks", [None, [], ["none"], [5], "tag-twice", ["../x"], ["-h"]])
def test_a_check_that_does_not_exist_is_refused(page, checks):
    assert page.send("check/fix", checks=checks).status == 400


def test_the_plan_has_repeats_steps_and_buckets(page):
    plan = page.get("layout")
    (kitsu,) = plan["concepts"]
    assert (kitsu["id"], kitsu["name"], kitsu["images"], kitsu["repeats"]) == (0, "kitsu", 4, 4)
    assert sum(bucket["images"] for bucket in plan["buckets"]) == 4
    assert (plan["epochs"], plan["batch"], plan["current"]) == (3, 2, False)
    assert plan["steps"] > 0 and plan["balance"] is None
    api.run(page.folder)
    after = page.get("layout")
    assert after["current"] and after["steps"] == api.plan_training(page.folder / "dataset").steps
    (page.folder / "faces" / "a0.txt").write_text("kitsu, frown\n")
    assert not page.get("layout")["current"]


def test_the_images_of_the_plan_come_with_what_is_cut_off_the_worst_first(page):
    rows = page.get("layout/images")
    assert (rows["total"] == 4 and rows["name"][0] == "tall.png") or rows["name"][-1] == "tall.png"
    shares = [
        1 - (1 - left - right) * (1 - top - bottom)
        for left, top, right, bottom in zip(
            rows["left"], rows["top"], rows["right"], rows["bottom"], strict=True
        )
    ]
    assert shares == sorted(shares, reverse=True) and all(0 <= share < 1 for share in shares)
    for n in range(4):
        kept = 1 - rows["left"][n] - rows["right"][n], 1 - rows["top"][n] - rows["bottom"][n]
        width = rows["w"][n] * rows["scale"][n] * kept[0]
        height = rows["h"][n] * rows["scale"][n] * kept[1]
        assert abs(width - rows["bucket_w"][n]) < 2 and abs(height - rows["bucket_h"][n]) < 2
    assert page.get("layout/images", offset=1, limit=2)["name"] == rows["name"][1:3]


def test_an_empty_project_says_why_there_is_no_plan(tmp_path):
    with studio(tmp_path) as page:
        response = page.ask("GET", "/api/layout", headers={"Cookie": page.cookie})
        assert response.status == 400 and response.json["hint"]
        assert page.get("layout/images")["total"] == 0
        assert page.get("check")["images"] == 0
