"""What the resize stage promises: the right size, nothing but pixels, and untouched files where
nothing changes.
"""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from datasetkit.core.errors import InputError, StorageError
from datasetkit.core.records import Done, Failed, ImageRecord
from datasetkit.executors import local
from datasetkit.images import pixels
from datasetkit.options.images import ResizeOptions
from datasetkit.stages.resize import ResizedImage, resize_image, shrink, target_size


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """An image with large shapes and fine grain."""
    rng = np.random.default_rng(width * height)
    coarse = Image.fromarray(
        rng.integers(0, 256, (4, 4, len(mode)), np.uint8), mode if mode != "L" else None
    )
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def recorded(path: Path) -> ImageRecord:
    """What a scan says of a whole image."""
    seen = pixels.probe(path)
    return ImageRecord(path, "", seen.width, seen.height)


def outcomes_of(
    targets: dict[Path, Path], records: list[ImageRecord], **options
) -> list[Done[ResizedImage] | Failed]:
    def resize(record: ImageRecord) -> Done[ResizedImage]:
        return resize_image(record, (targets[record.path],), options=ResizeOptions(**options))

    return list(local.each(resize, records, name="resize"))


def resized(source: Path, target: Path, **options) -> Done[ResizedImage]:
    (outcome,) = outcomes_of({source: target}, [recorded(source)], **options)
    assert isinstance(outcome, Done), outcome
    return outcome


# --- sizes
# --------------------------------------------------------------------------------------------------

sides = st.integers(1, 30000)
limits = st.integers(16, 4096)


@given(sides, sides, limits)
@settings(max_examples=300)
def test_long_edge_caps_the_long_edge_and_keeps_the_aspect(width, height, max_side):
    w, h = target_size(width, height, max_side=max_side, mode="long-edge")
    assert max(w, h) == min(max_side, max(width, height))
    assert min(w, h) >= 1
    scale = max(w, h) / max(width, height)
    assert abs(w - width * scale) <= 0.5 + 1e-9 or w == 1
    assert abs(h - height * scale) <= 0.5 + 1e-9 or h == 1


@pytest.mark.long
@given(sides, sides, limits)
@settings(max_examples=300)
def test_area_is_enough_and_never_more_than_rounding_asks(width, height, max_side):
    w, h = target_size(width, height, max_side=max_side, mode="area")
    assert (w <= width, h <= height) == (True, True)
    if width * height <= max_side**2:
        assert (w, h) == (width, height)
        return
    assert w * h >= max_side**2
    scale = max_side / (width * height) ** 0.5
    assert abs(w - width * scale) <= 1 or w == 1
    assert abs(h - height * scale) <= 1 or h == 1
    assert (w - 1) * (h - 1) < max_side**2


@pytest.mark.parametrize(
    ("size", "max_side", "mode", "expected"),
    [
        ((4000, 3000), 1024, "long-edge", (1024, 768)),
        ((3000, 4000), 1024, "long-edge", (768, 1024)),
        ((800, 600), 1024, "long-edge", (800, 600)),
        ((2048, 1025), 1024, "long-edge", (1024, 513)),  # 512.5 is rounded up
        ((1, 20000), 1024, "long-edge", (1, 1024)),
        ((683, 1024), 1024, "area", (683, 1024)),
        ((2048, 2048), 1024, "area", (1024, 1024)),
        ((4000, 1000), 1024, "area", (2048, 512)),
        ((1, 20000), 100, "area", (1, 14142)),
    ],
)
def test_sizes_by_hand(size, max_side, mode, expected):
    assert target_size(*size, max_side=max_side, mode=mode) == expected


# --- images
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_large_image_is_shrunk_as_lanczos_does(tmp_path, suffix):
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    pixels.save(noise(640, 480), source, quality=95)
    done = resized(source, target, max=128)
    assert done.value == ResizedImage(target, (640, 480), (128, 96))
    assert done.note == ""
    wanted = pixels.load(source).resize((128, 96), Image.Resampling.LANCZOS)
    gap = np.abs(np.asarray(pixels.load(target)).astype(int) - np.asarray(wanted))
    assert gap.mean() < 2
    assert gap.max() == 0 or suffix != ".png"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_equals_the_photo_turned_beforehand(tmp_path, orientation):
    turned, upright = tmp_path / "turned.png", tmp_path / "upright.png"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    noise(300, 200).save(turned, exif=exif)
    pixels.load(turned).save(upright)
    results = [
        resized(path, tmp_path / f"out-{path.name}", max=64).value for path in (turned, upright)
    ]
    assert results[0].size == results[1].size == ((64, 43) if orientation < 5 else (43, 64))
    assert results[0].source == results[1].source
    assert results[0].path.read_bytes() == results[1].path.read_bytes()


