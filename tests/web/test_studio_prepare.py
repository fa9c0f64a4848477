"""Preparing images from the page: the commands, dsk.toml, and jobs that do the same as dsk run."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datasetkit import api
from datasetkit.cli.main import run
from datasetkit.verbs.studio import jobs
from datasetkit.verbs.studio.commands import StudioCommand
from tests.safety.harness import tree
from tests.web.client import Browser, studio
from tests.web.datasets import drawing

CONFIG = """\
# mine
[run]
steps = ["resize", "tag", "layout"]   # kept

[[concept]]
name = "kitsu"
folder = "faces"

[resize]
max = 64
"""


@pytest.fixture
def started(monkeypatch) -> list[StudioCommand]:
    """Collect the jobs instead of starting them."""
    commands: list[StudioCommand] = []

    def start(session: object, added: list[StudioCommand], when: str) -> list[dict[str, Any]]:
        commands.extend(added)
        return [{"command": command.shown} for command in added]

    monkeypatch.setattr(jobs, "start", start)
    return commands


@pytest.fixture
def page(tmp_path, started) -> Iterator[Browser]:
    for n in range(3):
        drawing(tmp_path / "faces" / f"a{n}.png", n)
    (tmp_path / "dsk.toml").write_text(CONFIG)
    with studio(tmp_path) as browser:
        yield browser


def prepare(page: Browser, steps: Any, *, status: int = 200, dry_run: bool = False) -> Any:
    body = {"concept": 0, "steps": steps, "dry_run": dry_run}
    response = page.ask("POST", "/api/prepare", json.dumps(body).encode(), page.headers)
    assert response.status == status, response.body
    return response.json


def test_a_dry_run_names_the_commands_and_changes_nothing(page, started):
    plan = prepare(page, {"resize": {"max": 64}, "cutout": {"bg": "white"}}, dry_run=True)
    assert (plan["images"], plan["total"]) == (3, 3)
    assert plan["command"] == (
        "dsk resize faces work/.resize/kitsu --max 64 && "
        "dsk cutout work/.resize/kitsu work/kitsu --bg white"
    )
    assert started == [] and (page.folder / "dsk.toml").read_text() == CONFIG


def test_the_steps_are_written_into_dsk_toml_and_run_as_jobs(page, started, monkeypatch):
    result = prepare(page, {"rename": {"prefix": "kitsu"}, "resize": {"max": 32}})
    assert [each.words[0] for each in started] == ["rename", "resize"]
    text = (page.folder / "dsk.toml").read_text()
    table = tomllib.loads(text)
    assert table["run"]["steps"] == ["rename", "resize", "tag", "layout"]
    assert (table["resize"]["max"], table["rename"]["prefix"]) == (32, "kitsu")
    assert text.startswith("# mine\n") and "# kept" in text
    assert len(result["jobs"]) == 2
    monkeypatch.chdir(page.folder)
    for each in started:
        assert run(list(each.words)) == 0
    names = sorted(path.name for path in (page.folder / "work" / "kitsu").glob("*.png"))
    assert names == ["kitsu_001.png", "kitsu_002.png", "kitsu_003.png"]
    # dsk run does the same: there is nothing left to do.
    out = page.folder / "work" / "kitsu"
    again = api.resize(page.folder / "faces", out, api.ResizeOptions(max=32))
    assert list(again.report.done) == []
    steps = {"rename": {"prefix": "kitsu"}, "resize": {"max": 32}}
    assert prepare(page, steps, dry_run=True)["total"] == 0


def test_a_folder_that_is_not_in_dsk_toml_becomes_a_concept(tmp_path, started):
    drawing(tmp_path / "faces" / "a.png", 1)
    with studio(tmp_path) as page:
        prepare(page, {"resize": {"max": 64}})
    table = tomllib.loads((tmp_path / "dsk.toml").read_text())
    assert table["concept"] == [{"name": "faces", "folder": "faces"}]
    assert "resize" in table["run"]["steps"]


@pytest.mark.parametrize(
    "steps",
    [None, [], {}, {"tag": {}}, {"resize": 5}, {"resize": {"max": "x"}}, {"resize": {"max": -1}},
     {"faces": {"do": "remove"}}, {"rename": {"prefix": "../x"}}, {"resize": {"unknown": 1}},
     {"rename": {"prefix": "-rf"}}, {"rename": {"prefix": 5}}],
    ids=str,
)  # fmt: skip
def test_wrong_steps_are_refused_and_nothing_is_written(page, started, steps):
    response = page.ask(
        "POST",
        "/api/prepare",
        json.dumps({"concept": 0, "steps": steps}).encode(),
        page.headers,
    )
    assert response.status in (400, 403), response.body
    assert started == [] and (page.folder / "dsk.toml").read_text() == CONFIG


@pytest.mark.long
def test_the_preparation_is_tried_on_three_images_outside_of_the_project(page, started):
    for n in range(3, 8):
        drawing(page.folder / "faces" / f"a{n}.png", n)
    before = tree(page.folder)
    state = Path(os.environ["XDG_STATE_HOME"])
    jobs_before = set(state.glob("*/jobs/*"))
    steps = {"rename": {"prefix": "kitsu"}, "resize": {"max": 48}}
    preview = page.post("prepare/preview", concept=0, steps=steps)
    assert [row["name"] for row in preview["images"]] == ["a0.png", "a3.png", "a7.png"]
    for row in preview["images"]:
        after = row["after"]
        assert max(row["before"]["w"], row["before"]["h"]) > max(after["w"], after["h"]) == 48
        shown = page.ask("GET", f"/source/{after['id']}?v={after['v']}", headers=page.headers)
        assert shown.status == 200
    assert tree(page.folder) == before and started == []
    assert set(state.glob("*/jobs/*")) == jobs_before
    lines = preview["command"].split(" && ")
    assert lines == [
        "mkdir -p preview/images",
        "cp faces/a0.png faces/a3.png faces/a7.png preview/images",
        "dsk resize preview/images preview/work/kitsu --max 48",
    ]


def test_a_preview_that_cannot_be_made_says_why(page):
    def answer(**body: Any) -> tuple[int, str]:
        response = page.send("prepare/preview", concept=0, **body)
        return response.status, response.json["error"]

    assert answer(steps={}) == (400, "no chosen step changes the content of an image")
    assert answer(steps={"rename": {}})[0] == 400
    assert answer(steps={"resize": {"max": 1}})[0] == 400
    for path in (page.folder / "faces").iterdir():
        path.write_bytes(b"no image")
    tried = answer(steps={"resize": {"max": 48}})
    assert tried == (400, "none of the 3 images that are tried can be read")
