"""Start on the page: the dataset is laid out first where it is not current, then the training runs.

What must run before is compared with what a terminal would have to do: `dsk layout` and `dsk reg`
change something exactly where the page says so.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasetkit import api
from datasetkit.options.dataset import LayoutOptions
from datasetkit.options.reg import RegOptions
from datasetkit.options.toml import find
from datasetkit.project import job_queue, job_runner
from tests.web.client import Browser, studio

REG = ("layout", "reg")


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("example") / "kitsu"
    api.init_example(folder)
    return folder


@pytest.fixture
def page(example, tmp_path, monkeypatch) -> Iterator[Browser]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(job_runner, "start", lambda: False)
    folder = tmp_path / "kitsu"
    shutil.copytree(example, folder)
    monkeypatch.chdir(folder)
    with studio(folder) as browser:
        yield browser


def lay_out(reg: bool = True) -> None:
    config = find(Path())
    api.layout([], config.build(LayoutOptions, "layout"))
    if reg:
        api.reg(config.build(RegOptions, "reg"))


def before(page: Browser) -> tuple[str, ...]:
    return tuple(page.get("training")["before"])


def test_the_commands_and_the_steps_before_the_dataset_is_laid_out(page):
    assert page.get("training") == {
        "before": ["layout", "reg"],
        "exists": False,
        "command": "dsk layout && dsk reg && dsk train",
        "steps": 144,
        "epochs": 8,
        "problem": None,
    }
    assert page.get("layout")["steps"] == 144
    shown = page.post("command", verb="train", lay_out=True)["command"]
    assert shown == "dsk layout && dsk reg && dsk train"
    assert page.post("command", verb="train")["command"] == "dsk train"
    lay_out()
    assert page.get("training")["before"] == []
    assert page.post("command", verb="train", lay_out=True)["command"] == "dsk train"
    assert page.post("plan", verb="train")["output"]["result"]["plan"]["steps"] == 144


@pytest.mark.parametrize("start", ["..", "../elsewhere", "faces"])
def test_the_page_says_the_same_wherever_it_was_started(page, tmp_path, monkeypatch, start):
    """`dsk studio my-project` is started in the folder above it."""

    def said() -> tuple[list[tuple[str, int]], object, object]:
        concepts = [(c["name"], c["images"]) for c in page.get("concepts")["concepts"]]
        return concepts, page.get("training"), page.get("layout")["steps"]

    (tmp_path / "elsewhere").mkdir()
    for _ in range(2):
        monkeypatch.chdir(tmp_path / "kitsu")
        here = said()
        monkeypatch.chdir(start)
        assert said() == here
        assert ("girls", 32) in here[0]
        monkeypatch.chdir(tmp_path / "kitsu")
        lay_out()
    assert page.get("training")["before"] == []


def newer(path: Path, text: str) -> None:
    """Write a file in the next second, as a person does."""
    path.write_text(text)
    later = time.time_ns() + 1_000_000_000
    os.utime(path, ns=(later, later))


def edit(old: str, new: str) -> None:
    path = Path("dsk.toml")
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


CHANGES = {
    "a caption": (lambda: newer(Path("faces/kitsu-01.txt"), "kitsu, 1girl\n"), REG),
    "a caption that is gone": (lambda: Path("faces/kitsu-01.txt").unlink(), REG),
    "an image that is gone": (lambda: Path("faces/kitsu-01.png").unlink(), REG),
    "an image": (
        lambda: shutil.copyfile("girls/girl-01.png", "faces/kitsu-02.png"), REG,
    ),
    "repeats": (lambda: edit("repeats = 3", "repeats = 4"), REG),
    "a name": (lambda: edit('name = "kitsu"', 'name = "fox"'), REG),
    "another folder": (lambda: edit("[resize]", '[layout]\nout = "other"\n[resize]'), REG),
    "a regularisation image": (
        lambda: shutil.copyfile("faces/kitsu-02.png", "girls/girl-40.png"), ("reg",),
    ),
    "a caption of a regularisation image": (
        lambda: newer(Path("girls/girl-01.txt"), "1girl, hat\n"), ("reg",),
    ),
    "the class": (lambda: edit('class_name = "1girl"', 'class_name = "girl"'), ("reg",)),
    "an option of the training": (lambda: edit("network_dim = 8", "network_dim = 4"), ()),
    "nothing": (lambda: None, ()),
}  # fmt: skip


def test_what_changed_since_is_laid_out_again_and_nothing_else(page, example):
    """One project, changed and put back: each change alone says what must run again."""
    lay_out()
    kept = page.folder.with_name("kept")
    for name in ("faces", "girls"):
        shutil.copytree(name, kept / name)
    shutil.copy2("dsk.toml", kept)
    for name, (change, expected) in CHANGES.items():
        change()
        assert (name, before(page)) == (name, expected)
        for folder in ("faces", "girls"):
            shutil.rmtree(folder)
            shutil.copytree(kept / folder, folder)
        shutil.copy2(kept / "dsk.toml", "dsk.toml")


def test_a_caption_of_several_lines_is_current_once_it_is_laid_out_as_one(page):
    newer(Path("faces/kitsu-01.txt"), "kitsu\n1girl, smile\n")
    lay_out()
    assert before(page) == ()


def test_a_dataset_without_regularisation_and_one_that_is_laid_out_already(page):
    edit('folder = "girls" ', "# folder =")
    assert before(page) == ("layout",)
    lay_out(reg=False)
    assert before(page) == ()
    dataset = page.folder / "dataset"
    with studio(dataset) as other:
        assert other.get("training")["before"] == []


def test_a_dataset_that_cannot_be_planned_says_why(page):
    shutil.rmtree("faces")
    Path("faces").mkdir()
    training = page.get("training")
    assert training["before"] == [] and "image" in training["problem"]["error"]
    assert training["problem"]["hint"]


def test_start_adds_all_commands_in_their_order_and_each_comes_after_those_before_it(page):
    other = page.post("jobs", verb="check", arguments=["faces"], when="queue")["job"]
    answer = page.post("jobs", verb="train", lay_out=True, when="now")
    layout, reg = answer["before"]
    train = answer["job"]
    assert (layout["verb"], reg["verb"], train["verb"]) == ("layout", "reg", "train")
    assert (layout["after"], reg["after"]) == ([], [layout["id"]])
    assert train["after"] == [layout["id"], reg["id"]]
    assert train["title"] == "kitsu"
    # What changes the project comes first: a layout before it would be another one.
    assert [job["verb"] for job in page.get("jobs")["jobs"]] == ["check", "layout", "reg", "train"]
    page.post(f"jobs/{other['id']}/remove")
    page.post("jobs", verb="train", lay_out=True, when="queue")
    assert [job.verb for job in job_queue.queue()] == [*REG, "train", *REG, "train"]
    assert not any(job.held for job in job_queue.queue())


def test_a_full_queue_takes_all_commands_or_none(page, monkeypatch):
    monkeypatch.setattr(job_queue, "LIMIT", 2)
    body = b'{"verb": "train", "lay_out": true, "when": "queue"}'
    response = page.ask("POST", "/api/jobs", body, page.headers)
    assert response.status == 400 and "limit" in response.json["error"]
    assert job_queue.queue() == ()


def test_only_a_training_has_steps_before_it(page):
    for route in ("jobs", "command"):
        body = b'{"verb": "tag", "arguments": ["faces"], "lay_out": true}'
        response = page.ask("POST", f"/api/{route}", body, page.headers)
        assert response.status == 400 and "only dsk train" in response.json["error"]
    assert job_queue.queue() == ()


@pytest.mark.long
def test_the_shown_commands_lay_out_the_same_files(page, monkeypatch):
    """The jobs of the page, and the shown line in a terminal, without the training."""
    page.post("jobs", verb="train", lay_out=True, when="queue")
    page.post(f"jobs/{job_queue.queue()[-1].id}/remove")
    copy = page.folder.with_name("copy")
    shutil.copytree(page.folder, copy, ignore=shutil.ignore_patterns(".dsk"))
    assert job_runner.run() == 2
    monkeypatch.chdir(copy)
    lay_out()
    assert files(page.folder / "dataset") == files(copy / "dataset")
    assert len(files(copy / "dataset")) == 112


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".dsk" not in path.parts
    }


@pytest.mark.long
def test_a_layout_that_fails_starts_no_training_and_the_page_has_the_reason(page):
    page.post("jobs", verb="train", lay_out=True, when="queue")
    shutil.rmtree("faces")
    assert job_runner.run() == 1
    states = {job["verb"]: job for job in page.get("jobs")["jobs"]}
    assert {verb: job["state"] for verb, job in states.items()} == {
        "layout": "failed", "reg": "failed", "train": "failed",
    }  # fmt: skip
    assert states["train"]["reason"].startswith("not started: dsk layout failed")
    assert "faces" in page.get(f"jobs/{states['layout']['id']}")["log"]


PRUNE = "fox ears,orange hair,medium hair,red scarf,sunglasses"


def test_prune_is_offered_until_no_caption_has_an_excluded_tag(page):
    (row,) = page.get("pruning")["concepts"]
    assert (row["name"], row["images"], row["tags"]) == ("kitsu", 24, PRUNE.split(","))
    assert row["command"] == f"dsk rules faces --exclude '{PRUNE}'"
    command = {"verb": "rules", "arguments": row["arguments"], "options": row["options"]}
    assert page.post("command", **command)["command"] == row["command"]
    newer(Path("faces/kitsu-02.txt"), "kitsu, 1girl\n")
    assert page.get("pruning")["concepts"][0]["images"] == 23
    api.rules(Path("faces"), api.RulesOptions(exclude=tuple(PRUNE.split(","))))
    assert page.get("pruning") == {"concepts": []}
    captions = [path.read_text() for path in Path("faces").glob("*.txt")]
    assert all(text.startswith("kitsu, 1girl") for text in captions)
    assert not any(tag in text for text in captions for tag in PRUNE.split(","))


def test_images_without_a_caption_are_offered_to_be_tagged(page):
    """With the trigger of their concept, in the folder of the finished images."""
    assert page.get("tagging") == {"concepts": []}
    shutil.copytree("faces", "work/kitsu")
    for name in ("kitsu-02", "kitsu-03"):
        Path(f"work/kitsu/{name}.txt").unlink()
    Path("girls/girl-01.txt").unlink()  # a regularisation image needs none
    (row,) = page.get("tagging")["concepts"]
    assert (row["name"], row["images"]) == ("kitsu", 2)
    assert row["command"] == "dsk tag work/kitsu --trigger kitsu"
    command = {"verb": "tag", "arguments": row["arguments"], "options": row["options"]}
    assert page.post("command", **command)["command"] == row["command"]


def test_prune_is_for_the_finished_images_and_for_nothing_that_dsk_toml_does_not_exclude(page):
    shutil.copytree("faces", "work/kitsu")
    (row,) = page.get("pruning")["concepts"]
    assert row["arguments"] == ["work/kitsu"]
    edit("exclude =", "# exclude =")
    assert page.get("pruning") == {"concepts": []}


def test_prune_changes_nothing_when_it_is_looked_at(page):
    before = files(page.folder)
    page.get("pruning")
    page.get("training")
    assert files(page.folder) == before
