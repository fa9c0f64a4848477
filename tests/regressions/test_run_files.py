"""A run owns the files that its manifest lists: no others are counted, moved or deleted.

Two runs into one folder used to share their files: the second listed and pruned those of the first.
"""

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from datasetkit.core.errors import InputError, Locked, PlanConflict, StorageError
from datasetkit.core.files import TEMP_PREFIX, fold
from tests.cli.test_train import data as data
from tests.cli.test_train import given
from trainer.files import run_files, run_lock, run_manifest, saved_states
from trainer.files.run_files import RunFiles
from trainer.files.run_manifest import RunFile, RunManifest
from trainer.plan import resume

STARTED = "2026-11-29T10:15:00Z"
AWAY = "previous/20261129T101500Z"
RUN = {
    "k-000001.safetensors": "lora", "k.safetensors": "lora", "k-metrics.jsonl": "metrics",
    "k-loss.png": "loss plot", "k-report.html": "report",
    "sample/k-000001-00.png": "preview", "sample/k.jsonl": "previews",
}  # fmt: skip


class Killed(BaseException):
    """Raised instead of a kill."""


@pytest.fixture
def no_sync(monkeypatch):
    """Do not wait for the disk, where many moves are tried."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def ended_run(folder, status="finished", started=STARTED, text="first"):
    """Write the files of a run, with a state."""
    files = RunFiles.start(folder, "k", started)
    (folder / "sample").mkdir(exist_ok=True)
    for name, kind in RUN.items():
        files.write(name, kind, f"{text} {name}".encode())
    files.add(RunFile("k-state-00000001", "state", 1))
    (folder / "k-state-00000001").mkdir()
    (folder / "k-state-00000001" / "state.json").write_text(text)
    files.end(status, started)
    return files


def contents(folder):
    """Return every file below a folder with its bytes, without manifests and locks."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-run.json", ".lock"))
    }


def manifest_of(folder):
    manifest = run_manifest.read(folder, "k")
    assert manifest is not None
    return manifest


def bytes_of(folder):
    return sorted(contents(folder).values())


# ---- what is moved


@pytest.mark.parametrize("status", ["running", "finished", "stopped", "failed"])
def test_a_fresh_run_moves_the_files_of_an_earlier_one_and_no_others(out, status):
    ended_run(out, status)
    (out / "k-notes.txt").write_text("mine")
    (out / "other.safetensors").write_text("mine")
    before = contents(out)
    planned = run_files.earlier_run(out, "k")
    moved = run_files.move_to_previous(out, "k")
    assert (
        moved is not None and moved == planned and moved.to == out / AWAY and moved.status == status
    )
    assert {path.relative_to(out).as_posix() for path in moved.files} == {
        *RUN, "k-state-00000001", "k-run.json",
    }  # fmt: skip
    assert contents(out) == {
        name if name in ("k-notes.txt", "other.safetensors") else f"{AWAY}/{name}": data
        for name, data in before.items()
    }
    assert manifest_of(out / AWAY).status == status
    run_files.require_own(out, "k")


def test_runs_that_started_at_the_same_time_get_folders_of_their_own(out):
    for text in ("first", "second", "third"):
        ended_run(out, text=text)
        run_files.move_to_previous(out, "k")
    assert [path.name for path in run_files.previous_folders(out, "k")] == [
        "20261129T101500Z-3", "20261129T101500Z-2", "20261129T101500Z",
    ]  # fmt: skip
    assert len(contents(out)) == 3 * (len(RUN) + 1)


def interrupted(action, at, monkeypatch):
    """Run an action that is killed at its n-th rename; tell whether it came so far."""
    calls = []
    rename = os.rename

    def killed(*names):
        calls.append(names)
        if len(calls) == at:
            raise Killed
        rename(*names)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        try:
            action()
        except Killed:
            return True
    return False


