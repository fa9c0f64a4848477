"""Kills: whatever dies, the state that is shown is right, nothing is stuck, and in the end the
files are those of a project in which nothing was killed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from datasetkit import api
from datasetkit.core.files import PROJECT
from datasetkit.project import job_runner, jobs
from tests.lora_files.files import pair, save
from tests.web import kill_points
from tests.web.client import Browser, studio
from tests.web.datasets import drawing
from tests.web.test_upload_routes import announced, entered, put
from tests.web.test_uploads import png
from tests.web.warm_python import WarmPython, warm_python

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and sessions of POSIX")
# "everything" is a power cut: nobody is left who could record an end.
DIES = ("page", "server", "runner", "job", "everything")
ENDS = ("done", "failed", "stopped", "lost")
BROKEN = ("failed", "lost")
POINTS = 10
LAYER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"
# Commands that the page starts: verb, arguments, options.
WORK: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "tag": ("tag", ["faces"], {"tagger": "basic"}),
    "rules": ("rules", ["faces"], {"exclude": ["hat"]}),
    "check": ("check", ["faces"], {}),
    "layout": ("layout", ["5_sks=faces"], {}),
    "train": ("train", ["."], {}),
    "grid": ("grid", ["epochs"], {
        "base": "tiny", "prompt": ["kitsu"], "steps": 3, "seed": 0, "size": [64, 64],
        "x": "epoch", "y": "weight=0.5,1",
    }),
    "keep": ("keep", ["out/e-000004.safetensors"], {"to": "kept", "name": "kitsu"}),
}  # fmt: skip
UPLOADED = {
    **{f"{n}.png": png(n) for n in range(6)}, **{f"{n}.txt": b"kitsu\n" for n in range(6)}
}  # fmt: skip


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def until(condition: Callable[[], object], seconds: float = 120) -> object:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return value


def state_of(page: Browser, job_id: str) -> str:
    return str(page.get(f"jobs/{job_id}")["job"]["state"])


# ---- a project in which something is killed


@pytest.fixture(scope="module")
def warm(module_path: Path) -> Iterator[WarmPython]:
    with warm_python(module_path, trainer=False) as started:
        yield started


@pytest.fixture(scope="module")
def warm_trainer(module_path: Path) -> Iterator[WarmPython]:
    """Processes that can train, and the base model that they train on."""
    tiny = pytest.importorskip("tests.trainer.tiny")
    tiny.save_small(module_path / "base")
    with warm_python(module_path, trainer=True) as started:
        yield started


@pytest.fixture(scope="module")
def template(module_path: Path) -> Path:
    """Images with captions, a folder to train on, the LoRA files of two epochs, and a grid."""
    folder = module_path / "template"
    for n in range(4):
        caption = f"sks, hat, tag {n}\n"
        drawing(folder / "faces" / f"p{n}.jpg", n).with_suffix(".txt").write_text(caption)
        image = drawing(folder / "train" / "2_sks" / f"{n}.png", n, (64, 64))
        image.with_suffix(".txt").write_text(caption)
    for n in range(4, 6):  # to be tagged
        drawing(folder / "faces" / f"p{n}.jpg", n)
    (folder / "dsk.toml").write_text(
        f"[train]\npretrained_model_name_or_path = '{module_path / 'base'}'\nresolution = 64\n"
        "max_bucket_reso = 128\nmax_train_epochs = 1\nsave_every_n_steps = 2\n"
        "save_state = true\nnetwork_dim = 1\nmixed_precision = 'no'\n"
        "output_dir = 'out'\noutput_name = 'k'\n"
    )
    lines = []
    for n, epoch in enumerate((2, 4)):
        header = {"ss_epoch": str(epoch), "ss_resolution": "(64, 64)",
                  "ss_base_model_version": "sd_v1",
                  "ss_network_module": "networks.lora"}  # fmt: skip
        for name in ("out", "epochs"):
            path = folder / name / f"e-{epoch:06d}.safetensors"
            save(path, pair(LAYER, 8, 8, 2, seed=n), header)
        drawing(folder / "out" / "grid" / "images" / f"e-{epoch}.png", n, (64, 64))
        lines.append({"file": f"images/e-{epoch}.png", "at": [{"epoch": f"epoch {epoch}"}],
                      "lora_name": f"e-{epoch:06d}", "lora": "", "seed": 1})  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "out" / "grid" / "grid.jsonl").write_text(text)
    return folder


@dataclass
class Place:
    """Where trials run: each in a new copy of the project, at the same path."""

    template: Path
    folder: Path
    point: Path
    warm: WarmPython
    jobs: WarmPython  # what jobs are forked from
    # What each work changes in the end, and how many changes it makes on its way there.
    references: dict[str, tuple[dict[str, bytes], int]]

    @property
    def runner(self) -> list[str]:
        run_job = (
            "import sys; from tests.web import kill_points as k; sys.exit(k.run_job(sys.argv[1]))"
        )
        run = "import json, sys; from tests.web import kill_points as k; "
        run += "sys.exit(k.run_runner(json.loads(sys.argv[1])))"
        return self.warm.command(run, json.dumps(self.jobs.command(run_job)))

    def begin(self, at: int, process: str, *, verb: str = "", dies: bool = False) -> None:
        """Make the project anew. at: the change at which a process of this kind stops; verb: of a
        job. A server has a new state folder as well: what it makes there is made once.
        """
        state = Path(os.environ["XDG_STATE_HOME"])
        for old in (self.folder, self.point, *([state] if process == "server" else [])):
            shutil.rmtree(old, ignore_errors=True)
        self.point.mkdir()
        shutil.copytree(self.template, self.folder)
        counted = [str(self.folder), str(state)]
        point = {"at": at, "folder": str(self.point), "counted": counted, "process": process,
                 "verb": verb, "dies": dies, "runner": self.runner}  # fmt: skip
        os.environ[kill_points.VARIABLE] = json.dumps(point)

    def reached(self) -> bool:
        return (self.point / kill_points.REACHED).exists()

    def go(self) -> None:
        (self.point / kill_points.GO).touch()

    def kill(self, name: str) -> None:
        """Kill the process whose number a file has."""
        pid = int((self.point / name).read_text())
        os.kill(pid, signal.SIGKILL)
        until(lambda: not is_running(pid))

    def files(self) -> dict[str, bytes]:
        """Return the files that have no times in them."""
        odd = re.compile(r"\.jsonl|-run\.json|-state-|\.html|previous/|\.png\.tmp")
        paths = (path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())
        return {
            str(path): (self.folder / path).read_bytes()
            for path in sorted(paths)
            if PROJECT not in path.parts and not odd.search(str(path))
        }


def is_running(pid: int) -> bool:
    """Tell whether a thread of a process runs: the first may end before the others, which keep the
    locks of the process.
    """
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return False
    return any(is_thread_running(thread) for thread in threads)


def is_thread_running(path: Path) -> bool:
    try:
        return (path / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture(scope="module")
def references() -> dict[str, tuple[dict[str, bytes], int]]:
    return {}


@pytest.fixture
def place(request, warm, template, module_path, references, monkeypatch) -> Iterator[Place]:
    if not Path("/proc").is_dir():
        pytest.skip("reads the states of processes in /proc")
    parameters = getattr(request.node, "callspec", None)
    trains = parameters is not None and parameters.params["work"] in ("train", "grid")
    made = Place(
        template, module_path / "project", module_path / "point", warm,
        request.getfixturevalue("warm_trainer") if trains else warm, references,
    )  # fmt: skip
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1800000000")
    monkeypatch.setenv(kill_points.VARIABLE, "{}")
    monkeypatch.setattr(job_runner, "_RUNNER", made.runner)
    yield made
    if made.point.is_dir():
        made.go()  # what waits yet, after a test that failed


@contextmanager
def served(place: Place) -> Iterator[tuple[Browser, int]]:
    """Serve the studio in a process of its own; yield its page and its process number."""
    code = "import sys; from tests.web import kill_points as k; "
    code += "sys.exit(k.run_server(sys.argv[1]))"
    words = place.warm.command(code, str(place.folder))
    client = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    pid = 0
    try:
        pid, port, link = json.loads(client.stdout.readline())
        yield entered(link, port, place.folder), pid
    finally:
        if pid and is_running(pid):
            os.kill(pid, signal.SIGINT)
        client.communicate(timeout=60)


def start(page: Browser, work: str) -> str:
    verb, arguments, options = WORK[work]
    answer = page.post("jobs", verb=verb, arguments=arguments, options=options, when="now")
    return str(answer["job"]["id"])


def ended(page: Browser, job: str) -> str:
    """Wait for the end of a job; return its state."""
    until(lambda: state_of(page, job) in ENDS)
    return state_of(page, job)


def log_of(page: Browser, job: str) -> object:
    return page.get(f"jobs/{job}")


def reference(place: Place, work: str) -> tuple[dict[str, bytes], int]:
    """Return the files of a project in which nothing was killed, and the number of changes."""
    if work not in place.references:
        place.begin(0, "job")
        with studio(place.folder) as page:
            job = start(page, work)
            assert ended(page, job) == "done", log_of(page, job)
        until((place.point / kill_points.COUNT).exists)
        count = int((place.point / kill_points.COUNT).read_text())
        place.references[work] = place.files(), count
    return place.references[work]


def at_of(count: int, number: int) -> int:
    """Return one of the POINTS changes, far enough from the last one to be reached each time."""
    return max(1, round(count * (number + 1) / (POINTS + 1)))


# ---- trials: commands


def kill_during_a_command(place: Place, work: str, dies: str, number: int) -> None:
    files, count = reference(place, work)
    place.begin(at_of(count, number), "job", verb=WORK[work][0])
    with ExitStack() as pages:
        if dies in ("server", "everything"):
            page, server = pages.enter_context(served(place))
        else:
            page, server = pages.enter_context(studio(place.folder)), 0
        job = start(page, work)
        behind = page.post(
            "jobs", verb="rules", arguments=["faces"], options={"exclude": ["absent"]},
            when="queue",
        )["job"]["id"]  # fmt: skip
        until(lambda: place.reached() or state_of(page, job) in ENDS)
        assert place.reached(), log_of(page, job)
        match dies:
            case "page":
                with page.stream("/api/events") as stream:
                    stream.next()
                page = Browser(page.server, page.folder).enter()
            case "runner":
                place.kill(kill_points.RUNNER_PID)
            case "job":
                place.kill(kill_points.REACHED)
            case "everything":
                place.kill(kill_points.RUNNER_PID)
                place.kill(kill_points.REACHED)
        end = end_of(job, dies)
        if server:
            os.kill(server, signal.SIGKILL)
            until(lambda: not is_running(server))
            page = pages.enter_context(studio(place.folder))
        is_killed = dies in ("job", "everything")
        # The first answer is right: nothing has to happen before.
        state = state_of(page, job)
        if is_killed and end == BROKEN and jobs.has_begun(jobs.find(job)):
            assert state in BROKEN, f"a dead job is shown as {state}"
        elif is_killed:  # it died before it registered: it waits until its runner sees that
            assert state in ("queued", "running", *end), f"a job without a process is {state}"
        else:
            # A process that has not registered yet is still in the queue.
            is_right = state == "running" or not jobs.has_begun(jobs.find(job))
            assert is_right, f"a job that runs is shown as {state}"
        place.go()
        assert ended(page, job) in end, log_of(page, job)
        # Nothing is stuck: what waits behind it runs, and so does the same again.
        assert ended(page, behind) == "done", log_of(page, behind)
        assert_originals(place, files)
        if end == BROKEN:
            run_again(page, work, job)
    assert place.files() == files


def end_of(job: str, dies: str) -> tuple[str, ...]:
    """Return how a job may end, once it or others were killed. One that dies with its runner before
    it has registered is in the queue as before, and the next runner starts it.
    """
    if dies == "job" or (dies == "everything" and jobs.has_begun(jobs.find(job))):
        return BROKEN
    return ("done",)


def assert_originals(place: Place, files: dict[str, bytes]) -> None:
    """No image changed, and each caption is the old or the new one."""
    for path in sorted(place.template.rglob("*")):
        name = str(path.relative_to(place.template))
        if path.is_file() and path.suffix in (".jpg", ".png", ".txt"):
            allowed = (path.read_bytes(), files[name])
            assert (place.folder / name).read_bytes() in allowed, name


def run_again(page: Browser, work: str, job: str) -> None:
    """Do what a person does then: the same once more, and a training is resumed if it can be."""
    if work == "train":
        again = str(page.post(f"jobs/{job}/resume")["job"]["id"])
        if ended(page, again) == "done":
            return
        assert "has no training state" in str(log_of(page, again)), log_of(page, again)
    again = start(page, work)
    assert ended(page, again) == "done", log_of(page, again)


# ---- trials: uploads, and keeping a file on the page


def send_all(page: Browser, upload: dict[str, Any], most: int = 99) -> None:
    wanted = [row for row in upload["files"] if row["state"] == "wanted"]
    for row in wanted[:most]:
        answer = put(page, upload["id"], row["n"], UPLOADED[row["path"]])
        assert answer.json["state"] == "arrived", answer.body


def begin_upload(page: Browser) -> dict[str, Any]:
    return dict(page.post("uploads", to="new", files=announced(UPLOADED)))


def finish_upload(page: Browser) -> None:
    """Send what is wanted yet, and import it."""
    upload = begin_upload(page)
    send_all(page, upload)
    page.post(f"uploads/{upload['id']}/end")


def half_a_file(page: Browser, upload: dict[str, Any]) -> None:
    """Send a part of a file; then the page is gone."""
    row = next(row for row in upload["files"] if row["state"] == "wanted")
    data = UPLOADED[row["path"]]
    lines = [f"PUT /api/uploads/{upload['id']}/{row['n']} HTTP/1.1", f"Host: {page.host}",
             f"Cookie: {page.cookie}", f"X-Dsk-Token: {page.token}",
             "Content-Type: application/octet-stream", f"Content-Length: {len(data)}"]  # fmt: skip
    with socket.create_connection(("127.0.0.1", page.server.port)) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + data[: len(data) // 2])


def kill_during_an_upload(place: Place, dies: str, number: int) -> None:
    files = {f"new/{name}": data for name, data in UPLOADED.items()}
    sent = round(len(UPLOADED) * (number + 1) / (POINTS + 1))
    if dies == "server":
        killed_server(place, finish_upload, number)
        with studio(place.folder) as page:
            if not (place.folder / "new").exists() or page.get("uploads")["uploads"]:
                finish_upload(page)
            assert page.get("uploads")["uploads"] == []
    elif dies == "page":
        place.begin(0, "job")
        with studio(place.folder) as page:
            upload = begin_upload(page)
            send_all(page, upload, sent)
            half_a_file(page, upload)
            page = Browser(page.server, page.folder).enter()
            (row,) = page.get("uploads")["uploads"]
            assert (row["id"], row["waiting"]) == (upload["id"], len(UPLOADED) - sent)
            finish_upload(page)
    else:
        # Meanwhile a command works in the project.
        _, count = reference(place, "tag")
        place.begin(at_of(count, number), "job")
        with studio(place.folder) as page:
            job = start(page, "tag")
            upload = begin_upload(page)
            send_all(page, upload, sent)
            until(lambda: place.reached() or state_of(page, job) in ENDS)
            assert place.reached(), log_of(page, job)
            if dies != "job":
                place.kill(kill_points.RUNNER_PID)
            if dies != "runner":
                place.kill(kill_points.REACHED)
            end = end_of(job, dies)
            send_all(page, begin_upload(page))
            place.go()
            assert ended(page, job) in end
            page.post(f"uploads/{upload['id']}/end")
    now = place.files()
    assert {name: data for name, data in now.items() if name.startswith("new/")} == files
    with_tags = dies not in ("page", "server")
    assert_originals(place, reference(place, "tag")[0] if with_tags else now)


def killed_server(place: Place, do: Callable[[Browser], None], number: int) -> None:
    """Do something on a page whose server dies at one of the changes that this makes."""
    name = f"server: {do.__name__}"
    if name not in place.references:
        counts: list[int] = []
        # On a busy machine the server may do something else meanwhile: two runs in a row agree.
        while len(counts) < 2 or counts[-1] != counts[-2]:
            assert len(counts) < 5, f"the same work makes another number of changes: {counts}"
            place.begin(0, "server")
            with served(place) as (page, _):
                do(page)
            until((place.point / kill_points.COUNT).exists)
            counts.append(int((place.point / kill_points.COUNT).read_text()))
        place.references[name] = place.files(), counts[-1]
    count = place.references[name][1]
    assert count > POINTS, "two points would be the same"
    at = at_of(count, number)
    place.begin(at, "server", dies=True)
    # It may die while the page opens.
    with suppress(OSError, HTTPException), served(place) as (page, _):
        do(page)
    assert place.reached(), f"change {at} of {count} did not come"


def keep_on_the_page(page: Browser) -> None:
    (entry,) = page.get("grids")["grids"]
    options = {"to": "kept", "name": "kitsu"}
    page.post("loras/keep", grid=entry["id"], file=1, cell=1, options=options)


def kill_while_keeping(place: Place, dies: str, number: int) -> None:
    if dies not in ("page", "server"):
        kill_during_a_command(place, "keep", dies, number)
        return
    if dies == "server":
        killed_server(place, keep_on_the_page, number)
    else:
        place.begin(0, "server")
        with studio(place.folder) as page:
            body = {"grid": page.get("grids")["grids"][0]["id"], "file": 1, "cell": 1,
                    "options": {"to": "kept", "name": "kitsu"}}  # fmt: skip
            data = json.dumps(body).encode()
            head = ["POST /api/loras/keep HTTP/1.1", f"Host: {page.host}", *(
                f"{name}: {value}" for name, value in page.headers.items()
            ), f"Content-Length: {len(data)}"]  # fmt: skip
            with socket.create_connection(("127.0.0.1", page.server.port)) as connection:
                connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + data)
            page = Browser(page.server, page.folder).enter()
    with studio(place.folder) as page:
        keep_on_the_page(page)
        kept = page.get(f"grids/{page.get('grids')['grids'][0]['id']}")["files"][1]["kept"]
        assert kept["name"] == "kitsu"
    names = sorted(path.name for path in (place.folder / "kept").iterdir())
    assert names == ["kitsu.json", "kitsu.preview.png", "kitsu.safetensors"]
    lora = place.folder / "out" / "e-000004.safetensors"
    assert (place.folder / "kept" / "kitsu.safetensors").read_bytes() == lora.read_bytes()


def trial(place: Place, work: str, dies: str, number: int) -> None:
    match work:
        case "upload":
            kill_during_an_upload(place, dies, number)
        case "keep":
            kill_while_keeping(place, dies, number)
        case _:
            kill_during_a_command(place, work, dies, number)


KINDS = ("upload", *WORK)


# A power cut of the others is among the ten points.
ONCE = [(work, dies) for work in KINDS for dies in DIES[:-1]] + [("rules", "everything")]


@pytest.mark.long
@pytest.mark.parametrize(("work", "dies"), ONCE)
def test_after_a_kill_the_state_is_right_and_nothing_is_lost(place, work, dies):
    """Each at another of the ten points."""
    trial(place, work, dies, (3 * KINDS.index(work) + 2 * DIES.index(dies)) % POINTS)


@pytest.mark.slow
@pytest.mark.parametrize("dies", DIES)
@pytest.mark.parametrize("work", KINDS)
def test_after_a_kill_at_each_of_ten_points(place, work, dies):
    for number in range(POINTS):
        trial(place, work, dies, number)


@pytest.mark.long
def test_a_stored_status_would_be_noticed(place, monkeypatch):
    """The trials fail where the state of a job is what was written when it began and ended."""
    reference(place, "rules")

    def stored(folder: Path, code: int | None) -> str:
        if code is not None:
            return "done" if code == 0 else "failed"
        return "running" if (folder / "pid.json").exists() else "queued"

    monkeypatch.setattr(jobs, "_state", stored)
    with pytest.raises(AssertionError, match="a dead job is shown as running"):
        trial(place, "rules", "everything", POINTS // 2)


IGNORING = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
"""
WAITING = """
import signal, sys, time
from datasetkit.project import jobs
from datasetkit.core.stopping import StopRequests, end_by_signals
end_by_signals()
with jobs.registered("train", "x, 8 steps") as job:
    stop = StopRequests(job.stop_request)
    with stop.listening(), stop.saving():
        while not stop.is_asked():
            time.sleep(0.02)
"""


