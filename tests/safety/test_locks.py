"""Two runs at once in one project: the second waits or ends with 11, and no caption is mixed."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from datasetkit import api
from datasetkit.cli.main import run
from datasetkit.core.errors import DskError, Exit, Locked, StorageError
from datasetkit.core.progress import SilentReporter
from datasetkit.project import jobs, locks, session
from datasetkit.project.locks import lock
from datasetkit.project.session import RunContext
from tests.safety import datasets
from tests.safety.datasets import FINDING, TAG, small_set
from tests.safety.harness import digest, in_child, strays, tree
from tests.safety.tagger import NAME

CHILD = """
import os, sys, time
from pathlib import Path
Path(sys.argv[1], "new").write_text(str(os.getpid()))
Path(sys.argv[1], "new").rename(Path(sys.argv[1], "pid"))
time.sleep(60)
"""
DYING_RUN = f"""
CHILD = {CHILD!r}
import os, subprocess, sys, time
from pathlib import Path
from datasetkit.project.locks import lock
root = Path(sys.argv[1])
with lock(root):
    if sys.argv[2] and os.fork() == 0:
        exec(CHILD)
    elif not sys.argv[2]:
        subprocess.Popen([sys.executable, "-c", CHILD, *sys.argv[1:]], close_fds=False)
    while not (root / "pid").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), 9)