@pytest.mark.usefixtures("no_sync")
def test_a_move_that_is_killed_at_any_rename_is_completed_by_the_next_run(tmp_path, monkeypatch):
    at = 1
    for at in range(1, 50):
        out = tmp_path / str(at)
        out.mkdir()
        ended_run(out)
        before = bytes_of(out)
        if not interrupted(lambda: run_files.move_to_previous(out, "k"), at, monkeypatch):  # noqa: B023
            break
        assert bytes_of(out) == before
        planned = run_files.earlier_run(out, "k")
        assert planned is not None and planned.to == out / AWAY
        run_files.require_own(out, "k")
        run_files.complete_move(out, "k")
        assert run_files.move_to_previous(out, "k") is None
        assert bytes_of(out) == before and bytes_of(out / AWAY) == before
    assert at == len(RUN) + 3


@pytest.mark.usefixtures("no_sync")
def test_files_that_are_moved_back_are_never_lost(tmp_path, monkeypatch):
    """The run of `previous/` goes on, and the files of the later run take its place there."""
    at = 1
    for at in range(1, 50):
        out = tmp_path / str(at)
        out.mkdir()
        ended_run(out)
        run_files.move_to_previous(out, "k")
        ended_run(out, "failed", "2026-11-30T00:00:00Z", "second")
        before = bytes_of(out)

        def back(out=out):
            run_files.complete_move(out, "k")
            if (
                not (out / "k.safetensors").is_file()
                or b"second" in (out / "k.safetensors").read_bytes()
            ):
                run_files.bring_back(out, "k", out / AWAY)

        reached = interrupted(back, at, monkeypatch)
        assert bytes_of(out) == before
        back()
        assert bytes_of(out) == before
        assert (out / "k.safetensors").read_bytes() == b"first k.safetensors"
        assert manifest_of(out).moving_from is None
        assert [path.name for path in run_files.previous_folders(out, "k")] == ["20261130T000000Z"]
        assert not (out / AWAY).exists()
        if not reached:
            break
    assert at == 2 * (len(RUN) + 1) + 2


def test_a_move_replaces_nothing(out):
    ended_run(out)
    run_files.move_to_previous(out, "k")
    (out / "k-loss.png").write_bytes(b"mine")
    before = contents(out)
    with pytest.raises(PlanConflict, match=r"k-loss\.png exists already"):
        run_files.bring_back(out, "k", out / AWAY)
    assert contents(out) == before and run_manifest.read(out, "k") is None


def test_a_manifest_that_names_the_folder_of_another_run_replaces_nothing_there(out):
    ended_run(out)
    run_files.move_to_previous(out, "k")
    (out / AWAY / "k.safetensors").unlink()
    files = RunFiles.start(out, "k", "2026-11-30T00:00:00Z")
    files.write("k.safetensors", "lora", b"second")
    run_manifest.write(out, replace(manifest_of(out), moving_to=AWAY))
    before, earlier = contents(out), manifest_of(out / AWAY)
    with pytest.raises(PlanConflict, match=r"k-run\.json exists already"):
        run_files.complete_move(out, "k")
    assert contents(out) == before and manifest_of(out / AWAY) == earlier


def test_a_link_in_place_of_the_folder_is_refused(out, tmp_path):
    ended_run(out)
    before = contents(out)
    (tmp_path / "elsewhere").mkdir()
    (out / "previous").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="symbolic link"):
        run_files.move_to_previous(out, "k")
    assert contents(out) == before and not list((tmp_path / "elsewhere").iterdir())


# ---- what is not the run's own


@pytest.mark.parametrize(
    "name",
    ["k.safetensors", "k-000009.safetensors", "k-step00000009.safetensors", "k-metrics.jsonl",
     "k-best.safetensors", "k-state-00000007", "sample/k-000001-00.png", "k-samples.png"],
)  # fmt: skip
@pytest.mark.parametrize("beside_a_run", [False, True])
def test_a_file_that_no_manifest_lists_is_refused_and_kept(out, name, beside_a_run):
    if beside_a_run:
        RunFiles.start(out, "k", STARTED)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_bytes(b"mine")
    with pytest.raises(InputError, match="did not write") as refused:
        run_files.require_own(out, "k")
    assert str(out / name) in refused.value.message and refused.value.hint
    run_files.move_to_previous(out, "k")
    assert contents(out) == {name: b"mine"}


def test_a_listed_name_that_became_a_link_is_not_the_runs_own(out, tmp_path):
    ended_run(out)
    (tmp_path / "target").write_bytes(b"mine")
    (out / "k.safetensors").unlink()
    (out / "k.safetensors").symlink_to(tmp_path / "target")
    with pytest.raises(InputError, match=r"did not write .*k\.safetensors"):
        run_files.require_own(out, "k")


