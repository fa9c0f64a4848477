"""Commands and jobs of the page: what is refused, and that it runs what a terminal runs."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from datasetkit import api
from datasetkit.core import toml_text
from datasetkit.options import toml
from datasetkit.options.declare import declared
from datasetkit.project import job_runner, jobs, processes
from datasetkit.verbs.shared import job as job_of_command
from datasetkit.verbs.studio import session
from datasetkit.verbs.studio.commands import SWITCHES, TABLES
from tests.cli.commands import commands, options
from tests.web.client import studio


@pytest.fixture
def page(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(job_runner, "start", lambda: False)
    (folder / "dsk.toml").write_text('[tag]\ntrigger = ["sks"]\n[train]\nnetwork_dim = 8\n')
    with studio(folder) as browser:
        yield browser


def shown(page, verb, *arguments, status=200, **options):
    return page.post(
        "command", verb=verb, arguments=list(arguments), options=options, status=status
    )


# ---- the command line


def test_the_page_runs_commands_that_exist_with_their_own_options():
    known = commands()
    for verb, table in TABLES.items():
        names = set(options(known[verb]))
        assert {"--dry-run", "--json"} <= names, verb
        assert {f"--{switch}" for switch in SWITCHES.get(verb, ())} <= names
        assert verb == "train" or known[verb].table == table, verb


def test_options_become_what_is_typed(page):
    line = shown(
        page, "tag", ".", trigger=["sks", "a b"], threshold=0.4, recursive=True, tagger="basic"
    )["command"]
    assert shlex.split(line) == [
        "dsk", "tag", ".", "--recursive", "--trigger", "sks,a b", "--tagger", "basic",
        "--threshold", "0.4",
    ]  # fmt: skip
    line = shown(page, "train", ".", resume=True, network_dim=4, optimizer_args=["eps=1e-6"])
    words = shlex.split(line["command"])
    assert words[3:] == [
        "--set",
        "network_dim=4",
        "--set",
        'optimizer_args=["eps=1e-6"]',
        "--resume",
    ]
    assert shown(page, "layout", "5_sks=.")["command"] == "dsk layout 5_sks=."


@pytest.mark.long
@pytest.mark.parametrize("verb", TABLES)
def test_every_default_of_a_command_can_be_typed(page, verb):
    """What the page sends is understood by the command itself."""
    if not TABLES[verb]:
        shown(page, verb, ".", threshold=1, status=400)
        return
    cls = toml.options_class(TABLES[verb])
    command = commands()[verb]
    values = {}
    for row in declared(cls):
        default = row.default
        has = verb == "train" or any(param.name == row.name for param in command.params)
        if (
            has
            and not row.about.path
            and default not in (None, (), "")
            and type(default) is not object
        ):
            values[row.name] = list(default) if isinstance(default, tuple) else default
    try:
        line = shown(page, verb, ".", **{k: v for k, v in values.items() if _is_json(v)})["command"]
    except AssertionError as error:
        pytest.fail(str(error))
    words = shlex.split(line)[1 + len(verb.split()) :]
    if verb != "train":
        made = command.make_context(verb, words, resilient_parsing=True)
        assert made


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


HOSTILE = [
    ("undo", (), {}),
    ("jobs add", ("train",), {}),
    ("tag; rm -rf x", (), {}),
    ("tag", ("--model-dir=/etc",), {}),
    ("tag", ("../..",), {}),
    ("tag", ("/etc",), {}),
    ("tag", ("a\0b",), {}),
    ("tag", ("a\nb",), {}),
    ("tag", (7,), {}),
    ("tag", (".",), {"nonsense": 1}),
    ("tag", (".",), {"threshold": "high"}),
    ("tag", (".",), {"model_dir": "/etc"}),
    ("train", (".",), {"optimizer_type": "evil.module.Class"}),
    ("train", (".",), {"optimizer_type": "evil.module:Class"}),
    ("train", (".",), {"optimizer_type": "AdamX"}),
    ("train", (".",), {"optimizer_type": ""}),
    ("train", (".",), {"optimizer_type": "evil."}),
    ("train", (".",), {"lr_scheduler_type": "torch.optim.lr_scheduler.StepLR"}),
    ("train", (".",), {"output_dir": "/etc/x"}),
    ("train", (".",), {"output_dir": "../../../x"}),
    ("train", (".",), {"network_weights": "/etc/passwd"}),
    ("train", (".",), {"pretrained_model_name_or_path": "/etc/passwd.safetensors"}),
    ("train", (".",), {"resume": "yes"}),
    ("train", (".",), {"output_name": "../x"}),
    ("export", (".",), {"out": "/etc/x"}),
]


@pytest.mark.parametrize("when", ["command", "plan", "jobs"])
@pytest.mark.parametrize(("verb", "arguments", "values"), HOSTILE)
def test_a_hostile_command_is_refused_before_anything_starts(page, when, verb, arguments, values):
    if (verb, dict(values)) == ("train", {"output_name": "../x"}) and when != "jobs":
        pytest.skip("its own rule of names refuses it when it is planned")
    started = []
    patch = pytest.MonkeyPatch()
    patch.setattr(subprocess, "Popen", lambda *a, **k: started.append(a))
    try:
        body = {"verb": verb, "arguments": list(arguments), "options": values, "when": "held"}
        response = page.send(when, **body)
    finally:
        patch.undo()
    if values == {"output_name": "../x"}:
        assert response.status in (200, 400)
        return
    assert response.status in (400, 403), response.body
    assert response.json["error"] and not started
    assert page.get("jobs")["jobs"] == []


def test_links_do_not_lead_out_of_the_roots(page, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (page.folder / "link").symlink_to(outside)
    assert "outside of the folders" in shown(page, "tag", "link", status=403)["error"]
    (outside / "deep").mkdir()
    shown(page, "tag", "link/deep", status=403)
    shown(page, "train", ".", output_dir="link/out", status=403)


def test_a_class_of_dsk_toml_may_be_sent_again_with_the_same_text(page):
    path = page.folder / "dsk.toml"
    path.write_text('[train]\noptimizer_type = "torch.optim.SGD"\n')
    assert shown(page, "train", ".", optimizer_type="torch.optim.SGD")
    shown(page, "train", ".", optimizer_type="torch.optim.Adam", status=403)
    path.write_text('[train]\noptimizer_type = "evil.module.Class"\n')
    shown(page, "train", ".", optimizer_type="evil.module.Class", status=403)


def test_other_roots_and_imports_are_for_who_starts_the_server(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "models").mkdir()
    with studio(folder, root=(str(tmp_path / "models"),), allow_import=True) as page:
        shown(page, "train", ".", network_weights=str(tmp_path / "models" / "x.safetensors"))
        line = shown(page, "train", ".", optimizer_type="my.Optimizer")["command"]
        assert line.endswith("--allow-import")
        (folder / ".git").mkdir()
        assert "repository" in shown(page, "train", ".", output_dir=".git/x", status=403)["error"]


# ---- dry runs


@pytest.mark.long
def test_a_plan_is_the_dry_run_of_a_terminal(page, dsk_here):
    body = {"verb": "rules", "arguments": ["."], "options": {"exclude": ["hat"]}}
    planned = page.post("plan", **body)
    assert planned["command"] == "dsk rules . --exclude hat --dry-run"
    assert planned["output"] == json.loads(dsk_here("rules", ".", "--exclude", "hat"))
    assert planned["code"] == 0 and "hat" in (page.folder / "p1.txt").read_text()
    failed = page.post("plan", verb="train", arguments=["."], options={})
    assert failed["code"] != 0 and failed["output"] is None and failed["error"]


@pytest.fixture
def dsk_here(page):
    def run(*words):
        ended = subprocess.run(
            [sys.executable, "-m", "datasetkit", *words, "--dry-run", "--json"],
            cwd=page.folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return ended.stdout

    return run


# ---- jobs


@pytest.mark.long
def test_a_job_of_the_page_waits_runs_and_is_removed(page):
    body = {"verb": "rules", "arguments": ["."], "options": {"exclude": ["hat"]}}
    first = page.post("jobs", **body, when="held")["job"]
    second = page.post("jobs", **body, when="now")["job"]
    assert (first["state"], first["held"], first["here"]) == ("queued", True, True)
    listed = page.get("jobs")["jobs"]
    assert [(job["id"], job["place"]) for job in listed] == [(second["id"], 1), (first["id"], 2)]
    assert page.post(f"jobs/{first['id']}/order", place=1)["job"]["place"] == 1
    assert not page.post(f"jobs/{first['id']}/hold", held=False)["job"]["held"]
    page.post(f"jobs/{first['id']}/remove")
    assert job_runner.run() == 1
    job = page.get(f"jobs/{second['id']}")
    assert (job["job"]["state"], job["job"]["code"]) == ("done", 0)
    log = page.get(f"jobs/{second['id']}/log", **{"from": 0})
    assert log["text"] == job["log"] and log["to"] == log["size"] > 0
    assert "hat" not in (page.folder / "p1.txt").read_text()
    page.post(f"jobs/{second['id']}/forget")
    assert page.get("jobs")["jobs"] == []
    missing = page.ask("GET", f"/api/jobs/{second['id']}", headers={"Cookie": page.cookie})
    assert missing.status == 404


def test_a_job_uses_the_options_of_the_click(page):
    """dsk.toml is changed while it waits: that counts for the next job."""
    job = page.post("jobs", verb="tag", arguments=["."], options={}, when="held")["job"]
    path = page.folder / "dsk.toml"
    path.write_text('[tag]\ntrigger = ["later"]\n')
    seen = []

    def run(argv: list[str]) -> int:
        seen.append((argv, toml.find(page.folder).table("tag")))
        return 0

    job_of_command.execute(job["id"], run)
    assert seen == [(["tag", "."], {"trigger": ["sks"]})]
    assert toml.find(page.folder).table("tag") == {"trigger": ["later"]}
    with toml_text.frozen(path, b""):
        assert toml.find(page.folder).tables == {}


def running(tmp_path, page):
    """Start a job that waits to be stopped; return its process and id."""
    program = """
