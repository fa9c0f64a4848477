"""Any system call may fail: captions stay complete, the exit code is 13, and the next run
completes.
"""

import os
import random
import sqlite3

import pytest

from datasetkit.core.errors import Exit
from datasetkit.core.files import PROJECT
from tests.safety import datasets
from tests.safety.datasets import CASES, caption, small_set
from tests.safety.harness import BROKEN, CALLS, FULL, Case, Trials, Watch, damage, in_child, tree

FAULTS = 8


def calls_of(trials: Trials) -> int:
    """Count the system calls of a run, without sqlite's statements."""
    root = trials.fresh("count")
    return in_child(trials.case.run, root=root, watch=Watch(root, statements=False)).points


def faulty(trials: Trials, at: int, strike) -> list[str]:
    root = trials.fresh("trial")
    watch = Watch(root, at=at, strike=strike, statements=False)
    ended = in_child(trials.case.run, root=root, watch=watch)
    found = (
        []
        if ended.code in (Exit.DONE, Exit.STORAGE)
        else [f"ended with {ended.code}: {ended.output}"]
    )
    found += damage(root, trials.before, trials.after, trials.images)
    rerun = trials.again(root)
    if rerun.code != 0:
        found.append(f"the next run ended with {rerun.code}: {rerun.output}")
    found += trials.differences(root)
    return [f"{trials.case.name}, call {at} failed ({ended.code}): {problem}" for problem in found]


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_a_failing_call_leaves_captions_whole_and_the_next_run_completes(name, workdir):
    trials = Trials(CASES[name], workdir / "t")
    calls = calls_of(trials)
    at = sorted(random.Random(name).sample(range(1, calls + 1), min(FAULTS, calls)))
    assert [p for n in at for p in faulty(trials, n, FULL)] == []


@pytest.mark.slow
@pytest.mark.parametrize("strike", [FULL, BROKEN], ids=["ENOSPC", "EIO"])
@pytest.mark.parametrize("name", CASES)
def test_every_single_call_may_fail(name, strike, workdir):
    trials = Trials(CASES[name], workdir / "t")
    assert [p for n in range(1, calls_of(trials) + 1) for p in faulty(trials, n, strike)] == []


@pytest.mark.long
@pytest.mark.parametrize("name", ["tag", "copies"])
def test_a_plan_that_fails_before_anything_changed_leaves_the_folder_unchanged(name, workdir):
    """The first half of the calls makes temporary files: then the plan is dropped, with its new
    folders. An image whose caption cannot be read is left out, and is not tried here.
    """
    trials = Trials(CASES[name], workdir / "t")

    def full_disk(call, args):
        if not str(args[0]).endswith(".txt"):
            FULL(call, args)

    failed = 0
    for n in range(1, calls_of(trials) // 2, 3):
        root = trials.fresh("trial")
        watch = Watch(root, at=n, strike=full_disk, statements=False)
        ended = in_child(trials.case.run, root=root, watch=watch)
        if ended.code != 0:
            failed += 1
            assert ended.code == Exit.STORAGE
            assert tree(root) == trials.before
    assert failed > 3


def test_captions_are_complete_on_a_disk_that_takes_one_byte_per_write(workdir):
    trials = Trials(CASES["tag"], workdir / "t")
    root = trials.fresh("trial")

    def dribble():
        write = os.write

        def few(descriptor, data):
            return write(descriptor, bytes(data)[: 1 if len(data) < 10_000 else 65_536])

        os.write = few

    assert in_child(trials.case.run, root=root, before=dribble).code == 0
    assert trials.differences(root) == []


@pytest.mark.long
@pytest.mark.parametrize("pages", [1, 4, 12, 16, 20, 24])
def test_a_store_that_cannot_grow_is_a_storage_error(pages, workdir):
    """The journal keeps the old captions, here 30 kB each."""

    def build(root):
        for image in small_set(root / "imgs"):
            caption(image, ", ".join(f"tag {n} of many" for n in range(2000)))

    trials = Trials(Case("tag", build, datasets.tag), workdir / "t")
    root = trials.fresh("trial")

    def small_store():
        connect = sqlite3.connect

        def limited(*args, **options):
            database = connect(*args, **options)
            database.execute(f"PRAGMA max_page_count={pages}")
            return database

        sqlite3.connect = limited

    ended = in_child(trials.case.run, root=root, before=small_store)
    assert ended.code == Exit.STORAGE, ended.output
    assert damage(root, trials.before, trials.after, trials.images) == []
    assert trials.again(root).code == 0
    assert trials.differences(root) == []


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_store_is_an_error_with_a_hint_and_captions_are_kept(seed, workdir):
    small_set(workdir / "imgs")
    datasets.tag(workdir)
    store = workdir / "imgs" / PROJECT / "store.sqlite"
    data = bytearray(store.read_bytes())
    draw = random.Random(seed)
    start = 0 if seed == 0 else draw.randrange(100, len(data) - 4096)
    data[start : start + 4096] = draw.randbytes(4096)
    store.write_bytes(data)
    before = tree(workdir)
    ended = in_child(datasets.rules, root=workdir)
    assert ended.code in (Exit.DONE, Exit.STORAGE), ended.output
    if ended.code == Exit.STORAGE:
        assert "store.sqlite" in ended.output
        assert tree(workdir) == before


@pytest.mark.long
def test_the_harness_reaches_the_calls_that_write(workdir):
    """A harness that saw no writes would pass everything."""
    seen: set[str] = set()
    for name in ("tag", "moves", "copies", "layout"):
        trials = Trials(CASES[name], workdir / name)
        root = trials.fresh("trial")
        seen |= in_child(trials.case.run, root=root, watch=Watch(root, statements=False)).calls
    assert {"open", "write", "fsync", "replace", "rename", "link", "mkdir"} <= seen <= {*CALLS}