def test_a_file_that_somebody_changed_is_not_deleted(out):
    files = ended_run(out)
    (out / "k-000001.safetensors").write_bytes(b"merged by hand")
    files.delete(files.listed("lora"))
    assert (out / "k-000001.safetensors").read_bytes() == b"merged by hand"
    assert not (out / "k.safetensors").exists() and files.listed("lora") == []


def test_a_manifest_without_a_hash_deletes_nothing(out):
    (out / "k-000001.safetensors").write_bytes(b"mine")
    (out / "k-state-00000001").mkdir()
    (out / "k-state-00000001" / "thesis.txt").write_bytes(b"mine")
    listed = RunFile("k-000001.safetensors", "lora"), RunFile("k-state-00000001", "state")
    run_manifest.write(out, RunManifest("k", STARTED, files=listed))
    files = RunFiles.start(out, "k", STARTED)
    files.delete(files.listed("lora"))
    files.delete(files.listed("state"), saved_states._discard)
    assert contents(out) == {
        "k-000001.safetensors": b"mine", "k-state-00000001/thesis.txt": b"mine",
    }  # fmt: skip


HOSTILE = [
    "../victim", "/etc/passwd", "other.safetensors", "k-notes.txt", "sample/../../victim",
    "sample/other.png", "sample/sub/k-000001-00.png", "..", "", ".", "k", "k-run.json",
    "k\n.safetensors",
    "k-\u0661\u0661\u0661\u0661\u0661\u0661.safetensors", "K.safetensors", "previous/k.safetensors",
    "sample\\k-000001-00.png", "\ud800",
]  # fmt: skip


def test_a_manifest_claims_only_names_that_its_run_gives(out, tmp_path):
    ended_run(out)
    for path in (tmp_path / "victim", out / "other.safetensors", out / "k-notes.txt"):
        path.write_bytes(b"mine")
    (out / "sample" / "other.png").write_bytes(b"mine")
    manifest = json.loads((out / "k-run.json").read_bytes())
    for name in HOSTILE:
        for kind in ("lora", "preview", "state", "metrics"):
            manifest["files"].append({"name": name, "kind": kind})
    odd: list[object] = [
        None,
        7,
        [],
        {},
        {"name": 7},
        {"name": "k-best.json", "kind": []},
        {"kind": "lora"},
    ]
    manifest["files"] += odd
    manifest["files"] += [
        {"name": "k-best.safetensors", "kind": "lora", "step": "1"},
        {"name": "k-best.safetensors", "kind": "lora", "sha256": "x"},
        {"name": "k-best.safetensors", "kind": "lora", "size": 1.5},
        {"name": "k-best.safetensors", "kind": "lora", "epoch": True},
        {"name": "k-best.safetensors", "kind": "state"},
    ]
    (out / "k-run.json").write_text(json.dumps(manifest))
    parsed = manifest_of(out)
    assert {file.name for file in parsed.files} == {*RUN, "k-state-00000001"}
    assert len(parsed.rejected) == len(manifest["files"]) - len(parsed.files)
    assert "victim and " in (run_files.rejected_names(out, "k") or "")
    run_files.move_to_previous(out, "k")
    stayed = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert {name for name in stayed if "previous" not in name} == {
        "victim", "out/other.safetensors", "out/k-notes.txt", "out/sample/other.png",
    }  # fmt: skip


GOOD = {"version": 1, "name": "k", "started": STARTED, "status": "finished", "files": []}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "7", '"k"', "\ufeff{}", "{}", "[" * 100_000, "9" * 5000, "NaN",
     *(json.dumps({**GOOD, key: value}) for key, value in (
         ("version", 2), ("version", None), ("name", "other"), ("name", 7), ("status", "fine"),
         ("status", []), ("files", None), ("files", {}), ("started", None), ("started", "soon"),
         ("started", 7), ("started", "2026-99-99T00:00:00Z"), ("ended", "x"), ("moving_to", "../x"),
         ("moving_to", "/x"), ("moving_to", "previous/../../x"), ("moving_from", "previous/.."),
         ("moving_from", ".."), ("moving_from", 7), ("moving_to", "previous/"),
     ))],
)  # fmt: skip
def test_a_damaged_manifest_is_one_clear_line(out, text):
    (out / "k-run.json").write_text(text, encoding="utf-8")
    (out / "k.safetensors").write_bytes(b"mine")
    for ask in (run_files.require_own, run_files.move_to_previous, run_files.complete_move):
        with pytest.raises(InputError, match=r"k-run\.json cannot be read") as error:
            ask(out, "k")
        assert "\n" not in error.value.message and error.value.hint
    assert (out / "k.safetensors").read_bytes() == b"mine"


