"""The power may fail at any moment: files are old or new, never half, and the next run completes
it.
"""

import errno
import os
import shutil
import signal
import stat
import sys
import time
import traceback
from pathlib import Path

import pytest

from datasetkit import api
from datasetkit.options.tag import RulesOptions
from datasetkit.project import file_ops
from tests.safety.datasets import CASES
from tests.safety.harness import Trials, Watch, damage, in_child, tree
from tests.safety.power_cut import FORGETS, ForgetfulDisk

pytestmark = pytest.mark.long

EVERY = 10  # of the calls of a run; those that are marked slow try all of them

ON_ANOTHER_DISK = ("layout", "reg", "copies")


def cut_at(trials, at, forgets, *, before=None, statements=False):
    """Cut the power at a call of a run; return the folder as it is found afterwards, or None if the
    run ended before that.
    """
    root = trials.fresh("trial")
    left = root.with_name("left")
    shutil.rmtree(left, ignore_errors=True)
    disk = ForgetfulDisk(root)

    def strike(name, args):
        """Write what is left from a fork, with this process stopped: its other threads would rename
        files while they are read. Until then this thread does not give up the interpreter.
        """
        disk.turn.acquire()
        sys.setswitchinterval(1000)
        process = os.getpid()
        if os.fork() == 0:
            try:
                os.kill(process, signal.SIGSTOP)
                while Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2][1] != "T":
                    time.sleep(0.001)
                disk.cut(left, forgets, seed=at)
            except BaseException:  # half of a folder would look like a loss
                traceback.print_exc()
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.kill(process, signal.SIGKILL)
                os._exit(0)
        while True:
            pass

    def install():
        disk.install()
        if before is not None:
            before()

    watch = Watch(root, at=at, strike=strike, statements=statements)
    ended = in_child(trials.case.run, root=root, watch=watch, before=install)
    assert ended.code in (None, 0), ended.output
    if ended.code == 0:
        return None
    shutil.rmtree(root)
    left.rename(root)
    return root


def problems_after(trials, at, forgets, **how):
    """Cut the power, check, run again, check; return what is wrong."""
    root = cut_at(trials, at, forgets, **how)
    if root is None:
        return []
    found = damage(root, trials.before, trials.after, trials.images)
    rerun = trials.again(root)
    if rerun.code != 0:
        found.append(f"the next run ended with {rerun.code}: {rerun.output}")
    found += trials.differences(root)
    return [f"{trials.case.name}, {forgets} at {at}: {problem}" for problem in found]


def no_links(*_):
    raise OSError(errno.EXDEV, "Invalid cross-device link")


def another_disk():
    """Patch links away, as between two disks."""
    vars(os)["link"] = no_links


def some_cuts(trials, **how):
    """Cut the power at every tenth system call, each time with another kind of forgetting."""
    root = trials.fresh("count")
    run = in_child(trials.case.run, root=root, watch=Watch(root, statements=False), **how)
    cuts = enumerate(range(EVERY // 2, run.points + 1, EVERY))
    return [p for n, at in cuts for p in problems_after(trials, at, FORGETS[n % 3], **how)]


def every_cut(trials, forgets, **how):
    cuts = range(1, trials.points + 1)
    return [p for at in cuts for p in problems_after(trials, at, forgets, statements=True, **how)]


@pytest.mark.parametrize("name", CASES)
def test_after_a_power_cut_files_are_old_or_new_and_the_next_run_completes(name, workdir):
    assert some_cuts(Trials(CASES[name], workdir / "t")) == []


@pytest.mark.parametrize("name", ON_ANOTHER_DISK)
def test_a_power_cut_damages_no_copy_on_another_disk(name, workdir):
    assert some_cuts(Trials(CASES[name], workdir / "t"), before=another_disk) == []


@pytest.mark.slow
@pytest.mark.parametrize("forgets", FORGETS)
@pytest.mark.parametrize("name", CASES)
def test_a_power_cut_at_every_call_damages_nothing(name, forgets, workdir):
    assert every_cut(Trials(CASES[name], workdir / "t"), forgets) == []


@pytest.mark.slow
@pytest.mark.parametrize("forgets", FORGETS)
@pytest.mark.parametrize("name", ON_ANOTHER_DISK)
def test_a_power_cut_at_every_call_damages_no_copy(name, forgets, workdir):
    trials = Trials(CASES[name], workdir / "t")
    assert every_cut(trials, forgets, before=another_disk) == []


def no_folder_syncs():
    """Patch out what makes new names durable."""
    sync = os.fsync

    def sync_files(descriptor):
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            sync(descriptor)

    vars(os)["fsync"] = sync_files


def no_copy_syncs():
    """Patch out what makes the bytes of copies durable."""
    another_disk()
    vars(file_ops)["sync_file"] = lambda path: None


@pytest.mark.parametrize(
    ("name", "forgets", "before"),
    [
        ("undo", "all", no_folder_syncs),
        ("layout", "all", no_folder_syncs),
        ("copies", "bytes", no_copy_syncs),
        ("layout", "bytes", no_copy_syncs),
    ],
)
def test_the_check_fails_where_a_sync_is_missing(name, forgets, before, workdir):
    trials = Trials(CASES[name], workdir / "t")
    root = trials.fresh("count")
    run = in_child(trials.case.run, root=root, before=before, watch=Watch(root, statements=False))
    cuts = range(run.points, 0, -2)
    assert any(problems_after(trials, at, forgets, before=before) for at in cuts)


def add_a_tag(root):
    return api.rules(root / "imgs", RulesOptions(additional=("best",)))


def test_after_a_power_cut_other_commands_and_undo_work(workdir):
    """A journal ahead of the disk would end every later command with exit code 13."""
    trials = Trials(CASES["resize-in-place"], workdir / "t")
    for at in range(trials.points // 2, trials.points, trials.points // 6):
        root = cut_at(trials, at, "all", statements=True)
        if root is not None:
            assert in_child(add_a_tag, root=root).code == 0
            undone = in_child(lambda r: api.undo(r / "imgs", 1), root=root)
            assert undone.code == 0, undone.output
            assert tree(root / "imgs") == {
                str(Path(name).relative_to("imgs")): what
                for name, what in trials.before.items()
                if name != "imgs"
            }
