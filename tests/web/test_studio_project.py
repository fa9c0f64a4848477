"""What the state of each tab follows from, the options, the machine, and the history."""

from __future__ import annotations

import json
import time

import pytest

from datasetkit import api
from datasetkit.options.declare import declared
from datasetkit.options.toml import TABLES, options_class
from datasetkit.project.locks import lock
from tests.web import datasets
from tests.web.client import studio
from tests.web.test_studio_runs import make_run


@pytest.fixture
def page(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (folder / "dsk.toml").write_text("[train]\nresolution = 64\n[tag]\ntrigger = ['sks']\n")
    with studio(folder) as browser:
        yield browser


def test_the_facts_follow_the_project(page):
    facts = page.get("project")
    assert facts["images"]["total"] == 7 and facts["captions"]["captioned"] == 6
    assert (facts["captions"]["missing"], facts["captions"]["empty"]) == (1, 0)
    assert facts["captions"]["without_trigger"] == 3
    assert facts["check"] == {"ran": None, "code": 0, "is_current": False}
    assert facts["config"]["problem"] is None and facts["locked"] is None
    assert facts["history"] == {"entries": 0, "interrupted": 0, "undo": None}
    small = page.get("project")["images"]["small"]
    (page.folder / "dsk.toml").write_text("[train]\nresolution = 2048\n")
    assert page.get("project")["images"]["small"] == 7 >= small
    (page.folder / "dsk.toml").write_text("[train\n")
    broken = page.get("project")
    assert broken["config"]["problem"] and broken["train"]["problem"]
    (page.folder / "dsk.toml").unlink()
    make_run(page.folder / "output", "k", "finished")
    make_run(page.folder / "output", "lost", "running")
    runs = page.get("project")["runs"]
    assert (runs["total"], runs["lost"], runs["running"]) == (2, 1, 0)
    with lock(page.folder):
        assert page.get("project")["locked"] == {"verb": "", "job": None}


@pytest.mark.long
def test_an_empty_folder_has_facts_too(tmp_path):
    (tmp_path / "empty").mkdir()
    with studio(tmp_path / "empty") as page:
        facts = page.get("project")
        assert facts["images"]["total"] == facts["history"]["entries"] == 0
        assert facts["runs"]["last"] is None and not facts["layout"]["exists"]
        assert page.get("history") == {"entries": []}
    assert list((tmp_path / "empty").iterdir()) == []


def test_the_schema_has_every_option_and_is_sent_once(page):
    answer = page.ask("GET", "/api/schema", headers={"Cookie": page.cookie})
    schema = answer.json
    for table in TABLES:
        names = [option["name"] for option in schema["tables"][table]]
        assert names == [d.name for d in declared(options_class(table))]
    assert list(schema["slots"]) == [str(n) for n in range(1, 11)]
    again = {"Cookie": page.cookie, "If-None-Match": answer.headers["etag"]}
    assert page.ask("GET", "/api/schema", headers=again).status == 304


def test_the_machine(page):
    system = page.get("system")
    assert system["cores"] >= 1 and system["memory"]["total"] > 0 and system["disk"]["free"] > 0
    assert set(system["extras"]) >= {"train", "tag", "web"} and system["remote"] is False


def test_the_history_is_listed_and_undone(page):
    page.do(remove=["hat"])
    entry = page.get("history")["entries"][0]
    assert (entry["undone"], entry["open"]) == (False, False)
    changes = page.get(f"history/{entry['id']}")
    assert changes["total"] == len(changes["changes"]) > 0
    planned = page.post("history/undo", entry=entry["id"], dry_run=True)
    assert planned["entries"][0]["id"] == entry["id"] and planned["refused"] == []
    assert "hat" not in (page.folder / "p1.txt").read_text()
    page.post("history/undo", entry=None)
    assert "hat" in (page.folder / "p1.txt").read_text()
    listed = {row["id"]: row["undone"] for row in page.get("history")["entries"]}
    assert listed[entry["id"]] is True
    missing = page.ask("GET", "/api/history/999", headers={"Cookie": page.cookie})
    assert missing.status == 404


def test_a_check_is_current_until_something_changes(page):
    datasets.drawing(page.folder / "p7.jpg", 7)
    with_job = api.add_job(["check", "."], page.folder, held=True)
    assert json.dumps(page.get("project")["check"]) and with_job.verb == "check"
    assert page.get("project")["check"]["ran"] is None  # it has not run yet


@pytest.mark.parametrize("keeps", [False, True])
def test_near_duplicates_that_dsk_toml_keeps_need_no_attention(tmp_path, monkeypatch, keeps):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    project = tmp_path / "kitsu"
    api.init_example(project)
    config = project / "dsk.toml"
    if not keeps:
        config.write_text(config.read_text().replace("keep_duplicates", "# keep_duplicates"))
    with studio(project) as page:
        page.get("session")
        end = time.monotonic() + 60
        while (compared := page.get("near-duplicates"))["done"] < compared["total"]:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert (page.get("project")["images"]["near_duplicates"] == 0) is keeps