import sys, time
from datasetkit.project import jobs
from datasetkit.core.stopping import StopRequests
with jobs.registered("train", "x, 8 steps") as job:
    job.name_run(__import__("pathlib").Path("out"), "x")
    stop = StopRequests(job.stop_request)
    with stop.listening(), stop.saving():
        while not stop.is_asked():
            time.sleep(0.02)
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=page.folder)
    end = time.monotonic() + 30
    while not (listed := page.get("jobs")["jobs"]) or not listed[0]["run"]:
        assert time.monotonic() < end
        time.sleep(0.05)
    return process, listed[0]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_run_of_a_terminal_is_shown_and_stopped(page, tmp_path):
    process, job = running(tmp_path, page)
    assert (job["state"], job["here"], job["stop"]) == ("running", True, None)
    page.post(f"jobs/{job['id']}/forget", status=400)
    for action in ("save", "preview"):
        asked = page.post(f"jobs/{job['id']}/ask", action=action)["job"]
        assert asked["state"] == "running" and action in asked["asked"]
    page.post(f"jobs/{job['id']}/ask", action="delete", status=400)
    assert page.post(f"jobs/{job['id']}/stop", how="save")["job"]["stop"]["how"] == "save"
    assert process.wait(20) == 0
    assert page.get(f"jobs/{job['id']}")["job"]["state"] == "done"
    page.post(f"jobs/{job['id']}/stop", how="save", status=400)
    page.post(f"jobs/{job['id']}/ask", action="save", status=400)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_kill_ends_the_process_of_the_job_and_no_other(page, tmp_path, monkeypatch):
    process, job = running(tmp_path, page)
    pid_file = jobs.folder_of(jobs.find(job["id"])).path_of("pid.json")
    record = json.loads(pid_file.read_text())
    foreign = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        for change in (
            {"pid": foreign.pid}, {"boot": "another"}, {"started": "1"}, {"host": "other"},
            {"pid": "1"}, {"pid": 1},
        ):  # fmt: skip
            pid_file.write_text(json.dumps({**record, **change}))
            page.post(f"jobs/{job['id']}/stop", how="kill", status=400)
        assert process.poll() is None and foreign.poll() is None
        pid_file.write_text(json.dumps(record))
        page.post(f"jobs/{job['id']}/stop", how="kill")
        assert process.wait(20) == -signal.SIGKILL
        assert page.get(f"jobs/{job['id']}")["job"]["state"] == "lost"
        # The number is used again: the job stays lost, and nothing is signalled.
        again = {**record, "pid": foreign.pid, "started": processes.started(foreign.pid)}
        pid_file.write_text(json.dumps(again))
        sent = []
        monkeypatch.setattr(os, "kill", lambda *signalled: sent.append(signalled))
        monkeypatch.setattr(signal, "pidfd_send_signal", lambda *signalled: sent.append(signalled))
        for how in ("kill", "save", "now"):
            page.post(f"jobs/{job['id']}/stop", how=how, status=400)
        assert page.get(f"jobs/{job['id']}")["job"]["state"] == "lost" and sent == []
    finally:
        monkeypatch.undo()
        foreign.kill()
        foreign.wait()


