"""What a step relies on is on the disk before the store records the step.

tests/safety/test_power_cuts.py cuts the power at every call; here the order of single calls.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from datasetkit.core import disk_sync
from datasetkit.core.disk_sync import make_folders, sync_disks, sync_folder
from datasetkit.core.errors import PlanConflict, StorageError
from datasetkit.core.files import write_atomic
from datasetkit.project import file_ops, journal
from datasetkit.project.journal import Journal
from datasetkit.project.plans import Copy, Link, Move, Plan, WriteText
from datasetkit.project.session import DEFAULT_CONTEXT, open_project
from datasetkit.project.store import Store

MANY = 20  # operations: enough for one sync of the whole disk


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "imgs"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.png").write_bytes(name.encode())
    with open_project(folder, DEFAULT_CONTEXT):
        pass
    return folder


@pytest.fixture
def calls(monkeypatch):
    """Every sync, rename and change of a phase, in order: ("sync", path), ("rename", new path)."""
    seen: list[tuple[str, str]] = []

    def path_of(descriptor: int) -> str:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())

    def watched(real, kind, path_at):
        def call(*args):
            real(*args)
            path = args[path_at]
            seen.append((kind, path_of(path) if kind == "sync" else str(path)))

        return call

    for name, kind, path_at in (
        ("replace", "rename", 1),
        ("rename", "rename", 1),
        ("fsync", "sync", 0),
        ("mkdir", "mkdir", 0),
    ):
        monkeypatch.setattr(os, name, watched(getattr(os, name), kind, path_at))
    monkeypatch.setattr(disk_sync, "sync_disk", lambda d: seen.append(("disk", path_of(d))))
    commit = Journal._set_phase

    def phase(self, entry, name):
        seen.append(("phase", name))
        commit(self, entry, name)

    monkeypatch.setattr(Journal, "_set_phase", phase)
    return seen


def apply(root, *ops):
    with open_project(root, DEFAULT_CONTEXT) as project:
        return project.apply(Plan(ops), "test")


def before(calls, event):
    return calls[: calls.index(event)]


def temps(calls, root):
    """Return the temporary files in the project that were synced."""
    files = [path for kind, path in calls if kind == "sync" and path.endswith(".tmp")]
    return [path for path in files if Path(path).is_relative_to(root)]


def test_a_copy_is_synced_before_its_names_are_recorded(root, calls):
    apply(root, Copy(root / "a.png", root / "new" / "a.png"))
    prepared = before(calls, ("phase", "move"))
    synced = [path for kind, path in prepared if kind == "sync"]
    (temp,) = temps(calls, root)
    assert Path(temp).parent == root / "new"
    # The new folder's name, the copy, the copy's name.
    assert synced.index(str(root)) < synced.index(temp) < synced.index(str(root / "new"))


def test_a_link_that_becomes_a_copy_is_synced(root, calls, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", refuse)
    apply(root, Link(root / "a.png", root / "new.png"))
    assert len(temps(calls, root)) == 1


def test_many_copies_are_synced_at_once(root, calls):
    apply(root, *(Copy(root / "a.png", root / "new" / f"{n}.png") for n in range(MANY)))
    assert [kind for kind, _ in before(calls, ("phase", "move"))].count("disk") == 1


def test_many_copies_are_synced_one_by_one_where_the_system_does_not_wait(root, calls, monkeypatch):
    monkeypatch.setattr(journal, "can_sync_disks", lambda: False)
    apply(root, *(Copy(root / "a.png", root / f"{n}.png") for n in range(MANY)))
    assert len(temps(before(calls, ("phase", "move")), root)) == MANY


def test_moves_are_synced_before_they_are_recorded(root, calls):
    (root / "to").mkdir()
    apply(root, Move(root / "a.png", root / "to" / "a.png"))
    moved = before(calls, ("phase", "place"))
    at = moved.index(("rename", str(root / "to" / "a.png")))
    # The new name first: between the two the file has both, never none.
    assert moved[at + 1 :] == [("sync", str(root / "to")), ("sync", str(root))]


def test_a_written_file_syncs_its_folder(tmp_path, calls):
    write_atomic(tmp_path / "a.png", b"x")
    assert calls[-2:] == [("rename", str(tmp_path / "a.png")), ("sync", str(tmp_path))]


def test_new_folders_are_synced_in_those_above(tmp_path, calls):
    make_folders(tmp_path / "a" / "b")
    assert calls[-2:] == [("sync", str(tmp_path)), ("sync", str(tmp_path / "a"))]


def test_the_project_folder_is_synced_in_its_root(tmp_path, calls):
    (tmp_path / "new").mkdir()
    with open_project(tmp_path / "new", DEFAULT_CONTEXT):
        pass
    at = calls.index(("mkdir", str(tmp_path / "new/.dsk")))
    assert calls[at + 1] == ("sync", str(tmp_path / "new"))


def test_the_secret_that_signs_is_synced_in_its_folder(tmp_path, root, calls, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    apply(root, WriteText(root / "a.txt", "x\n", over=None))
    synced = [path for kind, path in before(calls, ("phase", "move")) if kind == "sync"]
    assert str(tmp_path / "state") in synced and str(tmp_path / "state/datasetkit") in synced


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_folder_that_cannot_be_synced_is_an_error(number, root, monkeypatch):
    fsync = os.fsync

    def fail(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").readlink() == root:
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError):
        apply(root, WriteText(root / "a.txt", "x\n", over=None))
    assert not (root / "a.txt").exists()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EACCES, errno.EISDIR])
def test_a_file_system_that_syncs_no_folders_is_none(number, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    sync_folder(tmp_path)


def test_a_failed_sync_of_the_disk_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_sync, "_libc_syncfs", lambda: lambda descriptor: -1)
    with pytest.raises(OSError):
        sync_disks([tmp_path])
    done = []
    monkeypatch.setattr(disk_sync, "_libc_syncfs", lambda: None)
    monkeypatch.setattr(os, "sync", lambda: done.append("sync"))
    sync_disks([tmp_path, tmp_path])
    assert done == ["sync"]  # both are on one disk


# ---- what a power cut leaves where folders cannot be synced


class Killed(BaseException):
    """Ends a command as a kill would: nothing catches it."""


def kill_in_phase(root, phase, monkeypatch, *ops):
    """Kill a command as it begins a phase."""

    def end(op):
        raise Killed

    name = {"move": "move", "place": "place"}[phase]
    with monkeypatch.context() as patched:
        patched.setattr(journal, name, end)
        with pytest.raises(Killed):
            apply(root, *ops)


def recover(root):
    with open_project(root, DEFAULT_CONTEXT) as project:
        return project.recovered


@pytest.mark.parametrize("phase", ["move", "place"])
def test_recovery_makes_missing_folders_again(phase, root, monkeypatch):
    trash = root / ".dsk" / "originals" / "1"
    ops = (Move(root / "a.png", trash / "a.png"), WriteText(root / "b.txt", "x\n", over=None))
    kill_in_phase(root, phase, monkeypatch, *ops)
    if phase == "place":
        (trash / "a.png").rename(root / "a.png")  # the rename is forgotten, too
    shutil.rmtree(root / ".dsk" / "originals")
    recover(root)
    assert (trash / "a.png").read_bytes() == b"a" and not (root / "a.png").exists()
    with open_project(root, DEFAULT_CONTEXT) as project:
        project.journal.undo()
    assert not (root / ".dsk" / "originals").exists()  # the store lists each folder once
    assert (root / "a.png").read_bytes() == b"a"


def test_a_move_is_not_repeated_with_another_file(root, monkeypatch):
    """In a chain a moved file's old name is the new name of the next one."""
    ops = (Move(root / "a.png", root / "b.png"), Move(root / "b.png", root / "d.png"))
    kill_in_phase(root, "place", monkeypatch, *ops)
    recover(root)
    assert {p.name: p.read_bytes() for p in root.glob("*.png")} == {
        "b.png": b"a", "d.png": b"b", "c.png": b"c",
    }  # fmt: skip