def test_a_manifest_that_is_no_regular_file_is_refused(out):
    (out / "k-run.json").symlink_to(out / "elsewhere")
    with pytest.raises(InputError, match="not a regular file"):
        run_files.require_own(out, "k")


# ---- the lock

HOLDER = """
import os, sys, time
from pathlib import Path
from trainer.files import run_lock
with run_lock.hold(Path(sys.argv[1]), "k"):
    if sys.argv[2] == "fork" and os.fork() == 0:
        time.sleep(60)  # a worker that outlives the run
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("forks", ["alone", "fork"])
def test_the_lock_of_a_name_is_free_as_soon_as_its_run_is_killed(out, forks):
    run = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(out), forks], stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert run.stdout is not None
    try:
        assert run.stdout.readline() == "held\n"
        assert run_lock.is_held(out, "k") and not run_lock.is_held(out, "other")
        with pytest.raises(Locked, match=r"another run is training k in .*process") as refused:
            run_lock.hold(out, "k").__enter__()
        assert refused.value.exit_code == 11
        with run_lock.hold(out, "other"):
            pass
        run.kill()
        run.wait()
        assert not run_lock.is_held(out, "k")
        with run_lock.hold(out, "k"):
            pass
    finally:
        os.killpg(run.pid, signal.SIGKILL) if forks == "fork" else run.kill()
        run.stdout.close()


def test_a_lock_holds_within_its_process_too(out):
    with run_lock.hold(out, "k"):
        assert run_lock.is_held(out, "k")
        with pytest.raises(Locked):
            run_lock.hold(out, "k").__enter__()
        assert run_lock.is_held(out, "k")
    assert not run_lock.is_held(out, "k")


def test_temporary_files_are_deleted_only_while_no_other_run_is_writing(out):
    stale = [out / f"{TEMP_PREFIX}a.tmp", out / f"{run_lock.STAGE}a"]
    stale[1].mkdir()
    stale[0].with_name(stale[0].name).touch()
    with run_lock.hold(out, "k"):
        with run_lock.hold(out, "other"):
            run_lock.sweep(out, "k")
            assert all(path.exists() for path in stale)
        run_lock.sweep(out, "k")
        assert not any(path.exists() for path in stale)


# ---- the manifest of the run that is going on


def test_a_file_is_listed_before_it_is_written(out, monkeypatch):
    files = RunFiles.start(out, "k", STARTED)

    def full(path, data):
        raise StorageError(os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_files, "write_atomic", full)
    with pytest.raises(StorageError):
        files.write("k.safetensors", "lora", b"x", step=4, epoch=2)
    (row,) = json.loads((out / "k-run.json").read_bytes())["files"]
    assert (row["name"], row["kind"], row["step"], row["epoch"]) == ("k.safetensors", "lora", 4, 2)
    assert row["size"] == 1 and len(row["sha256"]) == 64


def test_the_end_of_a_run_is_recorded_with_all_hashes(out):
    files = RunFiles.start(out, "k", STARTED, {"options": {"seed": 1}, "plan": {}, "versions": {}})
    files.add(RunFile("k-metrics.jsonl", "metrics"), RunFile("k-loss.png", "loss plot"))
    (out / files.claim("k-metrics.jsonl")).write_bytes(b"{}\n")
    assert json.loads((out / "k-run.json").read_bytes())["status"] == "running"
    files.end("stopped", "2026-11-29T11:00:00Z")
    record = json.loads((out / "k-run.json").read_bytes())
    assert (record["status"], record["ended"]) == ("stopped", "2026-11-29T11:00:00Z")
    assert [file["name"] for file in record["files"]] == ["k-metrics.jsonl"]
    assert record["files"][0]["size"] == 3 and record["files"][0]["sha256"]
    assert record["options"] == {"seed": 1}


def test_a_name_that_begins_like_another_ones_is_another_run(out):
    """`k-000001.safetensors` is the first epoch of k, and the result of a run called k-000001."""
    ended_run(out)
    with pytest.raises(InputError, match="may give files the same name"):
        run_files.require_own(out, "k-000001")
    assert run_files.earlier_run(out, "k-000001") is None
    assert {f.name for f in run_manifest.matching_files(out, "k")} == {*RUN, "k-state-00000001"}
    run_files.require_own(out, "k+")


NAMES_OF_K = [
    "k-best", "k-000001", "k-step00000004", "k.diffusers", "k-best.diffusers", "k-failed-check",
]  # fmt: skip


@pytest.mark.parametrize("other", NAMES_OF_K)
@pytest.mark.parametrize("going_on", [False, True])
def test_runs_that_may_give_files_the_same_name_do_not_share_a_folder(out, other, going_on):
    """The best step of k is `k-best.safetensors`, and so is the result of a run called k-best."""
    for first, second in (("k", other), (other, "k")):
        with run_lock.hold(out, first) if going_on else nullcontext():
            if not going_on:
                RunFiles.start(out, first, STARTED)
            with pytest.raises(InputError, match="may give files the same name") as refused:
                run_files.require_own(out, second)
            assert refused.value.hint == "set another output_name or output_dir"
        (out / f"{first}-run.json").unlink(missing_ok=True)


@pytest.mark.parametrize(
    "other", ["k-run", "k2", "k-state-00000001", "k-samples", "K", "k-best2", "k-00001", "", "kx"]
)
def test_runs_that_only_begin_alike_share_a_folder(out, other):
    RunFiles.start(out, "k", STARTED)
    RunFiles.start(out, other or "x", STARTED)
    for name in ("k", other or "x"):
        run_files.require_own(out, name)


@pytest.fixture
def ignoring_case(monkeypatch):
    """A disk that takes names that differ in case for one, as those of macOS and Windows."""

    def lexists(path):
        path = Path(path)
        return fold(path.name) in {fold(entry.name) for entry in path.parent.iterdir()}

    monkeypatch.setattr(os.path, "lexists", lexists)


@pytest.mark.parametrize("other", ["K", "K-best", "K-000001"])
def test_names_that_differ_in_case_are_one_on_a_disk_that_ignores_it(out, other, ignoring_case):
    for first, second in (("k", other), (other, "k")):
        RunFiles.start(out, first, STARTED)
        with pytest.raises(InputError):
            run_files.require_own(out, second)
        (out / f"{first}-run.json").unlink()
    RunFiles.start(out, "k", STARTED)
    run_files.require_own(out, "k")
    run_files.require_own(out, "kx")


@pytest.mark.parametrize(
    "file", ["K.safetensors", "k.SAFETENSORS", "K-Best.safetensors", "K-loss.PNG"]
)
def test_a_file_in_another_case_is_not_replaced_on_such_a_disk(out, file, ignoring_case):
    (out / file).write_bytes(b"mine")
    with pytest.raises(InputError, match=f"dsk did not write .*{file}"):
        run_files.require_own(out, "k")


def test_it_may_stay_on_a_disk_that_tells_case_apart(out):
    (out / "K.safetensors").write_bytes(b"mine")
    run_files.require_own(out, "k")


@pytest.mark.parametrize("place", ["file", "link"])
def test_what_is_in_the_way_of_previous_is_refused_before_anything_changes(out, tmp_path, place):
    ended_run(out)
    if place == "file":
        (out / "previous").write_text("mine")
    else:
        (out / "previous").symlink_to(tmp_path)
    before = (out / "k-run.json").read_bytes()
    for ask in (run_files.earlier_run, run_files.move_to_previous):  # the plan asks the first
        with pytest.raises(InputError, match="previous is a") as refused:
            ask(out, "k")
        assert refused.value.hint
    assert (out / "k-run.json").read_bytes() == before


def test_a_manifest_with_what_is_not_unicode_can_be_moved(out):
    """A path may have bytes that are not UTF-8."""
    RunFiles.start(out, "k", STARTED, {"options": {"train_data_dir": "d\udcff"}})
    run_files.move_to_previous(out, "k")
    moved = json.loads((out / AWAY / "k-run.json").read_bytes())
    assert moved["options"] == {"train_data_dir": "d\udcff"}


@pytest.mark.parametrize(
    "started",
    ["\u0662\u0660\u0662\u0666-11-29T10:15:00Z", "2026-1-2T1:2:3Z", "2026-11-29T10:15:00Z\n"],
)
def test_a_time_that_dsk_does_not_write_is_damage(out, started):
    (out / "k-run.json").write_text(json.dumps({**GOOD, "started": started}))
    with pytest.raises(InputError, match="cannot be read"):
        run_files.earlier_run(out, "k")


def test_a_manifest_that_is_too_large_says_what_to_do(out):
    with (out / "k-run.json").open("wb") as file:
        file.truncate(100 * 2**20)
    with pytest.raises(InputError, match="104,857,600 bytes") as refused:
        run_files.require_own(out, "k")
    assert "set another output_name" in (refused.value.hint or "")


# ---- a run that is resumed


def state(folder, name, step, text=b"{}"):
    """Write a complete state and return its folder."""
    files = RunFiles.start(folder, name, STARTED)
    contents = {
        saved_states.LORA: b"lora",
        saved_states.OPTIMIZER: b"optimizer",
        saved_states.STATE: json.dumps(
            {"version": saved_states.VERSION, "step": step, "facts": {}, "threads": 1}
        ).encode(),
    }
    return saved_states.write(files, step, contents, pause=False)


def test_a_state_is_resumed_also_where_a_kill_interrupted_the_move(out, monkeypatch):
    written = state(out, "k", 7)
    for kill_at in (1, 2):  # before the state is moved, and before the manifest is
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(os, "rename", killed_at(os.rename, kill_at))
            run_files.move_to_previous(out, "k")
        resumed = saved_states.newest(out, "k")
        assert resumed is not None and resumed.step == 7
        assert (resumed.folder == written) is (kill_at == 1)
    run_files.complete_move(out, "k")
    again = saved_states.newest_of_previous(out, "k")
    assert again is not None and again.step == 7


def resumed_from(folder):
    found = saved_states.newest(folder, "k") or saved_states.newest_of_previous(folder, "k")
    assert found is not None
    return found


def killed_at(real, number):
    calls = itertools.count(1)

    def rename(*paths):
        if next(calls) == number:
            raise Killed
        real(*paths)

    return rename


def test_a_folder_of_an_earlier_run_may_be_renamed(out, monkeypatch):
    state(out, "k", 7)
    run_files.move_to_previous(out, "k")
    renamed = (out / AWAY).rename(out / "previous" / "with the red hair")
    assert resumed_from(out).folder.parent == renamed
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "rename", killed_at(os.rename, 1))
        run_files.bring_back(out, "k", renamed)
    run_files.complete_move(out, "k")
    assert resumed_from(out).step == 7 and not (out / "previous").exists()


def test_the_newest_of_many_runs_of_one_second_is_resumed(out):
    for step in range(1, 13):
        state(out, "k", step)
        run_files.move_to_previous(out, "k")
    (out / AWAY).rename(out / "previous" / "zzz")  # the oldest, which somebody has renamed
    assert resumed_from(out).step == 12


def test_what_a_run_wrote_after_its_state_is_moved_away(out):
    """The LoRA of epoch 2 used to count as the newest: the one of epoch 1, which the resumed run
    had just written, was deleted by save_last_n_epochs = 1.
    """
    state(out, "k", 3)
    files = RunFiles.start(out, "k", STARTED)
    (out / "sample").mkdir()
    for name, kind, step in (
        ("k-000001.safetensors", "lora", 3),
        ("k-000002.safetensors", "lora", 6),
        ("sample/k-000002-00.png", "preview", 6),
        ("k-best.safetensors", "lora", 6),
        ("k.safetensors", "lora", 9),
        ("k-metrics.jsonl", "metrics", None),
    ):
        files.write(name, kind, name.encode(), step=step)
    later = run_files.written_later(out, "k", 3)
    target = files.set_aside(later)
    moved = [path for path in target.rglob("*") if path.is_file()]
    assert {path.relative_to(target).as_posix() for path in moved} == {
        "k-000002.safetensors", "sample/k-000002-00.png", "k.safetensors",
    }  # fmt: skip
    assert [file.name for file in files.listed("lora")] == [
        "k-000001.safetensors", "k-best.safetensors",
    ]  # fmt: skip
    run_files.require_own(out, "k", resume=True)
    assert run_files.written_later(out, "k", 3) == ()


def test_a_file_that_was_changed_and_kept_does_not_stop_the_run_from_being_resumed(out):
    state(out, "k", 3)
    files = RunFiles.start(out, "k", STARTED)
    files.write("k-000001.safetensors", "lora", b"dsk", step=1)
    (out / "k-000001.safetensors").write_bytes(b"merged by hand")
    files.delete(files.listed("lora"))
    run_files.require_own(out, "k", resume=True)
    assert (out / "k-000001.safetensors").read_bytes() == b"merged by hand"
    with pytest.raises(InputError, match="did not write"):  # a fresh run would write it again
        run_files.require_own(out, "k")
    (out / "k-step00000009.safetensors").write_bytes(b"mine")
    with pytest.raises(InputError, match="did not write"):
        run_files.require_own(out, "k", resume=True)


def test_files_of_the_system_do_not_keep_a_state(out):
    old = state(out, "k", 3)
    (old / ".DS_Store").write_bytes(b"x")
    (old / "Thumbs.db").write_bytes(b"x")
    for step in (4, 5):
        state(out, "k", step)
    assert not old.exists()


def test_without_a_manifest_only_what_is_continued_counts_as_the_runs_own(out):
    """States that were copied are resumed; LoRA files beside them may be anybody's."""
    state(out, "k", 3)
    (out / "k-run.json").unlink()
    (out / "k-metrics.jsonl").write_text("")
    run_files.require_own(out, "k", resume=True)
    assert {file.kind for file in RunFiles.start(out, "k", STARTED).listed("state")} == {"state"}
    (out / "k-run.json").unlink()
    (out / "k-000001.safetensors").write_bytes(b"mine")
    with pytest.raises(InputError, match="did not write"):
        run_files.require_own(out, "k", resume=True)
    assert RunFiles.start(out, "k", STARTED).listed("lora") == []


