"""Many captions are replaced at once: what stood there keeps a second name for a while, and nobody
ever notices.
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
    """Take the way of many captions with the few of the tests; a kill asks nothing of the
    platters.
    """
    monkeypatch.setattr(journal, "_SYNC_ALL_FROM", 1)
    monkeypatch.setattr(os, "sync", lambda: None)
    yield
    deferred_delete.delete_now()


@pytest.fixture
def kept(monkeypatch):
    """Let what was replaced lie, as when the process is killed before it is gone."""
    monkeypatch.setattr(journal, "delete_later", lambda folders: None)


def folders(root) -> list[str]:
    return sorted(path.name for path in (root / "imgs" / PROJECT).glob("replaced-*"))


def texts(folder) -> list[str]:
    return sorted(
        path.read_text(encoding="utf-8")
        for path in folder.iterdir()
        if path.is_file() and path.suffix in (".txt", "")
    )


def test_replaced_captions_are_freed_once_the_new_ones_stand(place):
    small_set(place / "imgs")
    old = texts(place / "imgs")
    for _ in range(4):
        result = api.rules(place / "imgs", REMOVED)
        assert len(result.changes) == 3
        deferred_delete.delete_now()
        assert folders(place) == []
        api.undo(place / "imgs")
        deferred_delete.delete_now()
        assert folders(place) == []
    assert texts(place / "imgs") == old


def test_what_a_kill_leaves_of_replaced_captions_is_freed_by_the_next_command(
    place, kept, monkeypatch
):
    small_set(place / "imgs")
    old = texts(place / "imgs")
    api.rules(place / "imgs", REMOVED)
    assert folders(place) == ["replaced-1"]
    assert texts(place / "imgs" / PROJECT / "replaced-1") == old
    assert all(path.stat().st_nlink == 1 for path in (place / "imgs").glob("*.txt"))
    monkeypatch.undo()
    api.rules(place / "imgs", REMOVED)  # has nothing to do
    deferred_delete.delete_now()
    assert folders(place) == []


def test_few_captions_are_replaced_without_a_second_name(place, kept, monkeypatch):
    monkeypatch.setattr(journal, "_SYNC_ALL_FROM", 4)
    small_set(place / "imgs")
    assert len(api.rules(place / "imgs", REMOVED).changes) == 3
    assert folders(place) == []


def test_the_other_names_of_a_caption_keep_the_old_text(place):
    images = small_set(place / "imgs")
    caption, other = images[0].with_suffix(".txt"), place / "theirs.txt"
    os.link(caption, other)
    api.rules(place / "imgs", REMOVED)
    deferred_delete.delete_now()
    assert caption.read_text(encoding="utf-8") == "by hand 0, smile\n"
    assert other.read_text(encoding="utf-8") == "by hand 0, lips, smile\n"
    assert other.stat().st_nlink == 1


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOSPC])
def test_without_hard_links_captions_are_replaced_all_the_same(number, place, monkeypatch):
    def refuse(source, target, **more):
        raise OSError(number, os.strerror(number), str(target))

    small_set(place / "imgs")
    before = tree(place)
    monkeypatch.setattr(os, "link", refuse)
    assert len(api.rules(place / "imgs", REMOVED).changes) == 3
    assert all("lips" not in text for text in texts(place / "imgs"))
    api.undo(place / "imgs")
    deferred_delete.delete_now()
    assert tree(place) == before and folders(place) == [] and strays(place) == []


def test_a_file_in_the_place_of_the_folder_only_makes_it_slower(place, kept):
    images = small_set(place / "imgs")
    (place / "imgs" / PROJECT).mkdir()
    (place / "imgs" / PROJECT / "replaced-1").write_text("mine\n", encoding="utf-8")
    assert len(api.rules(place / "imgs", REMOVED).changes) == 3
    assert images[0].with_suffix(".txt").read_text(encoding="utf-8") == "by hand 0, smile\n"


def test_replaced_captions_are_freed_after_a_while_without_another_command(place, monkeypatch):
    monkeypatch.setattr(deferred_delete, "_DELAY", 0.01)
    small_set(place / "imgs")
    api.rules(place / "imgs", REMOVED)
    until = time.monotonic() + 60
    while folders(place) and time.monotonic() < until:
        time.sleep(0.01)
    assert folders(place) == []


def test_replaced_captions_are_freed_when_the_process_ends(place):
    small_set(place / "imgs")
    command = (
        "import sys, datasetkit.project.journal as j, datasetkit.cli.main as m; "
        "j._SYNC_ALL_FROM = 1; m.main()"
    )
    rules = ["rules", str(place / "imgs"), "--exclude", "lips"]
    subprocess.run([sys.executable, "-c", command, *rules], check=True, capture_output=True)
    assert "by hand 0, smile\n" in texts(place / "imgs")
    assert folders(place) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_kill_while_many_captions_are_replaced_loses_nothing(name, place):
    trials = Trials(CASES[name], place / "t")
    moments = sorted(
        random.Random(name).sample(range(trials.points // 2, trials.points + 1), KILLS)
    )
    assert [problem for at in moments for problem in trials.killed(at=at)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_kill_at_every_call_while_many_captions_are_replaced_loses_nothing(name, place):
    trials = Trials(CASES[name], place / "t")
    assert [problem for at in range(1, trials.points + 1) for problem in trials.killed(at=at)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_call_may_fail_while_many_captions_are_replaced(name, place):
    trials = Trials(CASES[name], place / "t")
    calls = in_child(
        trials.case.run,
        root=trials.fresh("count"),
        watch=Watch(place / "t" / "count", statements=False),
    )
    assert "link" in calls.calls
    for at in range(1, calls.points + 1):
        root = trials.fresh("trial")
        in_child(
            trials.case.run, root=root, watch=Watch(root, at=at, strike=FULL, statements=False)
        )
        assert damage(root, trials.before, trials.after, trials.images) == []
        again = trials.again(root)
        assert again.code == 0, f"call {at}: {again.said}"
        assert trials.differences(root) == [], f"call {at}"


def test_undo_after_a_kill_takes_many_captions_back(place):
    trials = Trials(CASES["rules"], place / "t")
    for at in sorted(random.Random(0).sample(range(trials.points // 2, trials.points + 1), KILLS)):
        root = trials.fresh("trial")
        in_child(trials.case.run, root=root, watch=Watch(root, at=at, strike=kill))
        assert trials.again(root).code == 0
        assert in_child(lambda root: api.undo(root / "imgs", 1), root=root).code == 0
        assert tree(root) == trials.before, f"killed at {at}"
        assert in_child(datasets.rules, root=root).code == 0
        assert trials.differences(root) == []
