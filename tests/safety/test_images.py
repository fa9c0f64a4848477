"""Broken, huge, turned and odd images fail alone, and no image overwrites another's output."""

import json
import shutil
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from datasetkit import api
from datasetkit.cli.main import run
from datasetkit.core.errors import Exit, PlanConflict
from datasetkit.core.records import Skipped
from tests import heif
from tests.benchmarks import launch
from tests.safety.datasets import FINDING, WRITING, small_set, write_image
from tests.safety.finders import DETECTOR
from tests.safety.harness import digest, is_image, tree
from tests.safety.tagger import NAME

# ---- images of one stem


@pytest.mark.parametrize("form", ["keep", "jpg", "png", "webp"])
def test_images_of_one_stem_get_separate_outputs(form, workdir):
    folder = workdir / "imgs"
    inputs = [
        write_image(folder / name, n)
        for n, name in enumerate(("a.jpg", "a.png", "a.gif", "a_2.png", "sub/a.webp"))
    ]
    before = {p: digest(p) for p in inputs}
    result = api.resize(
        folder, workdir / "out", api.ResizeOptions(format=form, max=32, recursive=True)
    )
    outputs = {done.value.path for done in result.report.done}
    assert len(outputs) == len(inputs)
    assert {p for p in (workdir / "out").rglob("*") if is_image(p)} == outputs
    assert len({digest(p) for p in outputs}) == len(inputs)
    assert {p: digest(p) for p in inputs} == before


@pytest.mark.parametrize("name", WRITING)
def test_outputs_of_images_of_one_stem_are_kept_apart(name, workdir, monkeypatch):
    monkeypatch.chdir(workdir)
    names = ("a.jpg", "a.png", "a.gif", "a_2.png", "sub/a.webp")
    inputs = [write_image(workdir / "imgs" / name, n) for n, name in enumerate(names)]
    before = tree(workdir / "imgs")
    assert run([*WRITING[name], "--recursive"]) == Exit.DONE
    outputs = [p for p in (workdir / "out").rglob("*") if is_image(p) and p.parent.name != "masks"]
    assert (
        len({p.with_suffix("") for p in outputs})
        == len({digest(p) for p in outputs})
        == len(inputs)
    )
    assert tree(workdir / "imgs") == before


def test_two_images_that_would_become_one_in_place_are_refused(workdir):
    for n, name in enumerate(("a.gif", "a.png")):
        write_image(workdir / name, n)
    before = tree(workdir)
    with pytest.raises(PlanConflict):
        api.resize(workdir, None, api.ResizeOptions(in_place=True, max=32))
    assert tree(workdir) == before


@pytest.mark.parametrize("verb", ["tag", "rules"])
def test_images_of_one_stem_do_not_share_a_caption_silently(verb, workdir, capsys):
    for n, name in enumerate(("a.jpg", "a.png")):
        write_image(workdir / name, n)
    (workdir / "a.txt").write_text("of the first\n", encoding="utf-8")
    more = {"tag": ["--tagger", NAME, "--existing", "overwrite"], "rules": ["--trigger", "x"]}[verb]
    assert run([verb, str(workdir), *more]) == Exit.SOME_FAILED
    err = capsys.readouterr().err
    assert "a.png: would share its caption with a.jpg" in err
    assert "dsk rename" in err


def test_a_file_that_dsk_did_not_make_is_never_replaced(workdir):
    small_set(workdir / "imgs", 2)
    theirs = write_image(workdir / "out" / "photo 1.png", 77)
    before = tree(workdir)
    with pytest.raises(PlanConflict, match="not made by dsk"):
        api.resize(workdir / "imgs", workdir / "out", api.ResizeOptions(max=32))
    assert tree(workdir) == before
    assert theirs.is_file()


