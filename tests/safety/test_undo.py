"""Undo restores every command exactly, and never touches files that a person changed since."""

import pytest

from datasetkit import api
from datasetkit.core.errors import PlanConflict
from tests.safety import datasets
from tests.safety.datasets import CASES, TAG, small_set
from tests.safety.harness import in_child, strays, tree

UNDOABLE = {
    "tag": "imgs",
    "rename": "imgs",
    "moves": ".",
    "copies": ".",
    "resize": "small",
    "resize-again": "small",
    "resize-in-place": "imgs",
    "cutout": "cut",
    "cutout-again": "cut",
    "faces-crop": "faces",
    "faces-erase": "erased",
    "rules": "imgs",
    "layout": "dataset",
    "reg": "dataset",
    "import": "imgs",
}


def here(root):
    """Return the tree without folders: a project's own folder keeps its history, so it remains."""
    return {name: what for name, what in tree(root).items() if what != "folder"}


def alone(action, workdir):
    """Run in a child: some commands use the current folder."""
    ended = in_child(action, root=workdir)
    assert ended.code == 0, ended.output


@pytest.mark.long
@pytest.mark.parametrize(("name", "where"), UNDOABLE.items())
def test_undo_restores_every_byte(name, where, workdir):
    case = CASES[name]
    alone(case.build, workdir)
    before = here(workdir)
    known = (
        max((e.id for e in api.history(workdir / where)), default=0)
        if (workdir / where / ".dsk").is_dir()
        else 0
    )
    alone(case.run, workdir)
    assert here(workdir) != before
    alone(lambda root: api.undo(root / where, known + 1), workdir)
    assert here(workdir) == before
    assert strays(workdir) == []


def a_day_of_work(workdir):
    """Tag, rules, rename, tag again; return the tree at the start and after each."""
    small_set(workdir / "imgs")
    trees = [tree(workdir)]
    for work in (
        datasets.tag,
        datasets.rules,
        datasets.rename,
        lambda root: api.tag(root / "imgs", TAG),
    ):
        work(workdir)
        trees.append(tree(workdir))
    return trees


def test_commands_are_undone_one_by_one_newest_first(workdir):
    trees = a_day_of_work(workdir)
    ids = [e.id for e in api.history(workdir / "imgs")]
    for expected in reversed(trees[: len(ids)]):
        api.undo(workdir / "imgs")
        assert tree(workdir) == expected
    assert api.undo(workdir / "imgs").entries == ()


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_undo_to_undoes_that_command_and_all_after_it(steps, workdir):
    trees = a_day_of_work(workdir)
    ids = [e.id for e in api.history(workdir / "imgs")]
    api.undo(workdir / "imgs", ids[steps - 1])
    assert tree(workdir) == trees[len(ids) - steps]


def test_undoing_twice_does_nothing(workdir):
    a_day_of_work(workdir)
    first = min(e.id for e in api.history(workdir / "imgs"))
    api.undo(workdir / "imgs", first)
    before = tree(workdir)
    assert api.undo(workdir / "imgs", first).entries == ()
    assert tree(workdir) == before
    with pytest.raises(PlanConflict, match="no command 99"):
        api.undo(workdir / "imgs", 99)


def test_an_edited_caption_is_refused_and_nothing_is_changed(workdir):
    small_set(workdir / "imgs")
    datasets.tag(workdir)
    edited = workdir / "imgs" / "photo 2.txt"
    edited.write_text("mine now\n", encoding="utf-8")
    before = tree(workdir)
    with pytest.raises(PlanConflict, match=r"photo 2\.txt has changed since") as raised:
        api.undo(workdir / "imgs")
    assert "--partial" in raised.value.hint
    assert tree(workdir) == before


def test_partial_keeps_the_edited_caption_and_undoes_the_rest(workdir):
    small_set(workdir / "imgs")
    start = tree(workdir)
    datasets.tag(workdir)
    (workdir / "imgs" / "photo 2.txt").write_text("mine now\n", encoding="utf-8")
    done = api.undo(workdir / "imgs", partial=True)
    assert done.refused == ("photo 2.txt has changed since",)
    assert (workdir / "imgs" / "photo 2.txt").read_text(encoding="utf-8") == "mine now\n"
    now = tree(workdir)
    assert {n: w for n, w in now.items() if "photo 2.txt" not in n} == {
        n: w for n, w in start.items() if "photo 2.txt" not in n
    }


def test_an_edit_below_several_commands_refuses_all_of_them_before_the_first_is_undone(workdir):
    """The newest command could be undone, an older one not: nothing may change."""
    small_set(workdir / "imgs")
    datasets.tag(workdir)
    edited = workdir / "imgs" / "photo 4.txt"
    edited.write_text("lips, mine\n", encoding="utf-8")
    datasets.rules(workdir)
    before = tree(workdir)
    with pytest.raises(PlanConflict, match=r"dsk tag.*photo 4\.txt has changed since"):
        api.undo(workdir / "imgs", 1)
    assert tree(workdir) == before
    assert {e.state for e in api.history(workdir / "imgs")} == {"done"}


def test_a_missing_file_and_a_taken_name_are_refused(workdir):
    images = small_set(workdir / "imgs")
    datasets.rename(workdir)
    images[1].write_bytes(b"a new image under the old name")
    (workdir / "imgs" / "p_003.png").unlink()
    before = tree(workdir)
    with pytest.raises(PlanConflict) as raised:
        api.undo(workdir / "imgs")
    assert "photo 2.jpg is taken again" in raised.value.message
    assert "p_003.png is gone" in raised.value.message
    assert tree(workdir) == before


def test_captions_that_resize_copied_and_rules_changed_can_be_undone_to_the_start(workdir):
    small_set(workdir / "imgs")
    before = here(workdir)
    datasets.resize(workdir)
    api.rules(workdir / "small", api.RulesOptions(trigger=("sks",)))
    api.undo(workdir / "small", 1)
    assert here(workdir) == before


def test_an_edited_output_of_resize_is_kept(workdir):
    small_set(workdir / "imgs")
    datasets.resize(workdir)
    edited = workdir / "small" / "photo 2.jpg"
    edited.write_bytes(b"painted over")
    with pytest.raises(PlanConflict, match=r"photo 2\.jpg has changed since"):
        api.undo(workdir / "small")
    api.undo(workdir / "small", partial=True)
    assert [name for name in here(workdir) if name.startswith("small")] == ["small/photo 2.jpg"]
    assert edited.read_bytes() == b"painted over"


def test_a_dry_run_of_undo_reports_and_changes_nothing(workdir):
    a_day_of_work(workdir)
    before = tree(workdir)
    first = min(e.id for e in api.history(workdir / "imgs"))
    told = api.undo(workdir / "imgs", first, context=api.RunContext(dry_run=True))
    assert len(told.entries) >= 3
    assert told.refused == ()
    assert tree(workdir) == before
