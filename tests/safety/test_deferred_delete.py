"""Many captions are replaced at once: the old files keep a second name for a while, which nobody
notices.
"""

import errno
import os
import random
import subprocess
import sys
import time

import pytest

from datasetkit import api
from datasetkit.core.files import PROJECT
from datasetkit.options.tag import RulesOptions
from datasetkit.project import deferred_delete, journal
from tests.safety import datasets
from tests.safety.datasets import CASES, small_set
from tests.safety.harness import FULL, Trials, Watch, damage, in_child, kill, strays, tree

# The cases that write over captions.
NAMES = ("tag", "rules", "import", "check", "undo", "layout")
KILLS = 6
REMOVED = RulesOptions(exclude=("lips",))


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch):
    """Treat the few captions of the tests as many, without syncing the disk, which a kill does not
    need.
    """
    monkeypatch.setattr(journal, "_SYNC_ALL_FROM", 1)
    monkeypatch.setattr(os, "sync", lambda: None)
    yield
    deferred_delete.delete_now()


@pytest.fixture
def kept(monkeypatch):
    """Do not delete replaced files, as if the process had been killed."""
    monkeypatch.setattr(journal, "delete_later", lambda folders: None)


def folders(root) -> list[str]:
    return sorted(path.name for path in (root / "imgs" / PROJECT).glob("replaced-*"))


def texts(folder) -> list[str]:
    return sorted(
        path.read_text(encoding="utf-8")
        for path in folder.iterdir()
        if path.is_file() and path.suffix in (".txt", "")
    )


def test_replaced_captions_are_deleted_once_the_new_ones_are_in_place(workdir):
    small_set(workdir / "imgs")
    old = texts(workdir / "imgs")
    for _ in range(4):
        result = api.rules(workdir / "imgs", REMOVED)
        assert len(result.changes) == 3
        deferred_delete.delete_now()
        assert folders(workdir) == []
        api.undo(workdir / "imgs")
        deferred_delete.delete_now()
        assert folders(workdir) == []
    assert texts(workdir / "imgs") == old


def test_replaced_captions_left_by_a_kill_are_deleted_by_the_next_command(
    workdir, kept, monkeypatch
):
    small_set(workdir / "imgs")
    old = texts(workdir / "imgs")
    api.rules(workdir / "imgs", REMOVED)
    assert folders(workdir) == ["replaced-1"]
    assert texts(workdir / "imgs" / PROJECT / "replaced-1") == old
    assert all(path.stat().st_nlink == 1 for path in (workdir / "imgs").glob("*.txt"))
    monkeypatch.undo()
    api.rules(workdir / "imgs", REMOVED)  # has nothing to do
    deferred_delete.delete_now()
    assert folders(workdir) == []


def test_few_captions_are_replaced_without_a_second_name(workdir, kept, monkeypatch):
    monkeypatch.setattr(journal, "_SYNC_ALL_FROM", 4)
    small_set(workdir / "imgs")
    assert len(api.rules(workdir / "imgs", REMOVED).changes) == 3
    assert folders(workdir) == []


def test_the_other_names_of_a_caption_keep_the_old_text(workdir):
    images = small_set(workdir / "imgs")
    caption, other = images[0].with_suffix(".txt"), workdir / "theirs.txt"
    os.link(caption, other)
    api.rules(workdir / "imgs", REMOVED)
    deferred_delete.delete_now()
    assert caption.read_text(encoding="utf-8") == "by hand 0, smile\n"
    assert other.read_text(encoding="utf-8") == "by hand 0, lips, smile\n"
    assert other.stat().st_nlink == 1


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOSPC])
def test_captions_are_replaced_without_hard_links_too(number, workdir, monkeypatch):
    def refuse(source, target, **more):
        raise OSError(number, os.strerror(number), str(target))

    small_set(workdir / "imgs")
    before = tree(workdir)
    monkeypatch.setattr(os, "link", refuse)
    assert len(api.rules(workdir / "imgs", REMOVED).changes) == 3
    assert all("lips" not in text for text in texts(workdir / "imgs"))
    api.undo(workdir / "imgs")
    deferred_delete.delete_now()
    assert tree(workdir) == before and folders(workdir) == [] and strays(workdir) == []


def test_a_file_where_the_folder_should_be_only_makes_it_slower(workdir, kept):
    images = small_set(workdir / "imgs")
    (workdir / "imgs" / PROJECT).mkdir()
    (workdir / "imgs" / PROJECT / "replaced-1").write_text("mine\n", encoding="utf-8")
    assert len(api.rules(workdir / "imgs", REMOVED).changes) == 3
    assert images[0].with_suffix(".txt").read_text(encoding="utf-8") == "by hand 0, smile\n"


def test_replaced_captions_are_deleted_after_a_while_without_another_command(workdir, monkeypatch):
    monkeypatch.setattr(deferred_delete, "_DELAY", 0.01)
    small_set(workdir / "imgs")
    api.rules(workdir / "imgs", REMOVED)
    until = time.monotonic() + 60
    while folders(workdir) and time.monotonic() < until:
        time.sleep(0.01)
    assert folders(workdir) == []


@pytest.mark.long
def test_replaced_captions_are_deleted_when_the_process_ends(workdir):
    small_set(workdir / "imgs")
    command = (
        "import sys, datasetkit.project.journal as j, datasetkit.cli.main as m; "
        "j._SYNC_ALL_FROM = 1; m.main()"
    )
    rules = ["rules", str(workdir / "imgs"), "--exclude", "lips"]
    subprocess.run([sys.executable, "-c", command, *rules], check=True, capture_output=True)
    assert "by hand 0, smile\n" in texts(workdir / "imgs")
    assert folders(workdir) == []


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_kill_while_many_captions_are_replaced_loses_nothing(name, workdir):
    trials = Trials(CASES[name], workdir / "t")
    moments = sorted(
        random.Random(name).sample(range(trials.points // 2, trials.points + 1), KILLS)
    )
    assert [problem for at in moments for problem in trials.killed(at=at)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_kill_at_every_call_while_many_captions_are_replaced_loses_nothing(name, workdir):
    trials = Trials(CASES[name], workdir / "t")
    assert [problem for at in range(1, trials.points + 1) for problem in trials.killed(at=at)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_call_may_fail_while_many_captions_are_replaced(name, workdir):
    trials = Trials(CASES[name], workdir / "t")
    calls = in_child(
        trials.case.run,
        root=trials.fresh("count"),
        watch=Watch(workdir / "t" / "count", statements=False),
    )
    assert "link" in calls.calls
    for at in range(1, calls.points + 1):
        root = trials.fresh("trial")
        in_child(
            trials.case.run, root=root, watch=Watch(root, at=at, strike=FULL, statements=False)
        )
        assert damage(root, trials.before, trials.after, trials.images) == []
        again = trials.again(root)
        assert again.code == 0, f"call {at}: {again.output}"
        assert trials.differences(root) == [], f"call {at}"


@pytest.mark.long
def test_undo_after_a_kill_restores_many_captions(workdir):
    trials = Trials(CASES["rules"], workdir / "t")
    for at in sorted(random.Random(0).sample(range(trials.points // 2, trials.points + 1), KILLS)):
        root = trials.fresh("trial")
        in_child(trials.case.run, root=root, watch=Watch(root, at=at, strike=kill))
        assert trials.again(root).code == 0
        assert in_child(lambda root: api.undo(root / "imgs", 1), root=root).code == 0
        assert tree(root) == trials.before, f"killed at {at}"
        assert in_child(datasets.rules, root=root).code == 0
        assert trials.differences(root) == []
