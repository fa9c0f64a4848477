"""The stream of events: gapless over reconnects and servers, and nothing is kept of a client."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest

from datasetkit import api
from datasetkit.project import job_runner, jobs
from datasetkit.verbs.studio.events import EventSource, ReadPositions, StudioEvent
from datasetkit.web.routes import events
from tests.web.client import Browser, studio
from tests.web.test_studio_runs import make_run, rows
from trainer.files import run_lock


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(events, "SECONDS_BETWEEN", 0.03)
    monkeypatch.setattr(events, "_REST", 0)
    monkeypatch.setattr(events, "_REST_OF_CLOCK", 0)
    monkeypatch.setattr(job_runner, "start", lambda: False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def page(folder):
    make_run(folder / "output", done=20)
    with studio(folder) as browser:
        yield browser


def only_run(page: Browser) -> str:
    return str(page.get("runs")["runs"][0]["id"])


def append(page: Browser, text: str) -> None:
    with (page.folder / "output" / "k-metrics.jsonl").open("a") as file:
        file.write(text)


def test_hello_and_what_changes(page):
    with page.stream("/api/events") as stream:
        assert stream.content_type == "text/event-stream; charset=utf-8"
        assert stream.next() == (
            "hello",
            {"dsk": page.session["dsk"], "started": page.session["started"], "resumed": False},
        )
        job = api.add_job(["rules", "."], page.folder, held=True)
        assert [each["id"] for each in stream.until("job")["jobs"]] == [job.id]
        api.hold_job(job.id, held=False)
        assert stream.until("job")["jobs"][0]["held"] is False
        api.remove_job(job.id)
        assert stream.until("job")["gone"] == [job.id]
        (page.folder / "dsk.toml").write_text("[train]\nnetwork_dim = 8\n")
        assert stream.until("files")["config"] == page.get("config")["hash"]
        page.do(remove=["hat"])
        changed = stream.until("files")
        assert {"captions", "history"} & set(changed)


def test_a_run_that_begins_later_is_announced(page):
    with page.stream("/api/events") as stream:
        stream.next()
        make_run(page.folder / "output", "other")
        assert "outputs" in stream.until("files")


def test_a_new_stream_goes_on_from_the_id_in_its_address(page):
    run = only_run(page)
    with page.stream(f"/api/events?watch={run}") as stream:
        stream.next()
        append(page, rows(21, 22))
        stream.until("metrics")
        last = stream.last
    append(page, rows(23, 24))
    with page.stream(f"/api/events?watch={run}&after={quote(last)}") as stream:
        assert stream.next()[1]["resumed"] is True
        assert stream.until("metrics")["from"] == 22
    with page.stream(f"/api/events?watch={run}&after=no-id") as stream:
        assert stream.next()[1]["resumed"] is False


def test_metrics_come_once_and_a_resumed_run_makes_steps_void(page):
    run = only_run(page)
    path = page.folder / "output" / "k-metrics.jsonl"
    with page.stream(f"/api/events?watch={run}") as stream:
        stream.next()
        append(page, rows(21, 22))
        data = stream.until("metrics")
        assert (data["run"], data["from"], data["last"]) == (run, 20, 22)
        assert data["rows"]["loss"]["step"] == [21, 22] and "reset" not in data
        new = path.with_name("new")
        new.write_text(rows(1, 12))
        new.replace(path)
        data = stream.until("metrics")
        assert (data["reset"], data["from"], data["last"], data["rows"]) == (12, 12, 12, {})
        append(page, rows(13, 13))
        assert stream.until("metrics")["rows"]["loss"]["step"] == [13]
        append(page, rows(14, 4000))
        assert stream.until("metrics")["buckets"] is True


def test_a_log_comes_in_order_and_whole(page):
    job = api.add_job(["rules", "."], page.folder, held=True)
    path = jobs.folder_of(job).path_of(jobs.LOG)
    path.write_bytes(b"one\n")
    with page.stream(f"/api/events?log={job.id}") as stream:
        assert stream.until("log")["text"] == "one\n"
        with path.open("ab") as file:
            file.write("日本\n".encode()[:4])
        time.sleep(0.1)
        with path.open("ab") as file:
            file.write("日本\n".encode()[4:])
        text = stream.until("log")["text"]
        while not text.endswith("\n"):
            text += stream.until("log")["text"]
        assert text == "日本\n"


# ---- resuming


@pytest.mark.long
@pytest.mark.parametrize("servers", [1, 3])
def test_a_client_that_reconnects_all_the_time_misses_nothing(folder, servers):
    """It hangs up at random moments, also over servers that were started again."""
    make_run(folder / "output", done=20)
    chance = random.Random(5)
    steps = list(range(1, 21))
    last, written = "", 20
    for _ in range(servers):
        with studio(folder) as page:
            run = only_run(page)
            for _ in range(10):
                with page.stream(f"/api/events?watch={run}", last) as stream:
                    kind, hello = stream.next()
                    assert (kind, hello["resumed"]) == ("hello", last != "")
                    more = chance.randrange(1, 8)
                    append(page, rows(written + 1, written + more))
                    written += more
                    if chance.random() < 0.6:
                        steps += stream.until("metrics")["rows"]["loss"]["step"]
                    elif chance.random() < 0.5:
                        time.sleep(0.1)
                    last = stream.last or last
        with studio(folder) as page, page.stream(f"/api/events?watch={run}", last) as stream:
            while steps[-1] < written:
                steps += stream.until("metrics")["rows"]["loss"]["step"]
            last = stream.last
    assert steps == list(range(1, written + 1))


def test_a_replaced_file_is_seen_after_a_restart(folder):
    make_run(folder / "output", done=20)
    with studio(folder) as page:
        run = only_run(page)
        with page.stream(f"/api/events?watch={run}") as stream:
            stream.next()
            append(page, rows(21, 21))
            stream.until("metrics")
            last = stream.last
    (folder / "output" / "k-metrics.jsonl").write_text(rows(1, 40).replace("0.5", "0.7"))
    with studio(folder) as page, page.stream(f"/api/events?watch={run}", last) as stream:
        data = stream.until("metrics")
        assert data["reset"] == 0 and data["rows"]["loss"]["step"] == list(range(1, 41))


@pytest.mark.parametrize(
    "last", ["x", "2.m1:2:3", "1.mabc:x:y", "1.q1:2", "1." + "m" * 2000, "1.m1:2", "\xff"]
)
def test_an_id_that_was_not_made_here_is_not_understood(page, last):
    with page.stream("/api/events", last) as stream:
        assert stream.next()[1]["resumed"] is False
    assert ReadPositions.parse(last) is None


def test_an_id_is_read_as_it_was_written():
    positions = ReadPositions({"ab12": (18231, "9f0e1c2b")}, {"20261129T172600-9f": 7}, {"c": "1f"})
    assert ReadPositions.parse(positions.text()) == positions
    assert len(positions.text()) < 1000


def test_the_server_keeps_nothing_of_a_client(page):
    """Two clients with the same id get the same events."""
    run = only_run(page)
    append(page, rows(21, 25))
    session = page_session(page)
    first = EventSource(session, [run], [], "")
    first.hello()
    list(first.look())
    last = first.positions.text()
    append(page, rows(26, 27))
    answers = []
    for _ in range(2):
        client = EventSource(session, [run], [], last)
        answers.append([(e.kind, e.data) for e in client.look() if e.kind == "metrics"])
    assert answers[0] == answers[1] and answers[0][0][1]["rows"]["loss"]["step"] == [26, 27]


def page_session(page):
    from datetime import UTC, datetime

    from datasetkit.options.review import ReviewOptions
    from datasetkit.project.session import DEFAULT_CONTEXT
    from datasetkit.verbs.studio.roots import Roots
    from datasetkit.verbs.studio.session import CaptionsSession, StudioSession

    options = ReviewOptions(open=False)
    captions = CaptionsSession(page.folder, options, DEFAULT_CONTEXT)
    return StudioSession(
        "studio", page.folder, page.folder, options, DEFAULT_CONTEXT, captions, "",
        datetime.now(UTC), roots=Roots.of(page.folder, options),
    )  # fmt: skip


# ---- ends, and clients that do not read


def test_the_end_of_the_server_says_goodbye_and_is_quick(folder, capfd):
    with studio(folder) as page, page.stream("/api/events") as stream:
        stream.next()
        threading.Timer(0.3, page.server.stop).start()
        began = time.monotonic()
        assert stream.until("bye") == {"again": 1000}
        assert stream.next() == ("", None)
        assert time.monotonic() - began < 1.5
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.long
def test_a_client_that_does_not_read_costs_little_and_hurts_nobody(folder, capfd):
    make_run(folder / "output", done=20)
    with studio(folder) as page:
        run = only_run(page)
        page.get(f"runs/{run}/metrics")
        stuck = socket.create_connection(("127.0.0.1", page.server.port))
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = f"GET /api/events?watch={run} HTTP/1.1\r\nHost: {page.host}\r\nCookie: {page.cookie}"
        stuck.sendall(f"{head}\r\n\r\n".encode())
        time.sleep(0.2)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            step = 20
            for _ in range(40):
                append(page, rows(step + 1, step + 500))
                step += 500
                time.sleep(0.02)
                began = time.monotonic()
                page.get("jobs")
                assert time.monotonic() - began < 2
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        # The metrics of the run themselves, which are shared, and what waits for the client.
        assert grown < 6 * 2**20
        began = time.monotonic()
    assert time.monotonic() - began < 3
    stuck.close()
    assert "".join(capfd.readouterr()) == ""


class Looks:
    """Something to say at each look; one look fails halfway."""

    def __init__(self) -> None:
        self.positions, self.looks = ReadPositions(), 0

    def hello(self) -> StudioEvent:
        return StudioEvent("hello", {}, "1")

    def look(self) -> Iterator[StudioEvent]:
        self.looks += 1
        yield StudioEvent("job", {"look": self.looks}, "1")
        if self.looks == 2:
            raise OSError("a folder that is gone")
        yield StudioEvent("files", {"look": self.looks}, "1")


def sent_to_a_slow_client(monkeypatch, number: int) -> tuple[list[bytes], list[float]]:
    """Return so many parts of a stream whose client takes a while for each, and the pauses."""
    pauses: list[float] = []

    async def wait(studio: object, seconds: float) -> None:
        pauses.append(seconds)

    async def read() -> list[bytes]:
        session: Any = SimpleNamespace(stopping=asyncio.Event())
        source: Any = Looks()
        parts = []
        async for part in events._stream(session, source):
            parts.append(part)
            if len(parts) == number:
                return parts
            await asyncio.sleep(0.1)
        raise AssertionError("the stream has ended")

    monkeypatch.setattr(events, "_wait", wait)
    return asyncio.run(read()), pauses


def test_a_client_that_reads_slowly_does_not_wait_the_longer_for_it(rests, monkeypatch):
    """A look rests by the time that it took itself, not by that of its client."""
    _, pauses = sent_to_a_slow_client(monkeypatch, 6)
    assert len(pauses) >= 2
    assert max(pauses) < 2, "0.2 s of a slow client would be a pause of 4 s"


@pytest.fixture
def rests(monkeypatch):
    monkeypatch.setattr(events, "_REST", 20)
    monkeypatch.setattr(events, "_REST_OF_CLOCK", 3)


def test_a_look_that_waited_for_a_core_or_a_disk_rests_three_times_as_long(rests):
    class Waiting(Looks):
        def look(self) -> Iterator[StudioEvent]:
            time.sleep(0.2)
            yield from super().look()

    source: Any = Waiting()
    changes, rest = events._look(source)
    assert len(changes) == 2 and rest >= 0.6
    assert rest < 20 * 0.2


def test_a_look_that_used_a_core_rests_twenty_times_as_long(rests, monkeypatch):
    used = iter([1.0, 1.3])
    monkeypatch.setattr(time, "thread_time", lambda: next(used))
    source: Any = Looks()
    assert events._look(source)[1] == pytest.approx(6)


def test_what_was_read_before_a_look_failed_is_sent(monkeypatch):
    parts, _ = sent_to_a_slow_client(monkeypatch, 6)
    kinds = [part.split(b"event: ")[1].split(b"\n")[0] for part in parts]
    assert kinds == [b"hello", b"job", b"files", b"job", b"job", b"files"]


def test_an_idle_look_is_cheap(page):
    """A look each second of a project with a run and 50 jobs takes some milliseconds."""
    for _ in range(10):
        api.add_job(["rules", "."], page.folder, held=True)
    session = page_session(page)
    source = EventSource(session, [only_run(page)], [], "")
    source.hello()
    list(source.look())
    began = time.process_time()
    for _ in range(20):
        assert list(source.look()) == []
    assert (time.process_time() - began) / 20 < 0.05


def test_a_held_lock_shows_a_run_of_a_terminal_at_once(page):
    run = only_run(page)
    with run_lock.hold(page.folder / "output", "k"):
        assert page.get(f"runs/{run}")["run"]["state"] == "running"
    assert json.dumps(page.get("project")["runs"]) and sys.version_info