def test_outputs_are_adopted_after_the_project_folder_was_deleted_unless_one_was_edited(workdir):
    """`.dsk` may be deleted, which costs time only: an existing output is adopted if it is what
    would be made.
    """
    small_set(workdir / "imgs")
    options = api.ResizeOptions(max=32)
    api.resize(workdir / "imgs", workdir / "out", options)
    before = tree(workdir / "out")
    times = {p: p.stat().st_mtime_ns for p in (workdir / "out").iterdir() if is_image(p)}
    shutil.rmtree(workdir / "out" / ".dsk")
    api.resize(workdir / "imgs", workdir / "out", options, api.RunContext(dry_run=True))
    assert not (workdir / "out" / ".dsk").exists()
    again = api.resize(workdir / "imgs", workdir / "out", options)
    assert [o.reason if isinstance(o, Skipped) else o for o in again.report.outcomes] == [
        "up to date"
    ] * len(times)
    assert tree(workdir / "out") == before
    assert {p: p.stat().st_mtime_ns for p in times} == times
    shutil.rmtree(workdir / "out" / ".dsk")
    edited = max(times)
    edited.write_bytes(edited.read_bytes() + b"\0")
    with pytest.raises(
        PlanConflict, match=f"{edited.name} was not made by dsk, or was edited since"
    ):
        api.resize(workdir / "imgs", workdir / "out", options)
    assert tree(workdir / "out") == before | {edited.name: digest(edited)}


