"""Windows, macOS, exFAT and consoles of other encodings, simulated: what docs/platforms.md lists.

Each row of the page's table names the test that simulates it.
"""

import errno
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datasetkit.core import disk_sync, files
from datasetkit.core.errors import StorageError
from tests.cli.conftest import images, write_image

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "platforms.md"
QUICKSTART = ROOT / "examples" / "quickstart"


def test_each_row_of_the_page_names_a_test_that_is_there():
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(named) > 10 and named <= defined, named - defined
    here = {n for n, value in globals().items() if n.startswith("test_") and callable(value)}
    assert here - named == {"test_each_row_of_the_page_names_a_test_that_is_there"}


def windows(code: int, text: str = "held") -> PermissionError:
    """Return what os.replace raises on Windows."""
    error = PermissionError(errno.EACCES, text)
    error.winerror = code  # type: ignore[attr-defined]
    return error


def run_as_windows(*arguments: str, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.as_windows", *arguments],
        cwd=cwd, capture_output=True, encoding="utf-8", timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT), "LOCALAPPDATA": str(cwd / "local"),
                          "HF_HUB_OFFLINE": "1", "HF_HOME": str(cwd / "hub"), **env},
    )  # fmt: skip
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.long
def test_the_quickstart_runs_without_anything_that_only_posix_has(tmp_path):
    project = tmp_path / "project"
    shutil.copytree(QUICKSTART, project, ignore=shutil.ignore_patterns("*.py", "*.md"))
    run_as_windows("run", "dsk.toml", cwd=project)
    assert len(list(project.glob("dataset/train/8_sylvie/*.txt"))) == 24
    base = "pretrained_model_name_or_path=tiny"
    assert "steps" in run_as_windows("train", "dataset", "--dry-run", "--set", base, cwd=project)
    for command in (("doctor",), ("check", "dataset"), ("undo",), ("history",), ("jobs", "list")):
        run_as_windows(*command, cwd=project)


@pytest.mark.parametrize("code", [5, 32, 33])
def test_a_rename_waits_for_a_viewer_that_closes_the_file(code, tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")
    replace = os.replace
    refused: list[object] = []
    monkeypatch.setattr(time, "sleep", lambda seconds: None)

    def held(source, target):
        if len(refused) < 3:
            refused.append(target)
            raise windows(code)
        replace(source, target)

    monkeypatch.setattr(os, "replace", held)
    files.write_atomic(path, b"new")
    assert path.read_text() == "new" and len(refused) == 3


def test_a_viewer_that_keeps_the_file_open_is_named_and_the_next_run_completes(
    here, dsk, monkeypatch
):
    for path in images(here / "imgs", 3):
        path.with_suffix(".txt").write_text("sks, lips\n")
    replace = os.replace
    monkeypatch.setattr(time, "sleep", lambda seconds: None)

    def held(source, target):
        if Path(target).name == "a2.txt":
            raise windows(32, "the process cannot access the file")
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", held)
        ended = dsk("rules", "imgs", "--exclude", "lips")
    assert ended.code == 13 and "hint: close the program that has the file open" in ended.err
    assert dsk("rules", "imgs", "--exclude", "lips").code == 0
    texts = {path.read_text() for path in (here / "imgs").glob("*.txt")}
    assert texts == {"sks\n"} and list((here / "imgs").glob(".dsk-*.tmp")) == []


def test_another_refusal_is_not_waited_for(tmp_path, monkeypatch):
    def denied(source, target):
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits"))
    with pytest.raises(PermissionError):
        files.patiently(denied, tmp_path, tmp_path)


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_where_hard_links_fail_files_are_copied(code, here, dsk, monkeypatch):
    """Across volumes, on exFAT and FAT32, on some network shares."""
    images(here / "photos", 2)
    dsk("resize", "photos", "imgs")
    for path in (here / "imgs").glob("*.*"):
        path.with_suffix(".txt").write_text("sks\n")

    def no_links(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", no_links)
    ended = dsk("layout", "2_sks=imgs")
    assert ended.code == 0, ended.err
    made = list((here / "dataset" / "train" / "2_sks").glob("*.*"))
    assert len(made) == 4 and {path.stat().st_nlink for path in made} == {1}


@pytest.mark.parametrize("code", [errno.EACCES, errno.EINVAL, errno.EBADF])
def test_folders_that_cannot_be_synced_are_no_error(code, tmp_path, monkeypatch):
    open_file = os.open

    def opened(path, flags, *more, **options):
        if Path(path).is_dir():
            raise OSError(code, os.strerror(code))
        return open_file(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", opened)
    disk_sync.sync_folder(tmp_path)
    files.write_atomic(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


def test_a_path_that_is_too_long_for_windows_has_a_next_step(tmp_path):
    path = Path("C:/" + "x" * 250 + ".png")
    error = FileNotFoundError(errno.ENOENT, "the system cannot find the path")
    error.winerror = 3  # type: ignore[attr-defined]
    assert "shorter path" in files.storage_error(path, error).hint
    assert "shorter path" not in files.storage_error(tmp_path / "a", error).hint
    assert isinstance(files.storage_error(path, error), StorageError)


@pytest.mark.long
@pytest.mark.parametrize("encoding", ["cp1252", "cp866", "gbk", "ascii"])
def test_a_console_of_another_encoding_gets_every_line(encoding, here):
    caption = write_image(here / "imgs" / "a.png", 1).with_suffix(".txt")
    caption.write_text("sks, ネコ, naïve, “q”\n", encoding="utf-8")
    for command in (["report", "imgs"], ["rules", "imgs", "--exclude", "ネコ"]):
        done = subprocess.run(
            [sys.executable, "-X", "utf8=0", "-m", "datasetkit", *command],
            cwd=here, capture_output=True, timeout=60,
            env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr


@pytest.mark.long
@pytest.mark.parametrize("term", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_a_console_without_ansi_gets_plain_text(term, here):
    images(here / "imgs", 2)
    done = subprocess.run(
        [sys.executable, "-m", "datasetkit", "check", "imgs"],
        cwd=here, capture_output=True, timeout=60,
        env=os.environ | {"PYTHONPATH": str(ROOT), **term},
    )  # fmt: skip
    assert b"\x1b" not in done.stdout + done.stderr


@pytest.mark.long
def test_two_runs_on_windows_wait_for_each_other(tmp_path):
    """The lock is `msvcrt.locking` there."""
    images(tmp_path / "imgs", 1)
    first = (
        "from tests.as_windows.__main__ import become_windows; become_windows()\n"
        "from pathlib import Path\n"
        "from datasetkit.project.session import open_project, RunContext\n"
        "with open_project(Path('imgs'), RunContext()):\n"
        "    print('locked', flush=True); input()\n"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT), "LOCALAPPDATA": str(tmp_path / "local")}
    with subprocess.Popen(
        [sys.executable, "-c", first], cwd=tmp_path, env=env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        second = subprocess.run(
            [sys.executable, "-m", "tests.as_windows", "rules", "imgs", "--trigger", "sks"],
            cwd=tmp_path, env=env, capture_output=True, text=True,
        )  # fmt: skip
        holder.communicate("\n")
    assert second.returncode == 11, second.stderr
