"""Each folder is a project with its own history; from a folder above, all of them can be seen, and
the newest command undone.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import pytest

from datasetkit import api
from datasetkit.project.session import RunContext, open_project
from tests.cli.conftest import dsk, here, images, toy_tagger  # noqa: F401 - fixtures


@pytest.fixture
def folders(dsk, here, monkeypatch):  # noqa: F811
    """Three projects as a tutorial leaves them, one of them two levels down, used in this order."""
    clock = iter(range(1_700_000_000, 1_800_000_000, 1000))
    monkeypatch.setattr("datasetkit.project.journal.time.time", lambda: float(next(clock)))
    images(here / "imgs", 2)
    images(here / "sets" / "women", 2)
    assert dsk("rename", "imgs", "x").code == 0
    assert dsk("tag", "sets/women").code == 0
    assert dsk("layout", "2_x=imgs").code == 0
    return here


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.fixture
def answer(monkeypatch):
    """A person at a terminal, who gives this answer."""

    def say(text):
        class Terminal:
            def isatty(self):
                return True

            def readline(self, *_):
                return f"{text}\n"

        monkeypatch.setattr(sys, "stdin", Terminal())

    return say


def test_history_lists_the_projects_below_the_newest_first(folders, dsk):  # noqa: F811
    ended = dsk("history")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert [line for line in lines if line in ("dataset", "imgs", "sets/women")] == [
        "dataset", "sets/women", "imgs",
    ]  # fmt: skip
    assert "rename" in ended.out and "layout" in ended.out
    below = dsk("history", "--json").result
    assert [Path(p["root"]).name for p in below] == ["dataset", "women", "imgs"]
    assert below[0]["entries"][0]["verb"] == "layout"


def test_a_project_s_own_history_is_the_only_one_it_lists(folders, dsk):  # noqa: F811
    assert dsk("history", "imgs", "--json").result[0]["verb"] == "rename"
    assert dsk("history", "sets").out.startswith("sets/women")


def test_three_levels_down_hidden_and_linked_projects_are_not_listed(folders, dsk):  # noqa: F811
    images(folders / "a" / "b" / "c", 1)
    images(folders / ".hidden", 1)
    assert dsk("tag", "a/b/c").code == dsk("tag", ".hidden").code == 0
    (folders / "link").symlink_to(folders / "imgs")
    assert len(dsk("history", "--json").result) == 3


def test_undo_names_the_newest_and_asks(folders, dsk, answer):  # noqa: F811
    answer("y")
    ended = dsk("undo")
    assert ended.code == 0, ended
    assert "layout" in ended.err and "in dataset (history 1)" in ended.err
    assert "undid layout" in ended.out
    assert names(folders / "imgs") == ["x_001.png", "x_002.png"]
    answer("y")
    assert "undid tag" in dsk("undo").out
    answer("y")
    assert "undid rename" in dsk("undo").out
    assert names(folders / "imgs") == ["a1.png", "a2.png"]
    ended = dsk("undo", "--yes")
    assert ended.code == 2 and "nothing can be undone" in ended.err


@pytest.mark.parametrize("key", [KeyboardInterrupt, EOFError])
@pytest.mark.parametrize("arguments", [("undo",), ("init", "imgs")])
def test_a_question_can_be_left_with_ctrl_c_or_ctrl_d(arguments, key, folders, dsk, monkeypatch):  # noqa: F811
    class Terminal:
        def isatty(self):
            return True

        def readline(self, *_):
            raise key

    monkeypatch.setattr(sys, "stdin", Terminal())
    ended = dsk(*arguments)
    assert ended.code == 130
    assert ended.err.endswith("error: interrupted\nhint: nothing was changed\n")
    assert dsk("history", "dataset", "--json").result[0]["state"] == "done"
    assert not (folders / "imgs" / "dsk.toml").exists()


def test_a_no_changes_nothing(folders, dsk, answer):  # noqa: F811
    answer("n")
    assert dsk("undo").code == 2
    assert dsk("history", "dataset", "--json").result[0]["state"] == "done"


def test_where_nobody_can_be_asked_undo_needs_yes(folders, dsk):  # noqa: F811
    ended = dsk("undo", "--json")
    assert ended.code == 2 and "--yes" in ended.err and "dsk undo dataset" in ended.err
    assert dsk("history", "dataset", "--json").result[0]["state"] == "done"
    done = dsk("undo", "--yes", "--json")
    assert done.code == 0 and done.result["entries"][0]["verb"] == "layout"
    assert dsk("history", "dataset", "--json").result[0]["verb"] == "undo"


def test_a_dry_run_asks_nothing(folders, dsk):  # noqa: F811
    assert "would undo layout" in dsk("undo", "--dry-run").out
    assert dsk("history", "dataset", "--json").result[0]["state"] == "done"


def test_a_number_of_the_history_needs_the_folder(folders, dsk):  # noqa: F811
    ended = dsk("undo", "--to", "1", "--yes")
    assert ended.code == 2 and "dsk undo dataset --to 1" in ended.err


def test_a_damaged_store_does_not_hide_the_others(folders, dsk):  # noqa: F811
    (folders / "imgs/.dsk/store.sqlite").write_bytes(b"nonsense" * 1000)
    ended = dsk("history")
    assert ended.code == 0 and "layout" in ended.out and "damaged" in ended.err
    assert "undid layout" in dsk("undo", "--yes").out


def test_an_interrupted_command_is_named_not_undone(folders, dsk):  # noqa: F811
    database = sqlite3.connect(folders / "dataset/.dsk/store.sqlite")
    with database:
        database.execute(
            "INSERT INTO journal (verb, title, started, state, phase) VALUES "
            "('rules', 'x', 9, 'open', 'prepare')"
        )
    database.close()
    ended = dsk("undo", "--yes")
    assert ended.code == 2 and "dsk history --recover dataset" in ended.err


def test_without_any_project_nothing_is_listed(dsk, here):  # noqa: F811
    for command in ("history", "undo"):
        ended = dsk(command)
        assert ended.code == 2 and "no command has changed anything here" in ended.err
    assert api.projects_below(here) == ()


def test_roots_stay_as_they_are(folders):
    with open_project(folders / "sets" / "women", RunContext(dry_run=True)) as project:
        assert project.root == (folders / "sets" / "women").resolve()
    assert not (folders / ".dsk").exists()
