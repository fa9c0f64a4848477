"""A full disk or a read-only folder is found before the first inference, and nothing is
truncated.
"""

import contextlib
import gc
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from datasetkit import api
from datasetkit.captions import vocabulary
from datasetkit.core.errors import Exit, StorageError
from datasetkit.core.files import require_writable
from tests.safety import datasets
from tests.safety.datasets import CASES, small_set
from tests.safety.harness import in_child, strays, tree
from tests.safety.tagger import BEGUN


@pytest.fixture
def small_disk(tmp_path):
    """A separate disk of 8 MB."""
    where = tmp_path / "disk"
    where.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(where)], capture_output=True
        )
    except OSError as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    if done.returncode:
        pytest.skip(f"no disk can be mounted here (it needs root): {done.stderr.decode().strip()}")
    yield where
    gc.collect()  # an error keeps its frames alive, with sqlite's connection
    left_open: list[str] = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # another thread has closed it meanwhile
            left_open.append(str(descriptor.readlink()))
    assert [name for name in left_open if name.startswith(str(where))] == []
    subprocess.run(["umount", str(where)], check=True)


def fill(disk: Path, leave: int) -> None:
    """Fill a disk until only some bytes are free."""
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(65536)):
            pass
    size = (disk / "filler").stat().st_size
    os.truncate(disk / "filler", max(0, size - leave) // 4096 * 4096)


@pytest.mark.long
@pytest.mark.parametrize("leave", [0, 4096, 100_000])
@pytest.mark.parametrize("known", [False, True], ids=["new project", "known project"])
def test_a_full_disk_is_found_before_the_first_inference(leave, known, small_disk):
    small_set(small_disk / "imgs")
    if known:
        datasets.rules(small_disk)
        small_set(small_disk / "imgs", 5)
    fill(small_disk, leave)
    before = tree(small_disk)
    with pytest.raises(StorageError) as raised:
        datasets.tag(small_disk)
    assert raised.value.exit_code == Exit.STORAGE
    assert BEGUN == []
    assert tree(small_disk) == before
    (small_disk / "filler").unlink()
    datasets.tag(small_disk)
    assert (small_disk / "imgs" / "photo 6.txt").read_text(encoding="utf-8").startswith("sks, ")
    assert strays(small_disk) == []


@pytest.mark.long
@pytest.mark.parametrize(
    "verb",
    [
        "rules",
        "import",
        "check",
        "resize",
        "resize-in-place",
        "cutout",
        "faces-crop",
        "rename",
        "layout",
    ],
)
def test_a_full_disk_loses_nothing_and_the_next_run_with_space_completes(verb, small_disk):
    CASES[verb].build(small_disk)
    fill(small_disk, 40_000)
    before = tree(small_disk)
    ended = in_child(CASES[verb].run, root=small_disk)
    assert ended.code in (Exit.DONE, Exit.STORAGE), ended.output
    now = tree(small_disk)
    makes_new_files = verb in ("resize", "cutout", "faces-crop", "layout")
    if ended.code == Exit.STORAGE and not makes_new_files:
        assert now == before
    (small_disk / "filler").unlink()
    assert in_child(CASES[verb].run, root=small_disk).code == 0
    assert strays(small_disk) == []


def as_nobody(action, *, may_infer=False):
    """Run an action without root's rights, after importing what it imports lazily."""

    def act(root):
        vocabulary.load()
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        BEGUN.clear()
        try:
            action(root)
        finally:
            if BEGUN and not may_infer:
                raise RuntimeError("inference began")

    return act


@pytest.fixture
def open_place():
    """A folder that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give its rights up")
@pytest.mark.parametrize(
    "verb",
    ["tag", "rules", "rename", "resize", "resize-in-place", "cutout", "faces-erase", "check"],
)
def test_a_read_only_folder_is_found_before_any_work(verb, open_place):
    small_set(open_place / "imgs")
    (open_place / "imgs").chmod(0o555)
    before = tree(open_place)
    ended = in_child(as_nobody(CASES[verb].run), root=open_place)
    assert ended.code == Exit.STORAGE, ended.output
    assert "check the permissions" in ended.output
    assert tree(open_place) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give its rights up")
def test_a_read_only_project_can_be_read(open_place):
    """A dry run, the history and a resize into another folder write nothing into a read-only
    folder.
    """
    small_set(open_place / "imgs")
    datasets.tag(open_place)
    out = open_place / "out"
    out.mkdir()
    out.chmod(0o777)
    for path in (open_place / "imgs" / ".dsk").iterdir():
        path.chmod(0o444)
    (open_place / "imgs" / ".dsk").chmod(0o555)
    (open_place / "imgs").chmod(0o555)

    def look(root):
        assert api.history(open_place / "imgs")
        api.tag(open_place / "imgs", datasets.TAG, api.RunContext(dry_run=True))
        api.resize(open_place / "imgs", out / "small", api.ResizeOptions(max=32))

    ended = in_child(as_nobody(look, may_infer=True), root=open_place)
    assert ended.code == 0, ended.output


def test_a_caption_keeps_its_permissions(workdir):
    images = small_set(workdir / "imgs")
    caption = images[0].with_suffix(".txt")
    caption.chmod(0o640)
    datasets.rules(workdir)
    assert caption.stat().st_mode & 0o777 == 0o640


def test_the_probe_leaves_nothing(workdir):
    require_writable(workdir)
    assert list(workdir.iterdir()) == []
