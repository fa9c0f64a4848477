"""Small faults, each as a kind: a failing call ends in one line, nothing of a killed run stays, a
dry run refuses what the run refuses, and tables run nothing in a spreadsheet.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import shutil
import socket
import time
from pathlib import Path

import pandas as pd
import pytest

from datasetkit import api, hub
from datasetkit.cli.main import run
from datasetkit.core.errors import ConfigError, Exit, ModelFileError, StorageError
from datasetkit.core.files import TEMP_PREFIX, TEMP_SUFFIX
from datasetkit.dataset import reports
from datasetkit.images.scan import scan
from datasetkit.project.locks import lock
from datasetkit.project.session import RunContext, open_project
from datasetkit.project.store import Output, Store
from datasetkit.web import server
from tests.regressions import bombs
from tests.web import datasets
from tests.web.client import review

# ---- failing calls of the system end with 13 and one line
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["open", "utime", "fchmod", "mkdir"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_under_the_lock_is_a_storage_error(call, number, tmp_path, monkeypatch):
    """Whichever calls the lock makes: each either works or is reported."""

    def fail(*_args, **_named):
        raise OSError(number, os.strerror(number), "lock")

    monkeypatch.setattr(os, call, fail)
    try:
        with lock(tmp_path):
            pass
    except StorageError as error:
        assert "\n" not in error.message


def test_a_failing_release_is_a_storage_error(tmp_path, monkeypatch):
    from filelock import FileLock

    def fail(*_args, **_named):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(FileLock, "release", fail)
    with pytest.raises(StorageError), lock(tmp_path):
        pass


def test_a_file_system_without_locks_is_a_storage_error(tmp_path, monkeypatch):
    from filelock import FileLock

    def fail(*_args, **_named):
        raise NotImplementedError

    monkeypatch.setattr(FileLock, "acquire", fail)
    with pytest.raises(StorageError, match="no locks"), lock(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_no_error_of_a_disk_reaches_a_person_as_a_traceback(number, tmp_path, monkeypatch, capsys):
    """The edge catches what no `writing` encloses."""
    bombs.noise(tmp_path / "a.png")

    def fail(*_args, **_named):
        raise OSError(number, os.strerror(number), str(tmp_path / "a.png"))

    monkeypatch.setattr("datasetkit.verbs.tag.open_project", fail)
    assert run(["tag", str(tmp_path), "--tagger", "basic"]) == Exit.STORAGE
    err = capsys.readouterr().err
    assert "a.png" in err
    assert "Traceback" not in err


# ---- nothing of a killed run stays
# --------------------------------------------------------------------------------------------------


def stray(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{TEMP_PREFIX}0123456789ab{TEMP_SUFFIX}"
    path.write_bytes(b"half")
    return path


@pytest.mark.parametrize("verb", ["tag", "check", "rename", "rules"])
def test_the_next_command_removes_the_strays_of_a_killed_stage_whatever_it_is(verb, tmp_path):
    """Of `resize --in-place` in .dsk/stage, and of outputs that a run was about to make."""
    folder = tmp_path / "imgs"
    folder.mkdir()
    bombs.noise(folder / "a.png")
    (folder / "a.txt").write_text("a, b\n")
    work = folder / "work" / "s"
    with open_project(folder, RunContext()) as project:
        project.store.put_pending([Output(work / "a.png", "id", "recipe", folder / "a.png")])
    strays = [stray(work), stray(folder / ".dsk" / "stage" / "1")]
    arguments = {
        "tag": ["--tagger", "basic"], "check": ["--fix"], "rename": ["x"],
        "rules": ["--trigger", "x"],
    }[verb]  # fmt: skip
    assert run([verb, str(folder), *arguments]) == Exit.DONE
    assert [path for path in strays if path.exists()] == []


def test_a_store_that_came_with_a_folder_removes_nothing_elsewhere(tmp_path):
    folder, elsewhere = tmp_path / "imgs", tmp_path / "elsewhere"
    folder.mkdir()
    kept = [stray(elsewhere)]
    with Store.open(folder) as store:
        store.put_pending(
            Output(path, "id", "recipe", path)
            for path in (elsewhere / "a.png", folder / ".." / "elsewhere" / "b.png")
        )
    if os.name != "nt":
        (folder / "work").symlink_to(elsewhere)
        with Store.open(folder) as store:
            store.put_pending([Output(folder / "work" / "a.png", "id", "recipe", folder)])
    with open_project(folder, RunContext()):
        pass
    assert all(path.exists() for path in kept)


# ---- a dry run refuses what the run refuses
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["pretrained_model_name_or_path", "vae"])
@pytest.mark.parametrize("name", ["m.ckpt", "m.pt", "m.PTH", "m.bin", "m.pkl", "there.zip"])
def test_a_plan_refuses_a_base_that_the_run_would_not_read(option, name, tmp_path):
    images = tmp_path / "ds" / "train" / "1_x"
    images.mkdir(parents=True)
    bombs.noise(images / "a.png")
    (images / "a.txt").write_text("x\n")
    if name.startswith("there"):
        (tmp_path / name).write_bytes(b"PK")
    settings = {"output_name": "x", option: str(tmp_path / name)}
    settings.setdefault("pretrained_model_name_or_path", "none.safetensors")
    with pytest.raises(ModelFileError, match=r"pickle|not a \.safetensors file"):
        api.plan_training(tmp_path / "ds", settings=settings)


# ---- names of the hub
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["-a/b", "a-/b", "a--b/c", "a/b..c", f"{'a' * 97}/b", "a/b.git"])
def test_a_name_that_the_hub_cannot_have_is_refused_in_one_line(name, tmp_path, capsys):
    bombs.noise(tmp_path / "a.png")
    code = run(["tag", str(tmp_path), "--tagger", name])
    err = capsys.readouterr().err
    assert code in (Exit.USAGE, Exit.MODEL)
    assert "Traceback" not in err
    assert err.startswith("error: ")
    with pytest.raises((ConfigError, ModelFileError)):
        hub.fetch(name, "model.onnx", "main")


# ---- a replaced image is another image
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["renamed over", "written over"])
def test_an_image_replaced_by_one_of_equal_size_and_time_gets_a_new_id(way, tmp_path):
    path = tmp_path / "a.bmp"
    bombs.noise(path)
    begun = path.stat()
    with open_project(tmp_path, RunContext()) as project:
        (before,) = scan(tmp_path, project.store, with_ids=True).records
    data = bytearray(path.read_bytes())
    data[-1] ^= 0xFF
    time.sleep(0.02)
    new = tmp_path / "new"
    new.write_bytes(data)
    os.utime(new, ns=(begun.st_atime_ns, begun.st_mtime_ns))
    if way == "renamed over":
        new.replace(path)
    else:
        path.write_bytes(data)
        shutil.copystat(new, path)
        new.unlink()
    now = path.stat()
    assert (now.st_size, now.st_mtime_ns) == (begun.st_size, begun.st_mtime_ns)
    with open_project(tmp_path, RunContext()) as project:
        (after,) = scan(tmp_path, project.store, with_ids=True).records
    assert after.id != before.id


def test_an_unchanged_image_is_not_read_again(tmp_path, monkeypatch):
    bombs.noise(tmp_path / "a.png")
    with open_project(tmp_path, RunContext()) as project:
        first = scan(tmp_path, project.store, with_ids=True)
    monkeypatch.setattr("datasetkit.images.scan.pixels.probe", None)
    with open_project(tmp_path, RunContext()) as project:
        assert scan(tmp_path, project.store, with_ids=True).records == first.records


# ---- the page
# --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="an open folder cannot be renamed")
def test_an_edit_in_a_renamed_folder_names_the_reason_and_makes_nothing(tmp_path):
    folder = tmp_path / "imgs"
    datasets.many(folder, 4)
    with review(folder) as page:
        folder.rename(tmp_path / "renamed")
        edit = page.send("apply", version=page.version, scope={"in": "all"}, do={"add": ["x"]})
        assert edit.status >= 400
        assert b"was renamed, moved or removed" in edit.body
        assert b"changed" not in edit.body
        assert page.send("undo", version=page.version).status >= 400
        assert not folder.exists()
        (tmp_path / "renamed").rename(folder)
        page.load_session()
        page.do(add=["x"])


def half_sent(port: int, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(data)
    return connection


def is_closed(connection: socket.socket) -> bool:
    with connection:
        connection.settimeout(5)
        try:
            return connection.recv(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False


@pytest.mark.parametrize(
    "data",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST /api/apply HTTP/1.1\r\nHost: "],
)
def test_a_request_that_does_not_end_is_closed(data, tmp_path, monkeypatch):
    datasets.many(tmp_path / "imgs", 2)
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.3)
    with review(tmp_path / "imgs") as page:
        assert is_closed(half_sent(page.server.port, data))
        assert page.get("session")


def test_a_slow_body_is_closed_however_often_a_byte_arrives(tmp_path, monkeypatch):
    datasets.many(tmp_path / "imgs", 2)
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.5)
    with review(tmp_path / "imgs") as page:
        head = "".join(f"{name}: {value}\r\n" for name, value in page.headers.items())
        start = f"POST /api/apply HTTP/1.1\r\nHost: {page.host}\r\n{head}"
        connection = half_sent(page.server.port, f"{start}Content-Length: 90\r\n\r\n".encode())
        with pytest.raises(ConnectionError):
            for _ in range(50):
                connection.sendall(b" ")
                time.sleep(0.05)
        connection.close()


def test_many_half_sent_requests_do_not_use_up_the_connections(tmp_path, monkeypatch):
    datasets.many(tmp_path / "imgs", 2)
    monkeypatch.setattr(server, "MAX_UNFINISHED", 20)
    with review(tmp_path / "imgs") as page:
        waiting = [half_sent(page.server.port, b"GET / HT") for _ in range(60)]
        assert page.get("session")
        assert all(is_closed(connection) for connection in waiting[:35])
        for connection in waiting[35:]:
            connection.close()


# ---- tables
# --------------------------------------------------------------------------------------------------

RUN_BY_SPREADSHEETS = [
    "=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "=HYPERLINK(x)", "\t=cmd|x", "＝1+1",
    "＠SUM(1)",
]  # fmt: skip


@pytest.mark.parametrize("text", RUN_BY_SPREADSHEETS)
def test_no_cell_of_any_table_is_run_by_a_spreadsheet(text):
    for excel in (False, True):
        table = reports.csv_text(pd.DataFrame({"tag": [text, "lips"], text: [1, 2]}), excel=excel)
        rows = list(csv.reader(io.StringIO(table.removeprefix("\ufeff"), newline="")))
        assert rows[0][1] == rows[1][0] == "'" + text
        assert rows[2][0] == "lips"


def test_tags_that_nothing_runs_come_back_as_they_were():
    tags = ["=_=", "+_+", "@_@", "-_-", "^_^", ":3", "a=b", "1girl", "looking at viewer"]
    table = reports.csv_text(pd.DataFrame({"tag": tags, "n": [-1] * len(tags)}))
    assert list(pd.read_csv(io.StringIO(table))["tag"]) == tags
    assert list(pd.read_csv(io.StringIO(table))["n"]) == [-1] * len(tags)


def test_no_cell_holds_an_escape_that_a_terminal_obeys():
    table = reports.csv_text(pd.DataFrame({"tag": ["\x1b[31mred", "\x07", "a\nb", "\x9b31m"]}))
    assert not {"\x1b", "\x07", "\x9b"} & set(table)
    assert "\\x1b[31mred" in table
    assert "a\nb" in table


def test_the_tables_of_report_and_check_are_guarded(tmp_path):
    folder = tmp_path / "imgs"
    folder.mkdir()
    for n in range(3):
        bombs.noise(folder / f"{n}.png", 64 + n)
        (folder / f"{n}.txt").write_text("=cmd|x, 1girl, 1girl\n")
    assert run(["report", str(folder)]) == Exit.DONE
    tags = (folder / "report" / "tags.csv").read_text(encoding="utf-8-sig")
    assert "'=cmd|x" in tags
    assert ",=cmd" not in tags
    run(["check", str(folder), "--csv", str(folder / "check.csv")])
    assert ",=cmd" not in (folder / "check.csv").read_text(encoding="utf-8-sig")


def test_the_history_names_the_folder_that_a_command_ran_in(tmp_path, monkeypatch):
    for n in range(2):
        datasets.drawing(tmp_path / "photos" / f"{n}.png", n)
        (tmp_path / "photos" / f"{n}.txt").write_text("1girl, solo", encoding="utf-8")
    monkeypatch.chdir(tmp_path / "photos")
    for arguments in (["rules", ".", "--exclude", "solo"], ["rename", ".", "sks"], ["report", "."]):
        assert run(arguments) == Exit.DONE
    titles = [entry.title for entry in api.history(Path())]
    assert len(titles) == 3 and all("photos" in title for title in titles)