def test_a_file_that_has_its_old_and_its_new_name_loses_the_old_one(root, monkeypatch):
    (root / "to").mkdir()
    kill_in_phase(root, "move", monkeypatch, Move(root / "a.png", root / "to" / "a.png"))
    os.link(root / "a.png", root / "to" / "a.png")
    recover(root)
    assert (root / "to" / "a.png").read_bytes() == b"a" and not (root / "a.png").exists()


def test_another_file_with_the_new_name_is_not_overwritten(root, monkeypatch):
    kill_in_phase(root, "move", monkeypatch, Move(root / "a.png", root / "new.png"))
    (root / "new.png").write_bytes(b"somebody else's")
    with pytest.raises(StorageError, match="appeared"):
        recover(root)
    assert (root / "a.png").read_bytes() == b"a"
    (root / "new.png").unlink()
    recover(root)
    assert (root / "new.png").read_bytes() == b"a"


def test_a_hard_link_of_the_file_itself_is_a_taken_name(root):
    """Renaming a file onto another link of it does nothing, so the plan would never end."""
    os.link(root / "a.png", root / "z.png")
    with pytest.raises(PlanConflict, match="already exists"):
        apply(root, Move(root / "a.png", root / "z.png"))
    assert recover(root) == ()


# ---- what the store says of files outside of the project


@pytest.mark.parametrize("signed", [True, False])
def test_only_a_signed_entry_makes_a_file_outside_dsk_s_own(signed, root, tmp_path):
    table = tmp_path / "report" / "tags.png"
    apply(root, WriteText(table, "x\n", over=None))
    if not signed:
        with sqlite3.connect(root / ".dsk/store.sqlite") as database:
            database.execute("UPDATE journal SET signature = NULL")
        database.close()
    with Store.open_copy(root) as store:
        assert Journal(store).wrote(table) is signed
    table.write_text("edited\n")
    with Store.open_copy(root) as store:
        assert not Journal(store).wrote(table)


def test_a_full_disk_is_not_taken_for_one_without_links(root, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(file_ops, "copy_file", lambda *_: pytest.fail("it was copied"))
    with pytest.raises(StorageError):
        apply(root, Link(root / "a.png", root / "new.png"))