"""


def test_a_second_run_ends_with_11_and_changes_nothing(workdir, capsys):
    images = small_set(workdir / "imgs")
    before = [digest(p) for p in images]
    with lock(workdir / "imgs"):
        ended = in_child(datasets.tag, root=workdir)
        assert ended.code == Exit.LOCKED
        assert "--wait" in ended.output
    assert [digest(p) for p in images] == before
    assert not (workdir / "imgs" / "photo 6.txt").exists()


def test_a_thread_waits_for_another_one_of_its_process(workdir, monkeypatch):
    """The page reads a dataset while somebody clicks: that is no other run."""
    root = workdir / "imgs"
    small_set(root)
    held, release = threading.Event(), threading.Event()

    def read() -> None:
        with lock(root):
            held.set()
            release.wait(30)

    reader = threading.Thread(target=read)
    reader.start()
    assert held.wait(30)
    threading.Timer(0.3, release.set).start()
    with lock(root):  # after the reader
        assert release.is_set()
        began = time.monotonic()
        with pytest.raises(Locked), lock(root):
            pass  # a thread never waits for itself
        assert time.monotonic() - began < 5
    reader.join()
    release.clear()
    held.clear()
    monkeypatch.setattr(locks, "OWN_SECONDS", 0.1)
    reader = threading.Thread(target=read)
    reader.start()
    assert held.wait(30)
    with pytest.raises(Locked), lock(root):
        pass
    release.set()
    reader.join()
    with lock(root):
        pass


@pytest.mark.parametrize(
    "verb", ["tag", "rules", "rename", "resize --in-place", "check --fix", "undo"]
)
def test_every_changing_command_respects_the_lock(verb, workdir, capsys):
    small_set(workdir / "imgs")
    datasets.tag(workdir)
    name, *switches = verb.split()
    arguments = {"tag": ["--tagger", NAME], "rules": ["--trigger", "x"], "rename": ["p"]}.get(
        name, switches
    )
    with lock(workdir / "imgs"):
        assert run([name, str(workdir / "imgs"), *arguments]) == Exit.LOCKED
    assert "another dsk run" in capsys.readouterr().err


@pytest.mark.parametrize("name", FINDING)
def test_subjects_and_faces_are_searched_under_the_lock_of_the_output_folder(
    name, workdir, capsys, monkeypatch
):
    monkeypatch.chdir(workdir)
    small_set(workdir / "imgs")
    locked = workdir / ("imgs" if name == "faces list" else "out")
    locked.mkdir(exist_ok=True)
    with lock(locked):
        before = tree(workdir)
        assert run(FINDING[name]) == Exit.LOCKED
        assert "another dsk run" in capsys.readouterr().err
        assert tree(workdir) == before
        assert run([*FINDING[name], "--dry-run"]) == Exit.DONE
        assert tree(workdir) == before
    assert run(FINDING[name]) == Exit.DONE


def test_wait_waits_until_the_other_run_has_ended(workdir):
    small_set(workdir / "imgs")
    released: list[float] = []

    def hold():
        with lock(workdir / "imgs"):
            held.set()
            time.sleep(0.4)
            released.append(time.monotonic())

    held = threading.Event()
    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    api.rules(workdir / "imgs", api.RulesOptions(trigger=("sks",)), RunContext(wait=True))
    assert released and time.monotonic() >= released[0]
    other.join()


@contextlib.contextmanager
def held_by_another_process(root):
    """Hold the lock of a project in a process that ends once it may."""
    code = (
        "import sys; from pathlib import Path; from datasetkit.project.locks import lock\n"
        "with lock(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    try:
        yield other
    finally:
        assert other.stdin is not None
        other.stdin.close()
        other.wait()
        other.stdout.close()


class Phases(SilentReporter):
    def __init__(self, then: Callable[[], None]) -> None:
        self.names: list[str] = []
        self._then = then

    def phase(self, name: str) -> None:
        self.names.append(name)
        if "waiting" in name:
            self._then()


def test_a_job_of_the_queue_waits_for_its_project_and_says_so(workdir, monkeypatch):
    """Nobody is there to start it again: with another one of a terminal it would only be failed."""
    small_set(workdir / "imgs")
    rules = api.RulesOptions(trigger=("sks",))
    with held_by_another_process(workdir / "imgs") as other:
        with pytest.raises(Locked):
            api.rules(workdir / "imgs", rules)
        monkeypatch.setattr(jobs, "is_from_queue", lambda: True)
        reporter = Phases(other.stdin.close)
        changed = api.rules(workdir / "imgs", rules, RunContext(reporter=reporter))
    assert changed.entry is not None
    assert "waiting for another dsk run in this project" in reporter.names


def test_a_look_at_the_lock_does_not_end_another_command(workdir, monkeypatch):
    """The page asks all the time whether a project is locked, and holds the lock for a moment."""
    small_set(workdir / "imgs")
    tries = []
    with held_by_another_process(workdir / "imgs") as other:

        def slept(seconds: float) -> None:
            tries.append(seconds)
            other.stdin.close()
            other.wait()

        monkeypatch.setattr(time, "sleep", slept)
        with lock(workdir / "imgs"):
            assert tries, "it was not locked"
        monkeypatch.undo()


@pytest.mark.parametrize("verb", ["tag", "import"])
def test_after_waiting_the_new_names_of_the_other_run_are_used(verb, workdir):
    images = small_set(workdir / "imgs")
    for n, image in enumerate(images if verb == "import" else ()):
        image.with_name(image.name + ".txt").write_text(f"of {n}\n", encoding="utf-8")
    held = threading.Event()

    def swap():
        """Rename as another run does, under the lock."""
        with lock(workdir / "imgs"):
            held.set()
            time.sleep(0.3)
            for n, image in enumerate(images):
                for path in (
                    image,
                    image.with_name(image.name + ".txt"),
                    image.with_suffix(".txt"),
                ):
                    if path.exists():
                        path.rename(path.with_name(path.name.replace(image.stem, f"p_{5 - n}")))

    other = threading.Thread(target=swap)
    other.start()
    held.wait()
    calls: dict[str, Callable[[RunContext], object]] = {
        "tag": lambda context: api.tag(workdir / "imgs", TAG, context),
        "import": lambda context: api.import_captions(
            workdir / "imgs", api.ImportOptions(existing="overwrite"), context
        ),
    }
    result = calls[verb](RunContext(wait=True))
    other.join()
    assert getattr(result, "failed", ()) == ()
    texts = {p.stem: p.read_text(encoding="utf-8") for p in (workdir / "imgs").glob("p_?.txt")}
    if verb == "import":
        assert texts == {f"p_{5 - n}": f"of {n}\n" for n in range(6)}
    else:
        assert set(texts) == {f"p_{n}" for n in range(6)}


def test_the_lock_of_a_killed_run_is_free(workdir):
    small_set(workdir / "imgs")

    def die(root):
        with lock(workdir / "imgs"):
            os.kill(os.getpid(), 9)

    assert in_child(die, root=workdir).code is None
    datasets.tag(workdir)


@pytest.mark.parametrize("forked", [False, True])
def test_children_of_a_killed_run_do_not_hold_its_lock(forked, workdir):
    """A viewer or a worker that a run started may outlive it."""
    run = subprocess.Popen([sys.executable, "-c", DYING_RUN, str(workdir), "fork" * forked])
    run.wait()
    child = int((workdir / "pid").read_text())
    try:
        os.kill(child, 0)  # it is alive
        with lock(workdir):
            pass
    finally:
        os.kill(child, 9)


def test_lock_that_cannot_be_written_is_a_storage_error(workdir):
    (workdir / ".dsk" / "lock").mkdir(parents=True)
    for wait in (False, True):
        with pytest.raises(StorageError, match="cannot write"), lock(workdir, wait=wait):
            pass


def test_lock_file_remains_and_is_used_again(workdir):
    for _ in range(2):
        with lock(workdir), pytest.raises(Locked, match="another dsk run"), lock(workdir):
            pass
        assert (workdir / ".dsk" / "lock").is_file()


def test_a_dry_run_takes_no_lock(workdir):
    small_set(workdir / "imgs")
    with lock(workdir / "imgs"):
        assert api.tag(workdir / "imgs", datasets.TAG, RunContext(dry_run=True)).changes
        with pytest.raises(Locked):
            datasets.tag(workdir)


@pytest.mark.parametrize("turn", range(3))
def test_captions_are_never_mixed_even_without_the_lock(turn, workdir, monkeypatch):
    """Two runs write the same captions at the same time: one may fail, but no caption may be a
    mixture.
    """
    images = small_set(workdir / "imgs")
    monkeypatch.setattr(session, "lock", lambda root, *, wait=False: contextlib.nullcontext())
    versions = ["first " * 400, "second " * 400]

    def rewrite(words):
        for n in range(6):
            options = api.RulesOptions(
                replace=(f"{versions[0].strip()}={words}{n}",), trigger=(f"{words.strip()} {n}",)
            )
            with contextlib.suppress(DskError):
                api.rules(workdir / "imgs", options)

    threads = [threading.Thread(target=rewrite, args=(words,)) for words in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for image in images[:3]:
        tags = image.with_suffix(".txt").read_text(encoding="utf-8")
        assert tags.endswith("lips, smile\n")
        assert "by hand" in tags
    monkeypatch.undo()
    api.rules(workdir / "imgs", api.RulesOptions(trigger=("last",)))
    assert strays(workdir) == []