# ---- images that cannot be read


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and contains next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def broken_set(folder) -> dict[str, str]:
    """Make broken images among good ones; return the expected error of each."""
    small_set(folder, 2)
    good = (folder / "photo 1.png").read_bytes()
    (folder / "cut.png").write_bytes(good[: len(good) // 2])
    (folder / "cut.jpg").write_bytes((folder / "photo 2.jpg").read_bytes()[:300])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_bytes(b"not an image at all")
    (folder / "script.gif").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "bomb.png").write_bytes(png_header(30_000, 30_000))
    (folder / "line.png").write_bytes(png_header(2_000_000_000, 1))
    (folder / "tiles.jpg").write_bytes(heif.grid(16, tile=(8000, 8000)))
    (folder / "phone.jpg").write_bytes(heif.HEIC[:200])
    return {
        "tiles.jpg": "it is made of 16,384 megapixels",
        "phone.jpg": "HEIC",
        "cut.png": "damaged or cut short",
        "cut.jpg": "damaged or cut short",
        "empty.png": "0 bytes",
        "text.jpg": "not a whole image",
        "script.gif": "not a whole image",
        "bomb.png": "beyond the limit of 64 megapixels",
        "line.png": "beyond the limit of 64 megapixels",
    }


@pytest.mark.parametrize(
    "command",
    [
        ["tag", "imgs", "--tagger", NAME],
        ["resize", "imgs", "out", "--max", "32"],
        *FINDING.values(),
    ],
    ids=lambda command: " ".join(command).partition(" imgs")[0],
)
def test_each_broken_image_is_reported_and_the_others_are_done(
    command, workdir, capsys, monkeypatch
):
    monkeypatch.chdir(workdir)
    reasons = broken_set(workdir / "imgs")
    for path in (workdir / "imgs").glob("cut.*"):  # two of one stem are refused for their caption
        path.rename(path.with_name(f"{path.suffix[1:]}-cut{path.suffix}"))
    reasons = {(f"{n[4:]}-{n}" if n.startswith("cut") else n): why for n, why in reasons.items()}
    before = {n: what for n, what in tree(workdir / "imgs").items() if not n.endswith(".txt")}
    assert run(command) == Exit.SOME_FAILED
    lines = capsys.readouterr().err.splitlines()
    for name, reason in reasons.items():
        mine = [line for line in lines if name in line]
        assert len(mine) == 1, name
        assert reason in mine[0]
    if command != FINDING["faces list"]:
        made = (
            (workdir / "imgs").glob("*.txt") if command[0] == "tag" else (workdir / "out").iterdir()
        )
        assert {p.stem for p in made if is_image(p) or command[0] == "tag"} == {
            "photo 1",
            "photo 2",
        }
    assert {
        n: what for n, what in tree(workdir / "imgs").items() if not n.endswith(".txt")
    } == before


def test_broken_images_are_findings_of_check(workdir):
    reasons = broken_set(workdir)
    found = {
        f.path.name: f.reason
        for f in api.check(workdir, api.CheckOptions()).findings
        if f.check == "unreadable"
    }
    assert set(found) == set(reasons)
    assert all(reasons[name] in found[name] for name in reasons)


@pytest.mark.parametrize(
    "command",
    [["resize", "imgs", "--in-place"], ["cutout", "imgs"], ["faces", "erase", "imgs"]],
    ids=lambda c: c[0],
)
def test_decompression_bombs_are_refused_within_2_seconds_and_512_mb(command, workdir, tmp_path):
    """Measure the whole process with its imports, in a small launcher: its peak memory would
    include that of the process that starts it.
    """
    for n in range(5):
        (workdir / "imgs").mkdir(exist_ok=True)
        (workdir / "imgs" / f"bomb{n}.png").write_bytes(png_header(30_000, 30_000))
    command = [sys.executable, "-m", "datasetkit", *command, "--json"]
    costs = tmp_path / "costs.json"
    launcher = [sys.executable, "-S", "-E", launch.__file__, str(costs), *command]
    out = subprocess.run(
        launcher, cwd=workdir, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ).stdout
    seconds, _, peak_kb = json.loads(costs.read_text(encoding="utf-8"))
    startup = 3  # seconds for the interpreter and its imports on a busy machine
    assert seconds < startup + 5 * 2
    assert peak_kb < 512 * 1024  # kB on Linux
    result = json.loads(out)["result"]
    assert len(result["report"]["outcomes"]) == 5
    assert {outcome["is"] for outcome in result["report"]["outcomes"]} == {"Failed"}


def test_mutated_files_neither_crash_nor_hang(workdir):
    """Each image is done or fails, by itself; tests/images/test_pixels.py has more mutations."""
    random = np.random.default_rng(5)
    folder = workdir / "imgs"
    for n, suffix in enumerate(("png", "jpg", "gif", "bmp", "webp", "tiff") * 12):
        path = write_image(folder / f"{n:03d}.{suffix}", n, (20, 16))
        data = bytearray(path.read_bytes())
        for at in random.integers(0, len(data), 1 + n % 9):
            data[at] = random.integers(0, 256)
        path.write_bytes(data[: random.integers(len(data) // 2, len(data) + 1)])
    result = api.tag(folder, api.TagOptions(tagger=NAME))
    checked = api.check(folder, api.CheckOptions())
    unreadable = {f.path for f in checked.findings if f.check == "unreadable"}
    assert unreadable == {failed.path for failed in result.report.failed}
    assert len(result.report.outcomes) == checked.images == 72
    assert {p.stem for p in folder.glob("*.txt")} == {
        done.record.path.stem for done in result.report.done
    }


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (3, 1000)])
def test_images_of_odd_shapes_are_done(size, workdir):
    write_image(workdir / "imgs" / "odd.png", 1, size)
    assert len(api.tag(workdir / "imgs", api.TagOptions(tagger=NAME)).report.done) == 1
    assert "unreadable" not in {
        f.check for f in api.check(workdir / "imgs", api.CheckOptions()).findings
    }
    (done,) = api.resize(workdir / "imgs", workdir / "out", api.ResizeOptions(max=512)).report.done
    with Image.open(done.value.path) as image:
        assert image.size == done.value.size
        assert min(image.size) >= 1
        assert max(image.size) == min(max(size), 512)


@pytest.mark.parametrize("name", FINDING)
def test_images_of_odd_shapes_are_cut_and_searched_or_the_reason_is_reported(
    name, workdir, capsys, monkeypatch
):
    monkeypatch.chdir(workdir)
    sizes = [(1, 1), (1, 20_000), (20_000, 1), (3, 1000)]
    for n, size in enumerate(sizes):
        write_image(workdir / "imgs" / f"odd-{n}.png", n, size)
    without = ["odd-0.png"] if name == "cutout" else []  # one pixel has no ellipse
    assert run(FINDING[name]) == (Exit.SOME_FAILED if without else Exit.DONE)
    err = capsys.readouterr().err
    assert [f"odd-{n}.png" for n in range(4) if f"odd-{n}.png: the mask covers" in err] == without
    if name == "faces list":
        return
    for n, (width, height) in enumerate(sizes):
        with Image.open(workdir / "out" / f"odd-{n}.png") as image:
            image.load()
            assert image.size == (
                (width, height) if name != "faces crop" else (1, 1) if n < 3 else (3, 3)
            )


def test_a_broken_mask_fails_its_image_only(workdir, capsys, monkeypatch):
    """A mask is read only if the new image gets one; several faces read it several times."""
    monkeypatch.chdir(workdir)
    for n in range(3):
        write_image(workdir / "imgs" / f"{n}.png", n)
    (workdir / "imgs" / "masks").mkdir()
    (workdir / "imgs" / "masks" / "0.png").write_bytes(b"nothing")
    (workdir / "imgs" / "masks" / "1.png").write_bytes(png_header(30_000, 30_000))
    before = tree(workdir / "imgs")
    for name, command in WRITING.items():
        assert run([name if word == "out" else word for word in command]) == Exit.SOME_FAILED
        err = capsys.readouterr().err
        assert "masks/0.png" in err and "masks/1.png" in err
        assert (workdir / name / "2.png").is_file()
    assert tree(workdir / "imgs") == before


def test_an_image_with_a_wrong_suffix_is_read_by_its_content(workdir):
    write_image(workdir / "imgs" / "a.png", 1)
    shutil.move(workdir / "imgs" / "a.png", workdir / "imgs" / "a.jpg")
    (done,) = api.resize(workdir / "imgs", workdir / "out", api.ResizeOptions(max=32)).report.done
    with Image.open(done.value.path) as image:
        assert image.format == {".jpg": "JPEG", ".png": "PNG"}[done.value.path.suffix]


# ---- turned images

TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def four_colours() -> Image.Image:
    """Make an image that differs from each of its turned and mirrored versions."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20, :30] = (250, 20, 10)
    pixels[:20, 30:] = (30, 200, 60)
    pixels[20:, :30] = (10, 60, 220)
    pixels[20:, 30:] = (200, 180, 90)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_turned_image_gives_what_the_upright_one_gives(orientation, workdir):
    image, turn = four_colours(), TURNS[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for folder in ("turned", "upright"):
        (workdir / folder).mkdir()
    image.save(workdir / "turned" / "a.png", exif=exif)
    (image if turn is None else image.transpose(turn)).save(workdir / "upright" / "a.png")
    texts, pixels = [], []
    for folder in ("turned", "upright"):
        api.tag(workdir / folder, api.TagOptions(tagger=NAME, threshold=0.2))
        texts.append((workdir / folder / "a.txt").read_text(encoding="utf-8"))
        api.resize(workdir / folder, workdir / f"{folder}-small", api.ResizeOptions(max=30))
        with Image.open(workdir / f"{folder}-small" / "a.png") as small:
            assert small.getexif() == {}
            pixels.append((small.size, small.tobytes()))
    assert texts[0] == texts[1]
    assert pixels[0] == pixels[1]


@pytest.mark.long
@pytest.mark.parametrize(
    ("orientation", "turn"), [(o, turn) for o, turn in TURNS.items() if turn is not None]
)
def test_an_exif_turned_image_is_cut_and_searched_as_the_upright_one(
    orientation, turn, workdir, monkeypatch
):
    image = four_colours()
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = []
    for folder in ("turned", "upright"):
        (workdir / folder / "imgs").mkdir(parents=True)
        monkeypatch.chdir(workdir / folder)
        if folder == "turned":
            image.save("imgs/a.png", exif=exif)
        else:
            image.transpose(turn).save("imgs/a.png")
        for name, command in WRITING.items():
            assert run([name if word == "out" else word for word in command]) == Exit.DONE
        listed = api.list_faces(
            workdir / folder / "imgs", api.FacesOptions(detector=DETECTOR)
        ).images[0]
        made = [p for name in WRITING for p in sorted((workdir / folder / name).rglob("a.png"))]
        pixels = {p.relative_to(workdir / folder): _pixels(p) for p in made}
        found.append((listed.width, listed.height, listed.faces, pixels))
    assert found[0] == found[1]
    assert len(found[0][-1]) == 5  # three images, and the masks of two


def _pixels(path) -> tuple[tuple[int, int], str, bytes]:
    with Image.open(path) as image:
        assert image.getexif() == {}
        return image.size, image.mode, image.tobytes()


def test_the_test_tagger_tells_a_turned_image_from_an_upright_one(workdir):
    """Otherwise the tests above could not fail."""
    texts = set()
    for orientation, turn in TURNS.items():
        folder = workdir / str(orientation)
        folder.mkdir()
        image = four_colours()
        (image if turn is None else image.transpose(turn)).save(folder / "a.png")
        tagged = api.tag(folder, api.TagOptions(tagger=NAME, threshold=0.2))
        texts.add(tagged.report.done[0].value.text())
    assert len(texts) >= 3


# ---- modes and animations


def modes(folder) -> None:
    """Make one image of each mode and format that real folders contain."""
    folder.mkdir()
    image = four_colours()
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.convert("L").save(folder / "grey.png")
    image.convert("LA").save(folder / "grey-alpha.png")
    image.convert("1").save(folder / "one-bit.png")
    image.convert("P").save(folder / "palette.png", transparency=0)
    image.convert("I").save(folder / "i.tiff")
    image.convert("F").save(folder / "f.tiff")
    Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257).save(folder / "sixteen.png")
    alpha = image.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(image.size))
    alpha.save(folder / "alpha.png")
    image.save(
        folder / "moving.gif",
        save_all=True,
        append_images=[image.transpose(Image.Transpose.ROTATE_180)] * 3,
    )
    image.save(
        folder / "moving.webp",
        save_all=True,
        append_images=[image.transpose(Image.Transpose.ROTATE_180)],
    )


def test_every_mode_is_tagged_and_resized_and_animations_are_named(workdir, capsys, monkeypatch):
    monkeypatch.chdir(workdir)
    modes(workdir / "imgs")
    for path in (workdir / "imgs").glob("moving.*"):
        path.rename(path.with_name(f"{path.suffix[1:]}-moving{path.suffix}"))
    count = len(list((workdir / "imgs").iterdir()))
    assert run(["tag", "imgs", "--tagger", NAME]) == Exit.DONE
    assert len(list((workdir / "imgs").glob("*.txt"))) == count
    animated = {
        f.path.stem
        for f in api.check(
            workdir / "imgs", api.CheckOptions(only=("animated", "unreadable"))
        ).findings
    }
    assert animated == {"gif-moving", "webp-moving"}
    assert run(["resize", "imgs", "out", "--max", "30"]) == Exit.DONE
    err = capsys.readouterr().err
    assert err.count("only the first frame was used") == 2
    outputs = [p for p in (workdir / "out").iterdir() if is_image(p)]
    assert len(outputs) == count
    for path in outputs:
        with Image.open(path) as image:
            assert image.mode == "RGB"
            assert getattr(image, "n_frames", 1) == 1
            assert np.asarray(image).std() > 20, f"{path.name} is blank"


@pytest.mark.parametrize("name", WRITING)
def test_every_mode_is_cut_and_searched_and_animations_are_named(
    name, workdir, capsys, monkeypatch
):
    monkeypatch.chdir(workdir)
    modes(workdir / "imgs")
    before = tree(workdir / "imgs")
    assert run(WRITING[name]) == Exit.DONE
    outputs = [p for p in (workdir / "out").iterdir() if is_image(p)]
    assert len(outputs) == len(before)
    assert tree(workdir / "imgs") == before
    for path in outputs:
        with Image.open(path) as image:
            assert image.mode == "RGB"
            assert getattr(image, "n_frames", 1) == 1
            assert np.asarray(image).std() > 20, f"{path.name} is blank"
    for path in (workdir / "out" / "masks").glob("*"):
        with Image.open(path) as mask:
            assert (mask.mode, mask.size) == ("L", (60, 40))
