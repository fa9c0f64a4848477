"""Uploads: what is left out and why, what is never lost or doubled, and hostile files."""

from __future__ import annotations

import io
import os
import stat
import struct
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasetkit import api
from datasetkit.core.errors import InputError, StorageError
from datasetkit.core.files import PROJECT
from datasetkit.project.session import RunContext
from datasetkit.verbs.studio import uploads
from datasetkit.verbs.studio.upload_names import SentFile, sent_files
from datasetkit.verbs.studio.uploads import Receiver, Upload, UploadImport

CONTEXT = RunContext()


def png(shade: int = 0, size: tuple[int, int] = (16, 16)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(file, "PNG")
    return file.getvalue()


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(file, "JPEG")
    return file.getvalue()


def archive(files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return file.getvalue()


def begin(root: Path, files: Mapping[str, bytes], to: str = "images") -> Upload:
    sent = [SentFile(path, len(data), 1e9) for path, data in files.items()]
    state = uploads.begin(root, root, to, sent)
    upload = uploads.find(root, root, state["id"])
    assert upload is not None
    return upload


def send(upload: Upload, files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """Send all files that are waited for; return how each was judged."""
    judged = {}
    for row in uploads.state(upload)["files"]:
        if row["state"] == "wanted":
            receiver = Receiver(upload, row["n"])
            receiver.write(files[row["path"]])
            judged[row["path"]] = receiver.finish()
    return judged


def upload(root: Path, files: Mapping[str, bytes], to: str = "images") -> UploadImport:
    begun = begin(root, files, to)
    send(begun, files)
    return uploads.finish(begun, CONTEXT)


def below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and PROJECT not in path.relative_to(folder).parts
    }


def reasons(result: UploadImport) -> dict[str, str]:
    return {item.path: item.kind for item in result.left_out}


def test_images_and_their_captions_appear_whole_and_undo_takes_them_back(tmp_path):
    files = {"a.png": png(1), "a.txt": b"sks\n", "sub/b.jpg": jpeg(), "sub/masks/b.png": png(9)}
    begun = begin(tmp_path, files)
    send(begun, files)
    assert below(tmp_path) == {}
    result = uploads.finish(begun, CONTEXT)
    assert below(tmp_path / "images") == files
    assert result.images == 2 and result.left_out == ()
    assert (tmp_path / "images" / "a.png").stat().st_mtime == 1e9
    assert not begun.folder.exists()
    api.undo(tmp_path)
    assert below(tmp_path) == {} and not (tmp_path / "images").exists()


def test_all_that_is_left_out_is_listed_with_a_reason_before_it_is_sent(tmp_path):
    files = {
        "a.png": png(1), "Thumbs.db": b"x", ".hidden.png": png(2), "clip.mp4": b"x", "b.cr2": b"x",
        "alone.txt": b"x", "empty.png": b"", "con.png": png(), "a:b.png": png(), "dot..png.": png(),
        "/".join("123456789") + "/d.png": png(), "@eaDir/a.png": png(), "model.safetensors": b"x",
        "n" * 201 + ".png": png(), "old.rar": b"x",
    }  # fmt: skip
    begun = begin(tmp_path, files)
    rows = {row["path"]: row for row in uploads.state(begun)["files"]}
    assert {path for path, row in rows.items() if row["state"] == "wanted"} == {"a.png"}
    assert {path: row["kind"] for path, row in rows.items() if "kind" in row} == {
        "Thumbs.db": "system", ".hidden.png": "hidden", "clip.mp4": "video", "b.cr2": "camera raw",
        "alone.txt": "alone", "empty.png": "empty", "con.png": "name", "a:b.png": "name",
        "dot..png.": "name", "1/2/3/4/5/6/7/8/9/d.png": "depth", "@eaDir/a.png": "system",
        "model.safetensors": "other", "n" * 201 + ".png": "name", "old.rar": "archive",
    }  # fmt: skip
    assert all(row["reason"] for row in rows.values() if "kind" in row)
    with pytest.raises(InputError, match="is left out"):
        Receiver(begun, rows["clip.mp4"]["n"])


def test_the_content_decides_and_never_the_suffix(tmp_path):
    files = {
        "a.png": png(1), "video.png": b"\x1aE\xdf\xa3" + bytes(99), "page.jpg": b"<svg onload=...>",
        "photo": jpeg(), "b.dat": png(3), "c.png": png(4)[:30], "a.txt": b"\xff\xfe\0s",
        "script.png": b"MZ" + bytes(99), "z.png": archive({}) + b"PK",
    }  # fmt: skip
    begun = begin(tmp_path, files)
    judged = send(begun, files)
    result = uploads.finish(begun, CONTEXT)
    assert set(below(tmp_path / "images")) == {"a.png", "photo.jpg", "b.dat.png"}
    assert reasons(result) == {
        "video.png": "video", "page.jpg": "other", "c.png": "damaged", "a.txt": "other",
        "script.png": "other", "z.png": "other",
    }  # fmt: skip
    assert judged["video.png"]["state"] == "left-out" and judged["video.png"]["reason"]
    assert result.renamed == {"photo": "photo.jpg", "b.dat": "b.dat.png"}


def test_two_files_of_one_name_are_both_imported_with_their_captions(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(png(1))
    (tmp_path / "images" / "a.txt").write_bytes(b"old\n")
    result = upload(tmp_path, {"a.png": png(2), "a.txt": b"new\n", "A.PNG": png(3)})
    assert below(tmp_path / "images") == {
        "a.png": png(1), "a.txt": b"old\n", "a-2.png": png(2), "a-2.txt": b"new\n",
        "A-3.PNG": png(3),
    } or below(tmp_path / "images") == {
        "a.png": png(1), "a.txt": b"old\n", "A-2.PNG": png(3), "A-2.txt": b"new\n",
        "a-3.png": png(2),
    }  # fmt: skip
    assert len(result.renamed) == 3


def test_two_images_with_one_stem_do_not_share_a_caption(tmp_path):
    upload(tmp_path, {"a.jpg": jpeg(), "a.png": png(2), "a.jpg.txt": b"of the jpeg\n"})
    assert set(below(tmp_path / "images")) == {"a.jpg", "a.jpg.txt", "a-2.png"}


def test_what_is_there_with_the_same_bytes_is_not_imported_again(tmp_path):
    files = {"a.png": png(1), "a.txt": b"sks\n"}
    upload(tmp_path, files)
    again = upload(tmp_path, {**files, "b.png": png(2)})
    assert set(again.present) == {"a.png", "a.txt"} and again.files == ("b.png",)
    other = upload(tmp_path, {"a.png": png(1), "a.txt": b"other\n"})
    assert below(tmp_path / "images")["a.txt"] == b"sks\n"
    assert reasons(other) == {"a.txt": "taken"} and other.entry is None


def test_a_page_that_was_reloaded_goes_on_with_the_same_upload(tmp_path):
    files = {f"{n}.png": png(n) for n in range(5)}
    begun = begin(tmp_path, files)
    receiver = Receiver(begun, 0)
    receiver.write(files["0.png"])
    receiver.finish()
    cut_off = Receiver(begun, 1)
    cut_off.write(files["1.png"][:10])
    cut_off._file.close()  # as the system does with a killed server's
    # A new server, and the same files dropped again.
    again = begin(tmp_path, files)
    assert again.id == begun.id
    assert uploads.state(again)["waiting"] == 4
    assert [u.id for u in uploads.open_uploads(tmp_path, tmp_path)] == [begun.id]
    with pytest.raises(InputError, match="4 files have not arrived"):
        uploads.finish(again, CONTEXT)
    send(again, files)
    uploads.finish(again, CONTEXT)
    assert below(tmp_path / "images") == files


@pytest.mark.parametrize("cut", ["after the plan", "before the plan"])
def test_an_import_that_was_killed_is_completed_and_nothing_is_doubled(cut, tmp_path, monkeypatch):
    files = {f"{n}.png": png(n) for n in range(5)}
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.png").write_bytes(png(99))
    begun = begin(tmp_path, files)
    send(begun, files)

    class Killed(BaseException):
        pass

    def kill(*_: object, **__: object) -> None:
        raise Killed

    where = "discard" if cut == "after the plan" else "open_project"
    with monkeypatch.context() as patch:
        patch.setattr(uploads, where, kill)
        with pytest.raises(Killed):
            uploads.finish(begun, CONTEXT)
    reloaded = uploads.find(tmp_path, tmp_path, begun.id)
    assert reloaded is not None
    uploads.finish(reloaded, CONTEXT)
    assert below(tmp_path / "images") == {
        "0.png": png(99), "0-2.png": png(0), **{f"{n}.png": png(n) for n in range(1, 5)}
    }  # fmt: skip
    assert uploads.find(tmp_path, tmp_path, begun.id) is None


@pytest.mark.parametrize("change", [b"", b"x"], ids=["less", "more"])
def test_a_file_of_another_size_than_announced_does_not_arrive(change, tmp_path):
    files = {"a.png": png(1)}
    begun = begin(tmp_path, files)
    with pytest.raises(InputError):
        receiver = Receiver(begun, 0)
        try:
            receiver.write(files["a.png"][:-1] if not change else files["a.png"] + change)
            receiver.finish()
        finally:
            receiver.abort()
    assert uploads.state(begun)["waiting"] == 1
    assert not list(begun.folder.glob("*.part"))
    send(begun, files)
    assert uploads.finish(begun, CONTEXT).images == 1


def test_an_abandoned_upload_is_removed_after_a_day_and_another_one_is_not(tmp_path):
    old, new = begin(tmp_path, {"a.png": png(1)}), begin(tmp_path, {"b.png": png(2)})
    yesterday = time.time() - 86_500
    for path in (old.folder / "upload.json", old.folder):
        os.utime(path, (yesterday, yesterday))
    assert uploads.remove_abandoned(tmp_path) == 1
    assert not old.folder.exists() and new.folder.exists()


def test_an_upload_that_is_cancelled_leaves_nothing(tmp_path):
    files = {"a.png": png(1)}
    begun = begin(tmp_path, files)
    send(begun, files)
    uploads.discard(begun)
    assert not begun.folder.exists() and below(tmp_path) == {}


@pytest.mark.long
def test_more_than_the_disk_holds_is_refused_before_anything_is_sent(tmp_path):
    with pytest.raises(StorageError, match="GB free"):
        uploads.begin(tmp_path, tmp_path, "images", [SentFile("a.png", 2**26)] * 20_000_0)
    assert not list((tmp_path / PROJECT / "uploads").iterdir())


def test_the_number_of_open_uploads_has_a_limit(tmp_path):
    for n in range(16):
        begin(tmp_path, {f"{n}.png": png(n)})
    with pytest.raises(InputError, match="16 uploads"):
        begin(tmp_path, {"17.png": png(17)})


NO_FILES: list[Any] = [
    None, [], {}, "a.png", [None], [{}], [{"path": 1, "size": 1}], [{"path": "a"}],
    [{"path": "a", "size": True}], [{"path": "a", "size": -1}], [{"path": "a", "size": 2**60}],
    [{"path": "a", "size": "1"}], [{"path": "a.png", "size": 1}] * 20_001,
]  # fmt: skip
PATHS = [
    "", ".", "..", "../a.png", "a/../../b.png", "/etc/passwd", "/a.png", "a//b.png", "a/./b.png",
    "a\0.png", "a/..", "x" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("value", NO_FILES, ids=lambda value: str(value)[:20])
def test_a_list_that_is_none_is_refused(value):
    with pytest.raises(InputError):
        sent_files(value)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ascii(path)[:20])
def test_a_path_that_leads_elsewhere_is_refused(path, tmp_path):
    with pytest.raises(InputError, match="not a path below a folder"):
        sent_files([{"path": path, "size": 1}])
    if path:
        with pytest.raises(InputError):
            uploads.begin(tmp_path, tmp_path, path, [SentFile("a.png", 9)])


@pytest.mark.parametrize("to", [".dsk", ".git/hooks", "link", "link/x", "con", "a\\b", "file"])
def test_a_folder_that_is_none_of_images_is_refused(to, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    project = tmp_path / "project"
    elsewhere.mkdir()
    project.mkdir()
    (project / "link").symlink_to(elsewhere)
    (project / "file").touch()
    with pytest.raises(InputError):
        uploads.begin(project, project, to, [SentFile("a.png", 9)])
    assert list(elsewhere.iterdir()) == []


def test_a_folder_that_became_a_link_during_the_upload_is_not_followed(tmp_path):
    elsewhere, project = tmp_path / "elsewhere", tmp_path / "project"
    elsewhere.mkdir()
    project.mkdir()
    files = {"sub/a.png": png(1)}
    begun = begin(project, files)
    send(begun, files)
    (project / "images").mkdir()
    (project / "images" / "sub").symlink_to(elsewhere)
    with pytest.raises(InputError):
        uploads.finish(begun, CONTEXT)
    assert list(elsewhere.iterdir()) == []


def test_links_in_a_staged_upload_of_somebody_else_are_not_followed(tmp_path):
    """The project came with an upload whose files are links."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(5))
    project = tmp_path / "project"
    project.mkdir()
    files = {"a.png": png(5)}
    begun = begin(project, files)
    (begun.folder / "0").symlink_to(secret)
    assert uploads.state(begun)["waiting"] == 1
    with pytest.raises(InputError):
        uploads.finish(begun, CONTEXT)


@pytest.mark.parametrize(
    "record",
    ["", "[]", "{}", '{"to": "../x", "files": [["a.png", 1, 0]], "left_out": []}', "[" * 9999,
     '{"to": "a", "files": [["../a.png", 1, 0]], "left_out": []}',
     '{"to": "a", "files": [["a.png", 1]], "left_out": []}'],
)  # fmt: skip
def test_the_record_of_somebody_else_is_read_as_a_request(record, tmp_path):
    folder = tmp_path / PROJECT / "uploads" / ("0" * 16)
    folder.mkdir(parents=True)
    (folder / "upload.json").write_text(record)
    with pytest.raises(InputError):
        uploads.find(tmp_path, tmp_path, "0" * 16)
    assert uploads.open_uploads(tmp_path, tmp_path) == []


@pytest.mark.parametrize(
    "names",
    ['{"targets": {"0": "../../x.png"}, "present": [], "renamed": {}}',
     '{"targets": {"0": "/etc/x.png"}, "present": [], "renamed": {}}',
     '{"targets": {"../../../secret": "x.png"}, "present": [], "renamed": {}}', "[]", "no"],
)  # fmt: skip
def test_planned_names_of_somebody_else_lead_nowhere(names, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "secret").write_bytes(png(6))
    files = {"a.png": png(5)}
    begun = begin(project, files)
    send(begun, files)
    (begun.folder / "names.json").write_text(names)
    uploads.finish(begun, CONTEXT)
    assert below(project / "images") == files
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project", "secret"]


# ---- zip archives


def zip_upload(root: Path, data: bytes) -> UploadImport:
    return upload(root, {"photos.zip": data})


def test_an_archive_is_unpacked_like_a_dropped_folder(tmp_path):
    inside = {"a.png": png(1), "a.txt": b"sks\n", "sub/b.jpg": jpeg(), "__MACOSX/a.png": png(2),
              "notes.md": b"x", "inner.zip": archive({"c.png": png(3)})}  # fmt: skip
    result = zip_upload(tmp_path, archive(inside))
    assert set(below(tmp_path / "images")) == {"a.png", "a.txt", "sub/b.jpg"}
    assert reasons(result) == {
        "__MACOSX/a.png": "system", "notes.md": "other", "inner.zip": "archive"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["../../evil.png", "/etc/evil.png", "a/../../evil.png", "."])
def test_an_entry_that_leads_out_of_the_folder_is_left_out(name, tmp_path):
    (tmp_path / "project").mkdir()
    result = zip_upload(tmp_path / "project", archive({name: png(1), "a.png": png(2)}))
    assert set(below(tmp_path)) == {"project/images/a.png"}
    assert list(reasons(result).values()) == ["name"]


def test_a_link_in_an_archive_is_left_out(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(link, "/etc/passwd")
        packed.writestr("a.png", png(1))
    assert reasons(zip_upload(tmp_path, file.getvalue())) == {"link.png": "link"}


def test_an_entry_that_is_packed_a_thousand_times_is_left_out(tmp_path):
    bomb = {"bomb.bmp": bytes(50_000_000), **{f"{n}.png": os.urandom(60_000) for n in range(9)}}
    result = zip_upload(tmp_path, archive({**bomb, "a.png": png(1)}))
    assert reasons(result)["bomb.bmp"] == "ratio"
    assert set(below(tmp_path / "images")) == {"a.png"}


def test_entries_that_share_their_bytes_are_refused_as_a_whole(tmp_path):
    """A directory in which a thousand entries name the same megabyte (Fifield, 2019)."""
    data = bytearray(archive({"a.png": os.urandom(100_000)}))
    end = data.rfind(b"PK\5\6")
    start = int.from_bytes(data[end + 16 : end + 20], "little")
    entry = bytes(data[start:end])
    many = b"".join(entry.replace(b"a.png", b"%05d" % n) for n in range(1000))
    tail = bytearray(data[end:])
    struct.pack_into("<HHII", tail, 8, 1000, 1000, len(many), start)
    result = zip_upload(tmp_path, bytes(data[:start]) + many + bytes(tail))
    assert reasons(result) == {"photos.zip": "archive"}
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize("field", ["size in the header", "cut off", "no directory", "many entries"])
def test_a_damaged_archive_is_left_out_as_a_whole(field, tmp_path):
    data = bytearray(archive({"a.png": png(1), "b.png": png(2)}))
    central = data.rfind(b"PK\1\2")
    if field == "size in the header":
        struct.pack_into("<I", data, central + 24, len(png(2)) + 5)
    elif field == "cut off":
        data = data[: len(data) // 2]
    elif field == "no directory":
        data = data[: data.find(b"PK\1\2")]
    else:
        struct.pack_into("<I", data, data.rfind(b"PK\5\6") + 12, 2**31)
    result = zip_upload(tmp_path, bytes(data))
    assert reasons(result) == {"photos.zip": "archive"}
    assert below(tmp_path) == {}


def test_an_encrypted_entry_is_left_out(tmp_path):
    data = bytearray(archive({"a.png": png(1)}))
    for mark, at in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        data[data.find(mark) + at] |= 1
    assert reasons(zip_upload(tmp_path, bytes(data))) == {"a.png": "encrypted"}


def test_hostile_names_stay_in_the_folder_or_are_left_out(tmp_path):
    """300 names that file systems, shells or browsers take for something else."""
    parts = ["CON", "nul.png", "a\\..\\b", "a|b", "a\nb", "a\x1b[31m", "\u202egnp.exe", "~",
             "$HOME", "`id`", "$(id)", "-rf", "a;b", "a&b", "%2e%2e", "..%2f", "‥", "．．",
             "a" * 199, "é" * 100, "<script>", "'\"", "\ud800", "COM1.txt", "a ", " a", "a.",
             "LPT¹", "\u200b", "café", "cafe\u0301"]  # fmt: skip
    files = [SentFile(f"{a}/{b}.png", 9) for a in parts for b in parts[:10]]
    assert len(files) >= 300
    project = tmp_path / "project"
    project.mkdir()
    state = uploads.begin(project, project, "images", files)
    waiting = [row["path"] for row in state["files"] if row["state"] == "wanted"]
    for path in waiting:
        assert not set(path) & set('\\|<>:"?*\0\n') and ".." not in path.split("/")
    assert {row["state"] for row in state["files"]} == {"wanted", "left-out"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project"]