def test_a_studio_starts_what_waits_after_a_killed_runner(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    started = []
    monkeypatch.setattr(job_runner, "start", lambda: started.append("runner"))
    with studio(folder):
        assert started == []
        api.add_job(["rules", "."], folder)
    started.clear()
    with studio(folder, read_only=True):
        assert started == []
    with studio(folder):
        assert started == ["runner"]


def test_a_log_comes_in_parts_without_broken_letters(page):
    job = api.add_job(["rules", "."], page.folder, held=True)
    path = jobs.folder_of(job).path_of(jobs.LOG)
    path.write_bytes("épreuve ".encode() + "日".encode()[:2])
    log = page.get(f"jobs/{job.id}/log", **{"from": 0})
    assert log["text"] == "épreuve " and log["to"] == log["size"] - 2
    with path.open("ab") as file:
        file.write("日".encode()[2:])
    more = page.get(f"jobs/{job.id}/log", **{"from": log["to"]})
    assert more["text"] == "日" and more["to"] == more["size"]
    assert page.get(f"jobs/{job.id}/log", **{"from": 10**6})["text"] == ""


def test_a_job_without_a_log_says_so(page):
    job = api.add_job(["rules", "."], page.folder, held=True)
    Path(jobs.folder_of(job).path_of(jobs.LOG)).unlink(missing_ok=True)
    answer = page.ask("GET", f"/api/jobs/{job.id}/log", headers={"Cookie": page.cookie})
    assert answer.status == 404 and "no log" in answer.json["error"]


def test_an_open_studio_sees_to_a_runner_for_what_waits(page, monkeypatch):
    """A runner that is killed with the job that it is about to start leaves nobody else."""
    monkeypatch.setattr(session, "QUEUE_SECONDS", 0.05)
    with studio(page.folder, new=True):
        job = api.add_job(["rules", "."], page.folder)
        started = threading.Event()
        monkeypatch.setattr(job_runner, "start", started.set)
        assert started.wait(20)
        api.hold_job(job.id)
        time.sleep(0.2)  # a look that has begun before
        started.clear()
        assert not started.wait(0.5), "what is held does not wait"
