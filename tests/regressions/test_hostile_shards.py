"""Tar shards that must not be imported: one clear line each, and nothing is changed."""

import io
import shutil
import tarfile

import pytest

from datasetkit.core.errors import InputError
from datasetkit.dataset import shards
from tests.cli.conftest import snapshot
from tests.cli.test_shards import add, png


def of_type(kind, target=""):
    def write(tar):
        member = tarfile.TarInfo("a.png")
        member.type, member.linkname = kind, target
        tar.addfile(member)

    return write


def named(*names):
    def write(tar):
        for name in names:
            add(tar, name, png())

    return write


def claiming(size, type=tarfile.REGTYPE):
    """A header with any size, without the bytes."""

    def write(tar):
        member = tarfile.TarInfo("z.png")
        member.size, member.type = size, type
        tar.fileobj.write(member.tobuf(tarfile.GNU_FORMAT))

    return write


def sparse(tar):
    member = tarfile.TarInfo("z.png")
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    member.pax_headers |= {"GNU.sparse.realsize": str(2**40), "GNU.sparse.name": "z.png"}
    data = b"0\n".ljust(512, b"\0")
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def nested(tar):
    for _ in range(3000):
        member = tarfile.TarInfo("././@LongLink")
        member.type, member.size = tarfile.GNUTYPE_LONGNAME, 4
        tar.fileobj.write(member.tobuf(tarfile.GNU_FORMAT) + b"x\0".ljust(512, b"\0"))
    add(tar, "b.png", png())


HOSTILE = {
    "an absolute name": (named("/etc/a.png"), "is not a path below a folder"),
    "a parent folder": (named("x/../../a.png"), "is not a path below a folder"),
    "a parent folder of Windows": (named("..\\a.png"), "is not a path below a folder"),
    "a drive": (named("C:/a.png"), "is not a path below a folder"),
    "a symbolic link": (of_type(tarfile.SYMTYPE, "/etc/passwd"), "is a symbolic link"),
    "a hard link": (of_type(tarfile.LNKTYPE, "b.png"), "is a hard link"),
    "a device": (of_type(tarfile.CHRTYPE), "is a device"),
    "a block device": (of_type(tarfile.BLKTYPE), "is a device"),
    "a pipe": (of_type(tarfile.FIFOTYPE), "is a pipe"),
    "a sparse file": (sparse, "sparse"),
    "a file twice": (named("a.png", "b.png", "a.png"), "has a.png twice"),
    "two images of one key": (named("a.png", "a.jpg"), "has two images of the sample a"),
    "keys of one name": (named("a.png", "A.png"), "are one name on some disks"),
    "a device name": (named("aux.png"), "is a device name on Windows"),
    "a control character": (named("a\x07b.png"), "contains"),
    "a name that nobody sees": (named("a\u200bb.png"), "contains"),
    "the folder of masks": (named("masks/a.png"), "where dsk keeps masks"),
    "a huge image": (claiming(2**40), "is cut off"),
    "a negative size": (claiming(-512), "is damaged"),
    "a huge name": (claiming(2**34, tarfile.GNUTYPE_LONGNAME), "is damaged"),
    "a huge extended header": (claiming(2**34, tarfile.XHDTYPE), "is damaged"),
    "a negative header": (claiming(-1, tarfile.XHDTYPE), "is damaged"),
    "headers of headers": (nested, "is damaged"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_shard_gives_one_line_and_changes_nothing(kind, here, dsk):
    write, message = HOSTILE[kind]
    with tarfile.open(here / "bad.tar", "w") as tar:
        add(tar, "0.png", png())
        write(tar)
    assert_refused(here, dsk, message)


def assert_refused(here, dsk, message):
    before = snapshot(here)
    ended = dsk("import", "bad.tar", "--out", "out")
    lines = [line for line in ended.err.splitlines() if line.strip()]
    assert ended.code == 2, ended.err
    assert "bad.tar" in lines[0] and message in " ".join(ended.err.split())
    assert len(lines) <= 4 and "Traceback" not in ended.err
    assert snapshot(here) == before


def test_a_shard_that_ends_anywhere_is_cut_off_or_damaged(tmp_path):
    with tarfile.open(tmp_path / "whole.tar", "w") as tar:
        for n in range(3):
            add(tar, f"{n}.png", png(n))
            add(tar, f"{n}.txt", b"word\n")
        end = tar.offset
    data = (tmp_path / "whole.tar").read_bytes()
    assert len(shards.read_samples([tmp_path / "whole.tar"]).samples) == 3
    cut = tmp_path / "cut.tar"
    for length in range(0, end + 1, 128):
        cut.write_bytes(data[:length])
        with pytest.raises(InputError) as error:
            shards.read_samples([cut])
        assert str(error.value).startswith(str(cut))


@pytest.mark.parametrize("at", [0, 100, 124, 148, 156, 1100, 1200])
def test_a_damaged_header_ends_the_import(at, here, dsk):
    with tarfile.open(here / "bad.tar", "w") as tar:
        add(tar, "0.png", png())
        add(tar, "1.png", png())
    data = bytearray((here / "bad.tar").read_bytes())
    data[at] ^= 0x55
    (here / "bad.tar").write_bytes(data)
    if at in range(512, 1024):
        return
    assert_refused(here, dsk, "damaged")


@pytest.mark.parametrize(
    ("name", "start", "hint"),
    [("bad.tar", b"\x1f\x8b\x08", "gunzip"), ("bad.tar", b"\x28\xb5\x2f\xfd", "unzstd")],
)
def test_a_compressed_shard_is_not_unpacked(name, start, hint, here, dsk):
    (here / name).write_bytes(start + bytes(600))
    assert_refused(here, dsk, f"{hint} bad.tar")


@pytest.mark.parametrize("data", [b"", b"no tar at all", bytes(10_240), b"\x89PNG" * 400])
def test_a_file_that_is_no_tar_is_named(data, here, dsk):
    (here / "bad.tar").write_bytes(data)
    assert_refused(here, dsk, "bad.tar")


def test_a_text_that_is_too_large_is_refused(here, dsk):
    with tarfile.open(here / "bad.tar", "w") as tar:
        add(tar, "0.png", png())
        add(tar, "0.txt", bytes(2_000_000))
    assert_refused(here, dsk, "has 2,000,000 bytes")


def test_samples_of_two_shards_with_one_key_are_named(here, dsk):
    for name in ("s/1.tar", "s/2.tar"):
        (here / "s").mkdir(exist_ok=True)
        with tarfile.open(here / name, "w") as tar:
            add(tar, "a.png", png())
    before = snapshot(here)
    ended = dsk("import", "s", "--from", "webdataset", "--out", "out")
    assert ended.code == 2 and "both have a sample a" in ended.err and "--out" in ended.err
    assert snapshot(here) == before
    assert dsk("import", "s/1.tar", "--out", "out/1").code == 0
    assert dsk("import", "s/2.tar", "--out", "out/2").code == 0


def test_a_full_disk_is_known_before_anything_is_written(here, dsk, monkeypatch):
    with tarfile.open(here / "s.tar", "w") as tar:
        add(tar, "a.png", png())
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    ended = dsk("import", "s.tar", "--out", "out")
    assert ended.code == 13 and "the images take" in ended.err
    assert not list((here / "out").glob("*.png"))
