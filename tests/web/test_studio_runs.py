"""Runs on the page: found by their files, with the state that the lock says, and their metrics."""

from __future__ import annotations

import json

import numpy as np
import pytest

from datasetkit.verbs.studio import metrics as studio_metrics
from datasetkit.verbs.studio.metrics import MOST_POINTS, RunMetrics
from tests.web.client import studio
from trainer.files import run_lock, run_manifest
from trainer.files.run_manifest import RunFile, RunManifest


def rows(first, last):
    return "".join(
        json.dumps(
            {"step": n, "epoch": 1 + n // 10, "loss": 1 / n, "seconds": 0.5, "lr/unet": 1e-4}
        )
        + "\n"
        for n in range(first, last + 1)
    )


def make_run(folder, name="k", status="running", steps=40, done=20, **options):
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"options": {"network_dim": 8, **options}, "plan": {"steps": steps, "epochs": 4}}
    files = (RunFile(f"{name}-metrics.jsonl", "metrics"),)
    run_manifest.write(
        folder, RunManifest(name, "2026-11-29T17:26:00Z", status, facts=facts, files=files)
    )
    (folder / f"{name}-metrics.jsonl").write_text(rows(1, done))
    return folder


@pytest.fixture
def page(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (folder / "dsk.toml").write_text("[train]\nnetwork_dim = 8\noutput_dir = 'results/here'\n")
    with studio(folder) as browser:
        yield browser


def test_the_runs_of_a_project_and_what_they_are(page):
    assert page.get("runs") == {"runs": []}
    page_runs = {}
    make_run(page.folder / "results" / "here", "k", "finished", done=40)
    make_run(page.folder / "results" / "here", "lost", "running")
    for run in page.get("runs")["runs"]:
        page_runs[run["name"]] = run
    assert {name: run["state"] for name, run in page_runs.items()} == {
        "k": "finished",
        "lost": "lost",
    }
    lost = page_runs["lost"]
    assert (lost["step"], lost["steps"], lost["epochs"], lost["seconds_left"]) == (20, 40, 4, None)
    with run_lock.hold(page.folder / "results" / "here", "lost"):
        run = page.get(f"runs/{lost['id']}")["run"]
        assert (run["state"], run["seconds_per_step"]) == ("running", 0.5)
        assert run["seconds_left"] == pytest.approx(10)
    assert page.get(f"runs/{lost['id']}")["run"]["state"] == "lost"
    missing = page.ask("GET", "/api/runs/0123456789abcdef", headers={"Cookie": page.cookie})
    assert missing.status == 404


def test_what_the_form_says_and_a_run_does_not_use(page):
    make_run(page.folder / "results" / "here", network_dim=16, output_dir="results/here")
    run = page.get("runs")["runs"][0]
    assert page.get(f"runs/{run['id']}")["differs"] == {"network_dim": [16, 8]}


def test_a_damaged_record_is_shown_as_far_as_it_can_be_read(page):
    folder = make_run(page.folder / "results" / "here")
    (folder / "k-run.json").write_text("{")
    assert [run["state"] for run in page.get("runs")["runs"]] == ["ended"]
    (folder / "k-run.json").write_text('{"version": 1, "name": "k", "status": "running"}')
    run = page.get("runs")["runs"][0]
    assert page.get(f"runs/{run['id']}")["options"] == {}


def test_metrics_have_at_most_so_many_points_with_their_extremes(page):
    folder = make_run(page.folder / "results" / "here", done=5000, steps=5000)
    run = page.get("runs")["runs"][0]["id"]
    answer = page.get(f"runs/{run}/metrics", keys="loss,lr/unet,nothing", points=100)
    assert (answer["last"], sorted(answer["series"])) == (5000, ["loss", "lr/unet"])
    assert {"loss", "seconds", "epoch", "lr/unet"} <= set(answer["keys"])
    loss = answer["series"]["loss"]
    assert len(loss["step"]) == len(loss["mean"]) == 100
    assert loss["max"][0] == 1 and loss["min"][-1] == pytest.approx(1 / 5000)
    values = 1 / np.arange(1, 5001)
    assert loss["mean"][0] == pytest.approx(values[:50].mean(), rel=1e-6)
    part = page.get(f"runs/{run}/metrics", keys="loss", **{"from": 10, "to": 12})
    assert part["series"]["loss"] == {
        "step": [10, 11, 12],
        "mean": pytest.approx([1 / 10, 1 / 11, 1 / 12]),
    }
    assert len(page.get(f"runs/{run}/metrics")["series"]["loss"]["step"]) == MOST_POINTS
    assert folder.exists()
    for query in ("points=0x1", "points=2001", "from=-1", "to=x", "keys=" + "a," * 101):
        path = f"/api/runs/{run}/metrics?{query}"
        assert page.ask("GET", path, headers={"Cookie": page.cookie}).status == 400


def test_four_long_runs_stay_below_300_kb(tmp_path):
    path = tmp_path / "k-metrics.jsonl"
    path.write_text(rows(1, 20_000))
    metrics = RunMetrics(path)
    metrics.update()
    answer = json.dumps([metrics.series(["loss"], 0, None, MOST_POINTS)] * 4)
    assert len(answer) < 600_000


# ---- a file that grows, and is replaced


def test_lines_are_read_once_and_only_when_they_are_whole(tmp_path):
    path = tmp_path / "k-metrics.jsonl"
    metrics = RunMetrics(path)
    assert metrics.update() is None and metrics.last_step == 0
    path.write_text(rows(1, 3) + rows(4, 4)[:10])
    assert metrics.update() is None and metrics.last_step == 3
    with path.open("a") as file:
        file.write(rows(4, 4)[10:] + "not a row\n" + '{"step": "x"}\n[1]\n' + rows(5, 5))
    assert metrics.update() is None and metrics.last_step == 5
    assert metrics.series(["loss"], 0, None, 10)["loss"]["step"] == [1, 2, 3, 4, 5]
    assert metrics.update() is None and metrics.position == path.stat().st_size
    assert (metrics.rows_after(3, 10) or {})["loss"]["step"] == [4, 5]
    assert metrics.rows_after(0, 2) is None and metrics.rows_after(5, 2) == {}


def test_a_line_that_is_no_row_costs_no_other(tmp_path):
    """Lines are parsed together; each counts alone."""
    broken = ['{"step": 3, "loss": [1', "2]}", '{"step": 4},{"step": 5}', "", "[6]", "[" * 9999,
              '{"step": 1' + 400 * "0" + "}", '{"step": null, "loss": 1}', '{"loss": 1}',
              '{"step": 8, "loss": 1' + 400 * "0" + ', "other": 2}']  # fmt: skip
    path = tmp_path / "k-metrics.jsonl"
    for line in broken:
        path.write_text(rows(1, 2) + line + "\n" + rows(9, 10))
        metrics = RunMetrics(path)
        metrics.update()
        assert metrics.series(["loss"], 0, None, 10)["loss"]["step"] == [1, 2, 9, 10], line
        assert metrics.position == path.stat().st_size
    assert metrics.series(["other"], 0, None, 10)["other"]["step"] == [8]


def test_a_list_of_runs_reads_the_ends_of_their_metrics(page, monkeypatch):
    """Also with more runs than are kept open; one that somebody looks at is not read again."""
    read: list[int] = []

    def count(lines, parse=studio_metrics._rows):
        read.append(len(lines))
        return parse(lines)

    monkeypatch.setattr(studio_metrics, "_rows", count)
    folder = page.folder / "results" / "here"
    for n in range(20):
        make_run(folder, f"k{n}", "finished", steps=3000, done=3000 if n else 3)
    runs = page.get("runs")["runs"]
    by_step = {run["step"] for run in runs}
    assert len(runs) == 20 and by_step == {3, 3000}
    assert all(run["seconds_per_step"] == 0.5 and run["epoch"] for run in runs)
    assert sum(read) < 20 * 1000
    run = max(runs, key=lambda run: run["step"])
    assert page.get(f"runs/{run['id']}/metrics")["last"] == 3000
    del read[:]
    page.get("runs")
    assert page.get(f"runs/{run['id']}/metrics")["last"] == 3000
    assert sum(read) < 20 * 1000


def test_a_resumed_run_makes_later_steps_void(tmp_path):
    path = tmp_path / "k-metrics.jsonl"
    path.write_text(rows(1, 20))
    metrics = RunMetrics(path)
    metrics.update()
    new = tmp_path / "new"
    new.write_text(rows(1, 12))
    new.replace(path)
    assert metrics.update() == 12 and metrics.last_step == 12
    with path.open("a") as file:
        file.write(rows(13, 14))
    assert metrics.update() is None and metrics.last_step == 14
    assert metrics.valid_until == 12
    # It goes on from step 10, and is further than before when somebody looks again.
    new.write_text(rows(1, 10) + rows(11, 30).replace("0.5", "0.7"))
    new.replace(path)
    assert metrics.update() == 10 and metrics.last_step == 30
    path.write_text(rows(1, 2))  # the same file, cut off
    assert metrics.update() == 2
    path.unlink()
    assert metrics.update() == 0 and metrics.keys() == []


def test_a_reader_that_comes_back_knows_whether_the_file_is_the_same(tmp_path):
    path = tmp_path / "k-metrics.jsonl"
    path.write_text(rows(1, 20))
    metrics = RunMetrics(path)
    metrics.update()
    position, mark = metrics.position, metrics.mark
    with path.open("a") as file:
        file.write(rows(21, 25))
    other = RunMetrics(path)  # of a server that was started again
    other.update()
    assert other.is_read_until(position, mark) and other.step_at(position) == 20
    assert other.is_read_until(0, "") and not other.is_read_until(position, "00000000")
    assert not other.is_read_until(position + 1, mark)
    assert not other.is_read_until(10**9, mark)
    new = tmp_path / "new"
    new.write_text(rows(1, 12) + rows(13, 40).replace("0.5", "0.7"))
    new.replace(path)
    other.update()
    assert not other.is_read_until(position, mark) and other.valid_until == 12


def test_values_that_are_no_numbers_are_left_out(tmp_path):
    path = tmp_path / "k-metrics.jsonl"
    path.write_text('{"step": 1, "loss": NaN, "memory": null, "a": true, "b": "x", "c": 2}\n')
    metrics = RunMetrics(path)
    metrics.update()
    assert metrics.keys() == ["a", "c"]
