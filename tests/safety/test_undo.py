"""Undo: every command can be taken back exactly; files that a person changed since are never
touched.
"""

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
    """The tree without folders: a project's own folder keeps its history, and so stays."""
    return {name: what for name, what in tree(root).items() if what != "folder"}


def alone(action, place):
    """Run in a child: some commands look at the current folder."""
    ended = in_child(action, root=place)
    assert ended.code == 0, ended.said


@pytest.mark.parametrize(("name", "where"), UNDOABLE.items())
def test_undo_restores_every_byte(name, where, place):
    case = CASES[name]
    alone(case.build, place)
    before = here(place)
    known = (
        max((e.id for e in api.history(place / where)), default=0)
        if (place / where / ".dsk").is_dir()
        else 0
    )
    alone(case.run, place)
    assert here(place) != before
    alone(lambda root: api.undo(root / where, known + 1), place)
    assert here(place) == before
    assert strays(place) == []


def a_day_of_work(place):
    """tag, rules, rename, tag again; return the tree after each, the first being the start."""
    small_set(place / "imgs")
    trees = [tree(place)]
    for work in (
        datasets.tag,
        datasets.rules,
        datasets.rename,
        lambda root: api.tag(root / "imgs", TAG),
    ):
        work(place)
        trees.append(tree(place))
    return trees


def test_commands_are_taken_back_one_by_one_newest_first(place):
    trees = a_day_of_work(place)
    ids = [e.id for e in api.history(place / "imgs")]
    for expected in reversed(trees[: len(ids)]):
        api.undo(place / "imgs")
        assert tree(place) == expected
    assert api.undo(place / "imgs").entries == ()


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_undo_to_takes_back_that_command_and_all_after_it(steps, place):
    trees = a_day_of_work(place)
    ids = [e.id for e in api.history(place / "imgs")]
    api.undo(place / "imgs", ids[steps - 1])
    assert tree(place) == trees[len(ids) - steps]


def test_undo_of_what_is_undone_already_does_nothing(place):
    a_day_of_work(place)
    first = min(e.id for e in api.history(place / "imgs"))
    api.undo(place / "imgs", first)
    before = tree(place)
    assert api.undo(place / "imgs", first).entries == ()
    assert tree(place) == before
    with pytest.raises(PlanConflict, match="no command 99"):
        api.undo(place / "imgs", 99)


def test_an_edited_caption_is_refused_and_nothing_is_changed(place):
    small_set(place / "imgs")
    datasets.tag(place)
    edited = place / "imgs" / "photo 2.txt"
    edited.write_text("mine now\n", encoding="utf-8")
    before = tree(place)
    with pytest.raises(PlanConflict, match=r"photo 2\.txt was changed since") as raised:
        api.undo(place / "imgs")
    assert "--partial" in raised.value.hint
    assert tree(place) == before


def test_partial_leaves_the_edited_caption_and_takes_back_the_rest(place):
    small_set(place / "imgs")
    start = tree(place)
    datasets.tag(place)
    (place / "imgs" / "photo 2.txt").write_text("mine now\n", encoding="utf-8")
    done = api.undo(place / "imgs", partial=True)
    assert done.refused == ("photo 2.txt was changed since",)
    assert (place / "imgs" / "photo 2.txt").read_text(encoding="utf-8") == "mine now\n"
    now = tree(place)
    assert {n: w for n, w in now.items() if "photo 2.txt" not in n} == {
        n: w for n, w in start.items() if "photo 2.txt" not in n
    }


def test_an_edit_below_several_commands_refuses_all_of_them_before_the_first_is_taken_back(place):
    """The newest command could be undone, an older one not: nothing may happen at all."""
    small_set(place / "imgs")
    datasets.tag(place)
    edited = place / "imgs" / "photo 4.txt"
    edited.write_text("lips, mine\n", encoding="utf-8")
    datasets.rules(place)
    before = tree(place)
    with pytest.raises(PlanConflict, match=r"dsk tag.*photo 4\.txt was changed since"):
        api.undo(place / "imgs", 1)
    assert tree(place) == before
    assert {e.state for e in api.history(place / "imgs")} == {"done"}


def test_a_gone_file_and_a_taken_name_are_refused(place):
    images = small_set(place / "imgs")
    datasets.rename(place)
    images[1].write_bytes(b"a new image under the old name")
    (place / "imgs" / "p_003.png").unlink()
    before = tree(place)
    with pytest.raises(PlanConflict) as raised:
        api.undo(place / "imgs")
    assert "photo 2.jpg is taken again" in raised.value.message
    assert "p_003.png is gone" in raised.value.message
    assert tree(place) == before


def test_captions_that_resize_carried_and_rules_changed_can_be_undone_to_the_start(place):
    small_set(place / "imgs")
    before = here(place)
    datasets.resize(place)
    api.rules(place / "small", api.RulesOptions(trigger=("sks",)))
    api.undo(place / "small", 1)
    assert here(place) == before


def test_an_edited_image_of_a_resize_stays(place):
    small_set(place / "imgs")
    datasets.resize(place)
    edited = place / "small" / "photo 2.jpg"
    edited.write_bytes(b"painted over")
    with pytest.raises(PlanConflict, match=r"photo 2\.jpg was changed since"):
        api.undo(place / "small")
    api.undo(place / "small", partial=True)
    assert [name for name in here(place) if name.startswith("small")] == ["small/photo 2.jpg"]
    assert edited.read_bytes() == b"painted over"


def test_a_dry_run_of_undo_tells_and_changes_nothing(place):
    a_day_of_work(place)
    before = tree(place)
    first = min(e.id for e in api.history(place / "imgs"))
    told = api.undo(place / "imgs", first, context=api.RunContext(dry_run=True))
    assert len(told.entries) >= 3
    assert told.refused == ()
    assert tree(place) == before
