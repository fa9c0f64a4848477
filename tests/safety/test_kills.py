"""A command may be killed at any moment: nothing is lost, and the next run completes it."""

import itertools
import os
import random
import signal
import sys

import pytest

from datasetkit import api
from datasetkit.core.files import PROJECT
from datasetkit.images import pixels
from datasetkit.images.listing import list_images
from datasetkit.options.dataset import LayoutOptions
from datasetkit.options.images import RenameOptions
from datasetkit.outputs import produce
from datasetkit.project import journal
from datasetkit.stages import faces as facing
from datasetkit.stages import resize as resizing
from tests.safety import datasets
from tests.safety.datasets import CASES, TAG, small_set
from tests.safety.harness import Case, Trials, Watch, in_child, kill, strays, tree

KILLS = 10


def spread(points: int, n: int) -> list[int]:
    """Choose n calls of a run, one in each n-th of it, so that early and late ones are among
    them.
    """
    draw = random.Random(points)
    return sorted({1 + int((i + draw.random()) * points / n) for i in range(n)})


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_a_killed_command_loses_nothing_and_the_next_run_finishes_it(name, workdir):
    trials = Trials(CASES[name], workdir / "t")
    assert [p for at in spread(trials.points, KILLS) for p in trials.killed(at=at)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_kill_at_every_single_call_loses_nothing(name, workdir):
    trials = Trials(CASES[name], workdir / "t")
    assert [p for at in range(1, trials.points + 1) for p in trials.killed(at=at)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_300_kills_at_random_moments_lose_nothing(name, workdir):
    trials = Trials(CASES[name], workdir / "t")
    draw = random.Random(name)
    moments = [draw.uniform(0.01, 1.1 * trials.whole.seconds) for _ in range(300)]
    assert [p for after in moments for p in trials.killed(after=after)] == []


def write_plainly() -> None:
    """Patch in a writer that damages captions: it truncates in place and writes in small pieces."""

    def place(op):
        if op.kind == "write":
            op.temp.unlink()
            descriptor = os.open(op.dst, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for at in range(0, len(op.after), 8):
                os.write(descriptor, op.after[at : at + 8])
            os.close(descriptor)
        return True

    vars(journal)["place"] = place


@pytest.mark.parametrize("name", ["tag", "rules", "import"])
@pytest.mark.slow
def test_the_check_fails_for_a_writer_that_truncates_in_place(name, workdir):
    trials = Trials(CASES[name], workdir / "t")
    moments = range(trials.points // 2, trials.points, 3)
    found = [p for at in moments for p in trials.killed(at=at, before=write_plainly)]
    assert any("neither old nor new" in problem for problem in found)


def die_while_writing_plainly() -> None:
    """Patch in plain writing instead of renaming, and a kill in the middle of the second visible
    file.
    """
    begun = itertools.count()  # many threads write

    def write(path, data):
        second = PROJECT not in path.parts and next(begun) == 1
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(descriptor, data[: len(data) // 2])
        if second:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(descriptor, data[len(data) // 2 :])
        os.close(descriptor)

    def place(op):
        if op.temp is not None and os.path.lexists(op.temp):
            write(op.dst, op.temp.read_bytes())
            op.temp.unlink()
        return True

    vars(journal)["place"] = place
    for module in (pixels, resizing, facing, produce):
        vars(module)["write_atomic"] = write


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_check_of_every_command_fails_for_plain_writing(name, workdir):
    trials = Trials(CASES[name], workdir / "t")
    found = trials.killed(at=sys.maxsize, before=die_while_writing_plainly)
    assert any("neither old nor new" in problem for problem in found)


@pytest.mark.parametrize(
    "name", ["tag", "rename", "resize", "rules", "import", "resize-in-place", "check"]
)
@pytest.mark.long
def test_undo_after_a_kill_and_a_second_run_restores_everything(name, workdir):
    trials = Trials(CASES[name], workdir / "t")
    where = "small" if name == "resize" else "imgs"
    for at in spread(trials.points, 4):
        root = trials.fresh("trial")
        in_child(trials.case.run, root=root, watch=Watch(root, at=at, strike=kill))
        assert trials.again(root).code == 0
        taken_back = in_child(
            lambda r: api.undo(r / where, min(e.id for e in api.history(r / where))), root=root
        )
        assert taken_back.code == 0, taken_back.output
        seen = {
            n: what for n, what in tree(root).items() if n != "small"
        }  # an empty folder with its history remains
        assert seen == trials.before, f"killed at {at}"


@pytest.mark.long
def test_an_interrupted_undo_is_completed_and_undoes_nothing_else(workdir):
    """Another `dsk undo` after a kill must not undo one command more."""

    def build(root):
        small_set(root / "imgs")
        datasets.tag(root)
        datasets.rename(root)

    trials = Trials(Case("undo one", build, lambda root: api.undo(root / "imgs")), workdir / "t")
    begun = 0
    for at in range(1, trials.points + 1, 4):
        root = trials.fresh("trial")
        in_child(trials.case.run, root=root, watch=Watch(root, at=at, strike=kill))
        states = {e.verb: e.state for e in api.history(root / "imgs")}
        if states["rename"] == "done":  # otherwise the kill came too late
            begun += "undo" in states
            assert trials.again(root).code == 0
            assert trials.differences(root) == []
    assert begun >= 3


NEXT = {
    "tag": lambda root: api.tag(root / "imgs", TAG),
    "resize": datasets.resize,
    "rules": datasets.rules,
    "rename": lambda root: api.rename(root / "imgs", RenameOptions(prefix="q")),
    "layout": lambda root: api.layout(
        (f"2_x={root / 'imgs'}",), LayoutOptions(out=str(root / "dataset"))
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("verb", NEXT)
def test_any_command_after_a_kill_completes_the_rename_first(verb, workdir):
    """The undo of a rename gives every image a temporary name first: killed then, the folder seems
    empty.
    """

    def build(root):
        small_set(root / "imgs")
        datasets.rename(root)

    trials = Trials(Case("undo", build, lambda root: api.undo(root / "imgs")), workdir / "t")
    expected = trials.fresh("expected")
    for action in (trials.case.run, NEXT[verb]):
        assert in_child(action, root=expected).code == 0
    seen_empty = 0
    for at in range(trials.points // 3, trials.points, 9):
        root = trials.fresh("trial")
        in_child(trials.case.run, root=root, watch=Watch(root, at=at, strike=kill))
        if {e.verb: e.state for e in api.history(root / "imgs")}.get("undo") != "open":
            continue
        seen_empty += not list_images(root / "imgs").images
        ended = in_child(NEXT[verb], root=root)
        assert ended.code == 0, ended.output
        assert tree(root) == tree(expected)
        assert strays(root) == []
    assert seen_empty


@pytest.mark.long
def test_a_caption_edited_between_the_crash_and_the_next_run_is_kept(workdir):
    trials = Trials(CASES["rules"], workdir / "t")
    kept = 0
    for at in range(trials.points // 2, trials.points, 3):
        root = trials.fresh("trial")
        ended = in_child(trials.case.run, root=root, watch=Watch(root, at=at, strike=kill))
        caption = root / "imgs" / "photo 3.txt"
        untouched = caption.read_text(encoding="utf-8").startswith("by hand")
        if ended.code is not None or not untouched or api.history(root / "imgs")[:1] == []:
            continue
        caption.write_text("edited after the crash\n", encoding="utf-8")
        output = in_child(NEXT["tag"], root=root)
        assert output.code == 0, output.output
        assert caption.read_text(encoding="utf-8") == "edited after the crash\n"
        kept += 1
    assert kept
