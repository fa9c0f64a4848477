"""Hostile names and files are shown or refused with a reason; links are not
followed, and no other file is sent.
"""

from __future__ import annotations

import errno
import os
import struct
import time
import unicodedata
import zlib
from pathlib import Path

import pytest
from PIL import Image

from datasetkit.cli.main import run
from tests.safety.test_names import NAMES, dirty
from tests.web import datasets
from tests.web.client import Browser, captions, image_ids, review

SECRET = b"a secret of this machine"


def get(page: Browser, path: str):
    return page.ask("GET", path, headers={"Cookie": page.cookie})


def failed(page: Browser) -> dict[str, str]:
    return {image["name"]: image["error"] for image in page.session["failed"]}


# ---- names


@pytest.fixture
def awkward(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    for n, name in enumerate(NAMES):
        datasets.drawing(folder / "plain.png", n)
        (folder / "plain.png").rename(folder / os.fsdecode(name))
    return folder


def test_images_with_any_name_are_shown_or_refused_with_a_reason(awkward):
    with review(awkward) as page:
        shown = page.get("images")
        assert len(shown["name"]) + len(page.session["failed"]) == len(NAMES)
        assert all(image["error"] for image in page.session["failed"])
        assert not any(dirty(image["name"]) for image in page.session["failed"])
        for name in (
            "-rf.png",
            "CON.png",
            "[bold red]x.png",
            "%s%n%d.png",
            "`id`; rm -rf ~.png",
            "quote'\".png",
        ):
            assert name in shown["name"]
        for number in shown["id"]:
            assert get(page, f"/thumb/{number}").body[:3] == b"\xff\xd8\xff"


def test_names_that_differ_only_in_unicode_normalization_are_two_images(awkward):
    with review(awkward) as page:
        shown = page.get("images")
        both = [
            n
            for n, name in zip(shown["id"], shown["name"], strict=True)
            if name in ("e\u0301.png", "\u00e9.png")
        ]
        assert len(both) == 2
        page.edit(both[0], "first", known_hash="")
        page.edit(both[1], "second", known_hash="")
        assert {page.get(f"image/{n}")["caption"] for n in both} == {"first", "second"}
        assert sorted(image_ids(page, 'name:"\u00e9.png" AND NOT name:\u00e9\u00e9')) == sorted(
            both
        )


def test_images_with_any_name_are_edited_excluded_and_restored(awkward):
    with review(awkward) as page:
        for number in image_ids(page):
            page.edit(number, f"sks, number {number}", known_hash="")
        written = {path.name for path in awkward.glob("*.txt")}
        assert len(written) == len(image_ids(page))
        before = {path.name: path.read_bytes() for path in awkward.iterdir() if path.is_file()}
        assert page.do(drop=True)["changed"] == len(written)
        assert not list(awkward.glob("*.txt"))
        page.post("undo", version=page.version)
        assert {
            path.name: path.read_bytes() for path in awkward.iterdir() if path.is_file()
        } == before


def test_history_of_hostile_names_is_safe_to_print(awkward, capsys):
    with review(awkward) as page:
        for number in image_ids(page):
            page.edit(number, "sks, solo", known_hash="")
        page.do({"in": "ids", "ids": image_ids(page)[:1]}, drop=True)
    run(["history", str(awkward)])
    run(["undo", str(awkward)])
    printed = capsys.readouterr()
    assert dirty(printed.out) == set() and dirty(printed.err) == set()


def test_control_characters_in_captions_are_text_on_the_page_and_not_printed(folder, capsys):
    evil = "\x1b[31mred, \u202egnp, a\x08b, \x00"
    (folder / "p0.txt").write_text(evil, encoding="utf-8")
    with review(folder) as page:
        tags = page.post("tags", scope={"in": "ids", "ids": [1]})["tag"]
        assert "gnp" in tags  # without what turns its letters around
        red = next(tag for tag in tags if "red" in tag)
        assert page.do(remove=[red])["changed"] == 1
    run(["history", str(folder)])
    assert dirty(capsys.readouterr().out) == set()


@pytest.mark.parametrize(
    "tag",
    [
        "a\x00b",
        "a\nb",
        "a\u202eb",
        "a\x1b[31m",
        "a\ud800b",
        "a,b",
        " ",
        "",
        "\u200d",
        "a\u2028b",
        "\ufeffa",
    ],
)
def test_no_operation_writes_an_invalid_tag(shared_page, tag):
    before = captions(shared_page.folder)
    for wanted in ({"add": [tag]}, {"trigger": [tag]}, {"replace": [["lips", tag]]}):
        response = shared_page.send(
            "apply", version=shared_page.version, scope={"in": "all"}, do=wanted
        )
        assert response.status == 400, (wanted, response.body)
        assert response.json["error"]
    assert captions(shared_page.folder) == before


@pytest.mark.parametrize(
    "text", ["a\x00b, c", "a\u202eb", "x\ud800", "\x1b]0;title\x07", "", " , ,, ", None, 5, ["a"]]
)
def test_no_edit_writes_an_invalid_caption(shared_page, text):
    known = shared_page.get("image/1")["hash"]
    response = shared_page.send(
        "caption", version=shared_page.version, id=1, hash=known, caption=text
    )
    assert response.status == 400 and response.json["error"]
    assert (shared_page.folder / "p0.txt").read_bytes() == b"sks, lips, blue eyes\n"


@pytest.mark.parametrize(
    "sent",
    [
        {"do": {"remove": ["lips", "\ud800"]}},
        {"do": {"remove": "lips"}},
        {"do": {"remove": []}},
        {"do": {"remove": [["lips"]]}},
        {"do": {"remove": ["lips"], "add": ["x"]}},
        {"do": {}},
        {"do": None},
        {"do": {"drop": "yes"}},
        {"do": {"threshold": "NaN"}},
        {"do": {"threshold": float("nan")}},
        {"do": {"threshold": float("inf")}},
        {"do": {"threshold": -1}},
        {"do": {"threshold": True}},
        {"do": {"threshold": 0.5, "existing": "append"}},
        {"do": {"remove": ["lips"]}, "scope": {"in": "where", "where": "tag:("}},
        {"do": {"remove": ["lips"]}, "scope": {"in": "where", "where": 5}},
        {"do": {"remove": ["lips"]}, "scope": {"in": "ids", "ids": ["1"]}},
        {"do": {"remove": ["lips"]}, "scope": {"in": "ids", "ids": [True]}},
        {"do": {"remove": ["lips"]}, "scope": []},
        {"do": {"remove": ["lips"]}, "version": "1"},
        {"do": {"remove": ["lips"]}, "version": True},
        {"do": {"remove": ["lips"]}, "version": None},
        {"do": {"exclude": ["@nothing"]}},
        {"do": {"replace": [["lips"]]}},
        {"do": {"replace": {"lips": "x"}}},
    ],
    ids=str,
)
def test_an_invalid_request_is_refused_and_changes_nothing(shared_page, sent):
    before = captions(shared_page.folder)
    response = shared_page.send(
        "apply", **{"version": shared_page.version, "scope": {"in": "all"}, **sent}
    )
    assert response.status == 400 and response.json["error"], response.body
    assert captions(shared_page.folder) == before


# ---- files that are no images, or too large


def bomb(path: Path, width: int, height: int) -> None:
    """Write a PNG whose header claims so many pixels, without the data for them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def test_bombs_and_broken_files_are_refused_with_a_reason_and_the_rest_is_shown(folder):
    bomb(folder / "bomb.png", 30_000, 30_000)
    bomb(folder / "short.png", 800, 600)
    (folder / "empty.jpg").touch()
    (folder / "page.jpg").write_text("<html><script>alert(1)</script>")
    (folder / "vector.png").write_text(
        "<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"
    )
    (folder / "cut.jpg").write_bytes((folder / "p0.jpg").read_bytes()[:900])
    began = time.monotonic()
    with review(folder) as page:
        assert time.monotonic() - began < 10
        refused = failed(page)
        assert {"bomb.png", "empty.jpg", "page.jpg", "vector.png"} <= refused.keys()
        shown = page.get("images")
        assert {f"p{n}.jpg" for n in range(6)} <= set(shown["name"])
        for number, name in zip(shown["id"], shown["name"], strict=True):
            response = get(page, f"/preview/{number}")
            if name in ("short.png", "cut.jpg"):  # their headers are valid
                assert response.status in (200, 415)
            else:
                assert response.status == 200
            assert response.status != 200 or response.body[:3] == b"\xff\xd8\xff"
        assert page.do(remove=["lips"])["changed"] == 3


def test_an_image_above_the_pixel_limit_is_refused_until_the_limit_is_raised(folder):
    with review(folder, max_pixels=50_000) as page:
        assert page.session["images"] == 0 and "p0.jpg" in failed(page)
    with review(folder, max_pixels=320 * 240) as page:
        assert page.session["images"] == 7


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_mode_becomes_a_jpeg_thumbnail(tmp_path, mode):
    folder = tmp_path / "set"
    folder.mkdir()
    suffix = {"CMYK": "jpg", "F": "tif", "I": "tif", "PA": "tif"}.get(mode, "png")
    image = Image.new("RGBA", (300, 700), (200, 30, 30, 128)).convert(
        "L" if mode in ("I;16", "I", "F") else "RGBA"
    )
    if mode == "PA":
        image = Image.new("PA", (300, 700))
    elif mode != "RGBA":
        image = (
            image.convert("RGB").convert(mode)
            if mode in ("1", "L", "P", "CMYK")
            else image.convert(mode)
        )
    image.save(folder / f"x.{suffix}")
    with review(folder) as page:
        response = get(page, "/thumb/1")
        assert response.status == 200 and response.headers["content-type"] == "image/jpeg"
        (folder / "back.jpg").write_bytes(response.body)
        with Image.open(folder / "back.jpg") as small:
            assert small.mode == "RGB" and small.height == 256


def test_a_rotated_image_is_shown_upright(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    image = Image.new("RGB", (400, 200), (255, 255, 255))
    image.paste((255, 0, 0), (0, 0, 100, 200))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees, clockwise
    image.save(folder / "x.jpg", exif=exif, quality=95)
    with review(folder) as page:
        shown = page.get("images")
        assert (shown["w"], shown["h"]) == ([200], [400])
        (folder / "back.jpg").write_bytes(get(page, "/preview/1").body)
        with Image.open(folder / "back.jpg") as small:
            assert small.size == (200, 400) and "exif" not in small.info
            red = small.convert("RGB").getpixel((100, 20))
            assert isinstance(red, tuple) and red[0] > 200 and red[1] < 60


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1)])
def test_extreme_aspect_ratios_are_shown(tmp_path, size):
    folder = tmp_path / "set"
    folder.mkdir()
    Image.new("RGB", size, (9, 9, 9)).save(folder / "x.png")
    with review(folder) as page:
        for kind in ("thumb", "preview"):
            response = get(page, f"/{kind}/1")
            assert response.status == 200 and response.body[:3] == b"\xff\xd8\xff"


def test_of_two_images_with_one_stem_one_is_listed_as_failed(folder):
    datasets.drawing(folder / "p0.png", 50)
    with review(folder) as page:
        assert "would share its caption" in failed(page)["p0.png"]
        assert page.get("images")["name"].count("p0.jpg") == 1


# ---- links and special files


def test_links_are_not_followed_or_written_through(folder, tmp_path):
    outside = datasets.drawing(tmp_path / "outside" / "secret.jpg", 9)
    (tmp_path / "outside" / "secret.txt").write_bytes(SECRET)
    (folder / "link.jpg").symlink_to(outside)
    (folder / "dangling.jpg").symlink_to(tmp_path / "nothing.jpg")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "below").symlink_to(tmp_path / "outside")
    (folder / "p0.txt").unlink()
    (folder / "p0.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    with review(folder, recursive=True) as page:
        assert {"link.jpg", "dangling.jpg", "loop.jpg", "p0.jpg"} <= failed(page).keys()
        shown = page.get("images", captions=1)
        assert "secret.jpg" not in shown["name"]
        assert SECRET.decode() not in str(shown)
        page.do(add=["new"])
        page.do(trigger=["first"])
    assert (tmp_path / "outside" / "secret.txt").read_bytes() == SECRET
    assert (folder / "p0.txt").is_symlink()


def test_a_caption_that_became_a_link_is_not_written_through(folder, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_bytes(SECRET)
    with review(folder) as page:
        known = page.get("image/1")["hash"]
        (folder / "p0.txt").unlink()
        (folder / "p0.txt").symlink_to(secret)
        for response in (
            page.send("caption", version=page.version, id=1, hash=known, caption="mine"),
            page.send("apply", version=page.version, scope={"in": "all"}, do={"remove": ["sks"]}),
        ):
            assert response.status == 400 and SECRET not in response.body
    assert secret.read_bytes() == SECRET


def test_nothing_is_written_into_a_folder_that_became_a_link(folder, tmp_path):
    other = tmp_path / "other"
    with review(folder) as page:
        before = {path.name: path.read_bytes() for path in folder.glob("*.txt")}
        folder.rename(tmp_path / "moved")
        other.mkdir()
        (other / "p0.txt").write_bytes(SECRET)
        folder.symlink_to(other)
        response = page.send(
            "apply", version=page.version, scope={"in": "all"}, do={"remove": ["lips"]}
        )
        assert response.status in (400, 409, 507)
        assert {path.name: path.read_bytes() for path in other.iterdir() if path.is_file()} == {
            "p0.txt": SECRET
        }
        assert {
            path.name: path.read_bytes() for path in (tmp_path / "moved").glob("*.txt")
        } == before
        folder.unlink()
        (tmp_path / "moved").rename(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_named_pipes_do_not_block(folder):
    os.mkfifo(folder / "pipe.jpg")
    (folder / "p0.txt").unlink()
    os.mkfifo(folder / "p0.txt")
    began = time.monotonic()
    with review(folder) as page:
        assert {"pipe.jpg", "p0.jpg"} <= failed(page).keys()
        assert page.do(remove=["lips"])["changed"] == 2
        shown = page.get("images")
        number = shown["id"][shown["name"].index("p1.jpg")]
        (folder / "p1.jpg").unlink()
        os.mkfifo(folder / "p1.jpg")
        assert get(page, f"/preview/{number}").status in (404, 409, 415)
    assert time.monotonic() - began < 15


def test_a_translations_file_that_is_a_link_is_not_read(folder, tmp_path):
    (tmp_path / "secret.csv").write_text("lips,a secret\n")
    (folder / "translations.csv").symlink_to(tmp_path / "secret.csv")
    with review(folder) as page:
        assert (
            page.session["translations"] is False and "translations.csv" in page.session["notice"]
        )
        assert "a secret" not in str(page.post("tags", scope={"in": "all"}))


def test_translations_are_plain_text(folder):
    (folder / "translations.csv").write_bytes(b'tag,translation\nlips,"<b>Lippen</b>"\nhat,Hut\n')
    with review(folder) as page:
        tags = page.post("tags", scope={"in": "all"})
        assert dict(zip(tags["tag"], tags["translation"], strict=True))["lips"] == "<b>Lippen</b>"
        assert "hat" in page.get("complete", q="hut")["tag"]
    (folder / "translations.csv").write_bytes(b"\xff\xfe\x00,\x00")
    with review(folder) as page:
        assert "translations.csv" in page.session["notice"]


# ---- what is left on disk


def test_a_read_only_page_writes_nothing(folder):
    before = {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}
    with review(folder, read_only=True) as page:
        assert get(page, "/thumb/1").status == 200
        assert page.get("near-duplicates")["total"] == 7
        for call in ("apply", "undo", "redo", "caption", "keep"):
            response = page.send(
                call, version=page.version, scope={"in": "all"}, do={"remove": ["lips"]},
                id=1, hash=page.get("image/1")["hash"], caption="mine",
            )  # fmt: skip
            assert response.status == 403
    assert {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))} == before


def test_a_full_disk_is_reported_and_the_next_edit_completes_the_interrupted_one(
    folder, monkeypatch
):
    replace = os.replace
    failing = True

    def full(source, target, **more):
        if failing and str(target).endswith("p2.txt"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return replace(source, target, **more)

    with review(folder) as page:
        monkeypatch.setattr(os, "replace", full)
        response = page.send(
            "apply", version=page.version, scope={"in": "all"}, do={"remove": ["lips"]}
        )
        assert response.status == 507 and "disk space" in response.json["hint"]
        assert all(path.read_text().endswith("\n") for path in folder.glob("*.txt"))
        failing = False
        # The interrupted edit is completed first, and then the page must load its result.
        tries = 0
        while (
            page.send(
                "apply", version=page.version, scope={"in": "all"}, do={"add": ["new"]}
            ).status
            != 200
        ):
            tries += 1
            assert tries < 20
            time.sleep(0.2)
            page.load_session()
            page.version = page.session["version"]
        texts = [(folder / f"p{n}.txt").read_text() for n in range(6)]
        assert texts == [
            "new, sks, blue eyes\n", "new, sks, Blue_Eyes, hat\n", "new, sks\n", "new, solo, hat\n",
            "new, solo\n", "new, 1girl, hat\n",
        ]  # fmt: skip


def test_file_names_are_not_normalized(awkward):
    names = {os.fsencode(path.name) for path in awkward.iterdir()}
    with review(awkward) as page:
        page.do(add=["x"])
        page.get("near-duplicates")
    assert {os.fsencode(path.name) for path in awkward.iterdir() if path.name != ".dsk"} == names
    assert any(
        unicodedata.normalize("NFC", os.fsdecode(name)) != os.fsdecode(name) for name in names
    )