@pytest.mark.parametrize("file", sorted(saved_states._FILES - {saved_states.AVERAGE}))
@pytest.mark.parametrize("how", ["cut", "gone", "folder", "empty"])
def test_a_damaged_state_names_its_file_once_and_without_jargon(out, file, how):
    path = state(out, "k", 3) / file
    data = path.read_bytes()
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how != "gone":
        path.write_bytes(data[:-1] if how == "cut" else b"")
    with pytest.raises(InputError, match=rf"is damaged \({file}") as damaged:
        saved_states.newest(out, "k")
    assert "char" not in damaged.value.message and "start over" in (damaged.value.hint or "")


def test_a_name_without_a_state_gets_the_names_that_have_one(out):
    state(out, "red-hair", 3)
    state(out, "k-state-1", 3)
    assert saved_states.names(out) == ["k-state-1", "red-hair"]
    assert "output_name" in resume._where_to_resume(out)
    assert "it has states of k-state-1, red-hair" in resume._where_to_resume(out)
    assert "train without --resume" in resume._where_to_resume(out / "nowhere")


# ---- the command


def test_the_plan_lists_what_moves_and_a_dry_run_moves_nothing(dsk, data, here):
    (here / "output").mkdir()
    ended_run(here / "output")
    before = contents(here / "output")
    ended = dsk("train", "ds", "--dry-run", *given("output_name=k"))
    assert ended.code == 0 and f"move to output/{AWAY}" in ended.out.replace("\n", " ")
    assert all(name in ended.out for name in (*RUN, "k-state-00000001", "k-run.json"))
    listed = json.loads(dsk("train", "ds", "--dry-run", "--json", *given("output_name=k")).out)
    earlier = listed["result"]["plan"]["earlier_run"]
    assert earlier["to"].endswith(AWAY) and len(earlier["files"]) == len(RUN) + 2
    resumed = dsk("train", "ds", "--dry-run", "--resume", "--json", *given("output_name=k"))
    assert resumed.code == 2 and "training state" in resumed.err  # these are not whole
    assert contents(here / "output") == before


