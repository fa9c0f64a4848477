"""A reader of a caption that is being rewritten sees the old text or the new one."""

import os
import re
import signal
import time
import warnings

import pytest

from datasetkit.core.files import read_existing
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.session import DEFAULT_CONTEXT, open_project

WORDS = 300
_WHOLE = re.compile(rf"(\d+)( \1){{{WORDS - 1}}}\n")


def text_of(version: int) -> str:
    """Return a text in which every part shows which text it belongs to."""
    return " ".join([str(version)] * WORDS) + "\n"


def read_on(paths) -> None:
    """In a child: read until stopped; the exit code is 1 after a partial read, else 0."""
    partial, reads, ended = 0, 0, []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    while not ended:
        for path in paths:
            with path.open(encoding="utf-8") as file:
                partial += _WHOLE.fullmatch(file.read()) is None
            reads += 1
    os._exit(1 if partial else 0 if reads else 2)


def partial_readers(folder, paths, rewrite, rewrites, readers=4) -> int:
    """Return how many readers saw a partial text while `rewrite` ran."""
    pids = []
    for _ in range(readers):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            try:
                read_on(paths)
            finally:
                os._exit(3)
        pids.append(pid)
    try:
        for version in range(1, rewrites + 1):
            rewrite(folder, paths, version)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert set(codes) <= {0, 1}, codes
    return codes.count(1)


def by_journal(folder, paths, version) -> None:
    with open_project(folder, DEFAULT_CONTEXT) as project:
        project.apply(
            Plan(tuple(WriteText(p, text_of(version), read_existing(p)) for p in paths)), "rules"
        )


def plainly(folder, paths, version) -> None:
    for path in paths:
        with path.open("w", encoding="utf-8") as file:
            for piece in text_of(version).split(" "):
                file.write(piece if piece.endswith("\n") else piece + " ")
                file.flush()
        time.sleep(0.0005)


def captions(folder, n):
    folder.mkdir()
    paths = [folder / f"{i}.txt" for i in range(n)]
    for path in paths:
        path.write_text(text_of(0), encoding="utf-8")
    return paths


@pytest.mark.long
def test_readers_never_see_a_partial_caption(workdir):
    paths = captions(workdir / "imgs", 40)
    assert partial_readers(workdir / "imgs", paths, by_journal, 15) == 0


@pytest.mark.slow
def test_300_rewrites_of_200_captions_show_no_partial_text_to_4_readers(workdir):
    paths = captions(workdir / "imgs", 200)
    assert partial_readers(workdir / "imgs", paths, by_journal, 300) == 0


@pytest.mark.long
def test_the_same_readers_see_partial_captions_of_a_writer_that_truncates(workdir):
    paths = captions(workdir / "imgs", 40)
    # Try again if the machine was too busy for a reader to read in that time.
    assert any(partial_readers(workdir / "imgs", paths, plainly, 5) for _ in range(20))