@pytest.mark.parametrize("ignored", [False, True], ids=["plain", "SIGINT ignored, as with &"])
@pytest.mark.parametrize("has_pid", [True, False])
def test_stop_works_without_signals_and_without_a_pid(folder, ignored, has_pid):
    with studio(folder) as page:
        process = subprocess.Popen([sys.executable, "-c", IGNORING * ignored + WAITING], cwd=folder)
        try:
            job = until(lambda: page.get("jobs")["jobs"])
            assert isinstance(job, list)
            job_id = job[0]["id"]
            path = jobs.folder_of(jobs.find(job_id)).path_of("pid.json")
            until(path.exists)
            if not has_pid:
                path.unlink()
            assert state_of(page, job_id) == "running"
            page.post(f"jobs/{job_id}/stop", how="save")
            assert process.wait(20) == 0
            assert state_of(page, job_id) == "done"
        finally:
            process.kill()
            process.wait()


def test_a_stored_status_is_believed_nowhere(folder):
    """A planted file that says the job runs changes nothing: the lock is free."""
    with studio(folder) as page:
        job = api.add_job(["rules", "."], folder, held=True)
        place = jobs.folder_of(job)
        for name in ("status", "state.json", "alive"):
            place.path_of(name).write_text('{"state": "running"}')
        place.path_of("pid.json").write_text(json.dumps({"pid": os.getpid()}))
        assert state_of(page, job.id) == "lost"