def test_colours_under_transparency_do_not_bleed(tmp_path):
    source, target = tmp_path / "a.png", tmp_path / "b.png"
    image = Image.new("RGBA", (64, 64), (0, 255, 0, 0))  # green, but invisible
    image.paste((200, 0, 0, 255), (0, 0, 31, 64))
    image.save(source)
    resized(source, target, max=16, alpha="keep")
    got = np.asarray(pixels.load(target, alpha="keep")).astype(int)
    seen = got[got[..., 3] > 8]
    assert got[..., 3].min() == 0
    assert np.abs(seen[:, :3] - (200, 0, 0)).max() <= 16  # rounding at faint alpha
    assert seen[:, 1].max() < 32


def test_transparency_is_laid_onto_white_unless_kept(tmp_path):
    source = tmp_path / "a.png"
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(source)
    assert resized(source, tmp_path / "b.png").note == ""
    assert pixels.load(tmp_path / "b.png", alpha="keep").getpixel((0, 0)) == (255, 255, 255)
    resized(source, tmp_path / "c.png", alpha="keep")
    assert pixels.load(tmp_path / "c.png", alpha="keep").mode == "RGBA"


def test_a_jpeg_that_cannot_keep_transparency_says_so(tmp_path):
    source = tmp_path / "a.jpg"  # a PNG by content
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(source, "PNG")
    assert "laid onto white" in resized(source, tmp_path / "b.jpg", alpha="keep").note


@pytest.mark.parametrize(
    ("kind", "word"), [("GIF", "animated"), ("WEBP", "animated"), ("TIFF", "pages")]
)
def test_the_frames_left_out_are_noted(tmp_path, kind, word):
    source = tmp_path / f"a.{kind.lower()}"
    noise(32, 32).save(source, save_all=True, append_images=[noise(32, 32).rotate(90)])
    done = resized(source, tmp_path / "b.webp")
    assert word in done.note
    assert pixels.probe(done.value.path).frames == 1


# --- untouched files and metadata
# ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_file_that_needs_nothing_is_copied_byte_for_byte(tmp_path, suffix):
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    pixels.save(noise(64, 48), source, quality=60)
    assert resized(source, target, max=64).value == ResizedImage(
        target, (64, 48), (64, 48), copied=True
    )
    assert target.read_bytes() == source.read_bytes()


def test_a_progressive_jpeg_is_copied_too(tmp_path):
    source = tmp_path / "a.jpg"
    noise(64, 48).save(source, progressive=True)
    assert resized(source, tmp_path / "b.jpg").value.copied


def gps() -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "SECRET"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "SECRET"
    return exif


PNG_TEXT = PngImagePlugin.PngInfo()
PNG_TEXT.add_text("parameters", "SECRET")


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("a.jpg", {"exif": gps()}),
        ("a.jpg", {"comment": "SECRET"}),
        ("a.jpg", {"xmp": b"SECRET"}),
        ("a.png", {"exif": gps()}),
        ("a.png", {"pnginfo": PNG_TEXT}),
        ("a.webp", {"exif": gps()}),
        ("a.webp", {"xmp": b"SECRET"}),
    ],
)
def test_a_small_enough_file_still_loses_its_metadata(tmp_path, name, extra):
    source, target = tmp_path / name, tmp_path / f"b-{name}"
    noise(32, 32).save(source, **extra)
    assert b"SECRET" in source.read_bytes()
    assert not resized(source, target).value.copied
    assert b"SECRET" not in target.read_bytes()


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_data_behind_the_image_is_left_behind(tmp_path, name):
    source, target = tmp_path / name, tmp_path / f"b-{name}"
    pixels.save(noise(32, 32), source)
    source.write_bytes(source.read_bytes() + b"SECRET motion photo\xff\xd9")
    resized(source, target)
    assert b"SECRET" not in target.read_bytes()


@pytest.mark.parametrize("mode", ["L", "1", "P", "I;16", "CMYK"])
def test_other_modes_are_written_as_rgb(tmp_path, mode):
    suffix = ".jpg" if mode == "CMYK" else ".png"
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    noise(16, 16).convert("L" if mode == "I;16" else mode).convert(mode).save(source)
    assert not resized(source, target).value.copied
    with Image.open(target) as written:
        assert written.mode == "RGB"