def test_the_dry_run_refuses_what_the_run_refuses(dsk, data, here):
    (here / "output").mkdir()
    (here / "output" / "k.safetensors").write_bytes(b"mine")
    ended = dsk("train", "ds", "--dry-run", *given("output_name=k"))
    assert ended.code == 2 and "did not write" in ended.err
    (here / "output" / "k-run.json").write_text("{")
    ended = dsk("train", "ds", "--dry-run", *given("output_name=k"))
    assert ended.code == 2 and "k-run.json cannot be read" in ended.err


def test_a_second_run_of_a_name_ends_with_11_and_changes_nothing(dsk, data, here):
    output = here / "output"
    output.mkdir()
    ended_run(output, "running")
    with run_lock.hold(output, "k"):
        before = contents(output)
        ended = dsk("train", "ds", *given("output_name=k"))
        assert ended.code == 11 and "another run is training k" in ended.err
        assert contents(output) == before and manifest_of(output).status == "running"


# ---- runs


@pytest.mark.long
def test_two_runs_into_one_folder(tmp_path):
    """The second is shorter and keeps one file: each keeps what it wrote, and a resumed run that
    was moved away goes on as if it had never been.
    """
    torch = pytest.importorskip("torch")
    from safetensors import safe_open

    from tests.trainer import tiny
    from tests.trainer.test_run import Killer, Stopped, planned
    from trainer.plan.resume import resume_point
    from trainer.run import train

    torch.set_num_threads(1)
    images, out = tmp_path / "data", tmp_path / "out"
    tiny.save_images(images / "train" / "1_k", [(64, 64), (64, 64)])
    options = tiny.options(
        tiny.save_small(tmp_path / "model"), out, max_train_epochs=4, save_every_n_epochs=1,
        network_dim=1, text_encoder_lr=0.0,
    )  # fmt: skip
    plan = planned(images, options)
    with pytest.raises(Stopped):
        train(options, plan, reporter=Killer(3))
    record = json.loads((out / "k-run.json").read_bytes())
    assert record["status"] == "stopped" and record["plan"]["steps"] == 4
    assert record["versions"]["torch"] and record["options"]["network_dim"] == 1
    first = contents(out)
    assert "k-000003.safetensors" in first

    shorter = replace(options, max_train_epochs=3, learning_rate=0.001, save_last_n_epochs=1)
    result = train(shorter, planned(images, shorter))
    assert [file.name for file in result.files] == ["k-000002.safetensors", "k.safetensors"]
    for file in result.files:
        with safe_open(file, "pt") as opened:
            assert opened.metadata()["ss_num_epochs"] == "3"
    (previous,) = run_files.previous_folders(out, "k")
    assert contents(previous) == first
    record = json.loads((out / "k-run.json").read_bytes())
    assert record["status"] == "finished" and all(file["sha256"] for file in record["files"])

    for state in out.glob("k-state-*"):
        state.rename(tmp_path / state.name)
    (notice,) = resume_point(out, "k", options, plan).notices
    assert "previous" in notice and notice.endswith("goes on from step 3")
    resumed = train(options, plan, resume=True)
    assert resumed.start == 3
    assert [file.name for file in resumed.files] == [
        "k-000001.safetensors", "k-000002.safetensors", "k-000003.safetensors", "k.safetensors",
    ]  # fmt: skip
    assert len(resumed.metrics.read_text().splitlines()) == 4
    (previous,) = run_files.previous_folders(out, "k")
    assert (previous / "k.safetensors").is_file()


def test_a_name_is_the_same_however_its_accents_are_typed(dsk, data, here):
    (here / "output").mkdir()
    RunFiles.start(here / "output", "r\u00e9e", STARTED)
    ended = dsk("train", "ds", "--dry-run", "--json", *given("output_name=re\u0301e"))
    assert ended.code == 0
    assert json.loads(ended.out)["result"]["plan"]["earlier_run"]["name"] == "r\u00e9e"