def test_a_profile_is_applied_not_copied(tmp_path):
    source, target = tmp_path / "a.png", tmp_path / "b.png"
    noise(16, 16).save(
        source, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    )
    assert not resized(source, target).value.copied
    with Image.open(target) as written:
        assert "icc_profile" not in written.info


def test_opaque_or_flattened_alpha_is_not_copied(tmp_path):
    source = tmp_path / "a.png"
    noise(16, 16, "RGBA").save(source)
    assert not resized(source, tmp_path / "b.png").value.copied
    assert resized(source, tmp_path / "c.png", alpha="keep").value.copied


def test_another_format_or_suffix_is_encoded_anew(tmp_path):
    png, liar = tmp_path / "a.png", tmp_path / "b.jpg"
    noise(16, 16).save(png)
    noise(16, 16).save(liar, "PNG")
    for source, target in ((png, tmp_path / "c.webp"), (liar, tmp_path / "c.jpg")):
        assert not resized(source, target).value.copied
        assert pixels.probe(target).format == pixels.WRITERS[target.suffix]


def test_a_damaged_file_is_never_copied(tmp_path):
    source, target = tmp_path / "a.jpg", tmp_path / "b.jpg"
    noise(64, 64).save(source)
    source.write_bytes(source.read_bytes()[:-200])
    (outcome,) = outcomes_of({source: target}, [ImageRecord(source, "", 64, 64)])
    with pytest.raises(InputError):
        pixels.load(source)
    assert isinstance(outcome, Failed)
    assert not target.exists()


def test_a_image_that_was_exchanged_since_the_scan_costs_itself(tmp_path):
    source, target = tmp_path / "a.png", tmp_path / "b.png"
    noise(64, 64).save(source)
    (outcome,) = outcomes_of({source: target}, [ImageRecord(source, "", 640, 64)])
    assert isinstance(outcome, Failed) and "was changed" in outcome.error and not target.exists()


# --- the set-up
# --------------------------------------------------------------------------------------------------


def test_folders_are_made_and_a_broken_image_costs_itself(tmp_path):
    good, broken = tmp_path / "a.png", tmp_path / "b.png"
    noise(16, 16).save(good)
    broken.write_bytes(b"not an image")
    targets = {path: tmp_path / "out" / "deep" / path.name for path in (broken, good)}
    outcomes = outcomes_of(targets, [ImageRecord(p, "", 16, 16) for p in targets])
    assert [type(o) for o in outcomes] == [Failed, Done]
    assert [p.name for p in (tmp_path / "out" / "deep").iterdir()] == ["a.png"]


def test_a_disk_that_takes_nothing_stops_the_run(tmp_path):
    source = tmp_path / "a.png"
    noise(16, 16).save(source)
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(StorageError):
        outcomes_of({source: tmp_path / "out" / "a.png"}, [recorded(source)])


def test_the_stage_travels_between_processes():
    stage = pickle.loads(pickle.dumps(partial(resize_image, options=ResizeOptions(max=512))))
    assert (stage.func, stage.keywords) == (resize_image, {"options": ResizeOptions(max=512)})


def test_shrinking_to_the_same_size_is_the_same_image():
    image = noise(16, 16)
    assert shrink(image, (16, 16)) is image


@pytest.mark.long
def test_an_interrupt_leaves_whole_files_only(tmp_path):
    for n in range(40):
        noise(900, 700).save(tmp_path / f"{n}.png", compress_level=1)
    script = """
import sys
from pathlib import Path
from datasetkit.options.images import ResizeOptions
from datasetkit.core.records import ImageRecord
from datasetkit.executors import local
from datasetkit.stages.resize import resize_image
folder, options = Path(sys.argv[1]), ResizeOptions(max=600)
records = [ImageRecord(p, "", 900, 700) for p in sorted(folder.glob("*.png"))]
def resize(record):
    return resize_image(record, (folder / "out" / record.path.name,), options=options)
for outcome in local.each(resize, records, name="resize", workers=2):
    print(flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        started = time.monotonic()
        child.wait(timeout=20)
    assert time.monotonic() - started < 5
    assert child.returncode != 0
    written = list((tmp_path / "out").iterdir())
    assert 1 <= len(written) < 40
    assert all(path.suffix == ".png" and pixels.load(path).size == (600, 467) for path in written)
