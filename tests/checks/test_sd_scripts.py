"""`dsk check --as sd-scripts`: the captions and buckets that this trainer would use, by the rules
of its own code.
"""

import csv
import io

import pytest
from PIL import Image

from datasetkit import api
from datasetkit.checks.sd_scripts import candidates, is_listed, read_caption
from tests.checks.folders import caption, laid_out, shapes, sound, write_image


@pytest.mark.parametrize(
    ("data", "text", "stops"),
    [
        (b"sks, 1girl\n", "sks, 1girl", ""),
        (b"  sks , 1girl  \r\nsecond line\n", "sks , 1girl", ""),
        (b"sks\rsecond\n", "sks", ""),
        (b"\xef\xbb\xbfsks\n", "\ufeffsks", ""),
        (b"\nsecond line\n", "", ""),
        ("sks\u2028not a line\n".encode(), "sks\u2028not a line", ""),
        (b"", "", "a.txt is empty (0 bytes)"),
        (b"caf\xe9", "", "a.txt is not UTF-8"),
    ],
)
def test_the_caption_is_the_unchanged_first_line(data, text, stops, tmp_path):
    (tmp_path / "a.txt").write_bytes(data)
    read = read_caption(tmp_path / "a.png", "sks girl")
    assert (read.text, read.stops, read.source) == (text, stops, tmp_path / "a.txt")


def test_without_a_caption_file_the_folders_name_is_trained(tmp_path):
    assert read_caption(tmp_path / "a.png", "sks girl").text == "sks girl"
    (tmp_path / "a.caption").write_text("never read", encoding="utf-8")
    assert read_caption(tmp_path / "a.png", "").text == ""


def test_face_crops_use_the_caption_of_the_shorter_stem(tmp_path):
    (tmp_path / "a_b.txt").write_text("of the whole image\n", encoding="utf-8")
    assert read_caption(tmp_path / "a_b_1_2_3_4.png", "x").text == "of the whole image"
    assert read_caption(tmp_path / "a_b_2_3_4.png", "x").text == "x"
    assert candidates(tmp_path / "a.png")[0] == tmp_path / "a.txt"


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("a.png", True),
        ("a.PNG", True),
        ("a.Png", False),
        ("a.jpeg", True),
        ("a.gif", False),
        ("a.avif", False),
    ],
)
def test_images_are_listed_by_their_suffix_in_lower_or_upper_case(name, listed, tmp_path):
    assert is_listed(tmp_path / name) is listed


@pytest.mark.parametrize(
    ("size", "resolution", "bucket", "resized"),
    [  # TRAINING 2.2, values obtained by running sd-scripts
        ((1920, 1080), 512, (640, 384), (683, 384)),
        ((1000, 1200), 512, (448, 576), (480, 576)),
        ((640, 480), 512, (576, 448), (597, 448)),
        ((833, 1250), 1024, (832, 1216), (832, 1248)),
        ((4000, 500), 1024, (2048, 256), (2048, 256)),
    ],
)
def test_the_buckets_are_those_of_sd_scripts(size, resolution, bucket, resized, tmp_path):
    write_image(tmp_path / "a.png", 1, size)
    options = api.CheckOptions(resolution=resolution)
    (seen,) = api.as_sd_scripts(tmp_path, options).images
    (assigned,) = seen.buckets
    assert (seen.size, assigned.bucket, assigned.resized) == (size, bucket, resized)


def test_a_project_that_fits_its_own_buckets_shows_theirs(tmp_path):
    write_image(tmp_path / "a.png", 1, (300, 200))
    (tmp_path / "dsk.toml").write_text('[train]\nbucket_selector = "fit"\n', encoding="utf-8")
    (seen,) = api.as_sd_scripts(tmp_path, api.CheckOptions()).images
    assert [b.bucket for b in seen.buckets] == [(640, 384)]  # fit: 576 x 384


def test_an_exif_turn_is_ignored_as_the_trainer_ignores_it(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    shapes(1, (640, 480)).save(tmp_path / "a.png", exif=exif)
    (seen,) = api.as_sd_scripts(tmp_path, api.CheckOptions()).images
    assert (seen.size, seen.buckets[0].bucket) == ((640, 480), (576, 448))


def test_a_dataset_is_shown_folder_by_folder_with_its_problems(tmp_path):
    root = laid_out(tmp_path / "set")
    folder = root / "train" / "3_sks"
    (folder / "b.txt").write_bytes(b"")
    (folder / "c.txt").unlink()
    (folder / "d.png").rename(folder / "d.Png")
    (folder / "e.jpg").write_bytes(b"nothing")
    (root / "train" / "3-dog").mkdir()
    write_image(root / "train" / "3-dog" / "f.png", 30)
    view = api.as_sd_scripts(root, api.CheckOptions())
    seen = {p.path.name: p for p in view.images}
    assert [p.concept for p in view.images] == ["sks"] * 5 + ["girl"] * 4
    assert (seen["a.png"].caption, seen["a.png"].repeats, seen["a.png"].is_reg) == (
        "sks, 1girl, smile",
        3,
        False,
    )
    assert seen["b.png"].trouble == "stops: b.txt is empty (0 bytes)"
    assert (seen["c.png"].caption, seen["c.png"].trouble) == ("sks", "")
    assert seen["d.Png"].trouble.startswith("skipped: .Png")
    assert seen["e.jpg"].trouble.startswith("stops: ")
    assert (seen["11.png"].caption, seen["11.png"].is_reg) == ("girl", True)
    assert len(view.ignored) == 1 and "3-dog" in view.ignored[0]


def test_the_view_can_be_written_as_a_table(tmp_path):
    sound(tmp_path / "imgs")
    caption(tmp_path / "imgs" / "b.png", 'sks, "quoted", =_=')
    result = api.as_sd_scripts(tmp_path / "imgs", api.CheckOptions(csv=str(tmp_path / "view.csv")))
    assert result.files == (tmp_path / "view.csv",)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "view.csv").read_text(encoding="utf-8"))))
    assert [row["path"] for row in rows] == ["a.png", "b.png", "c.png", "d.png"]
    assert rows[1]["caption"] == 'sks, "quoted", =_=' and rows[1]["bucket"] == "512x512"
    api.undo(tmp_path / "imgs")
    assert not (tmp_path / "view.csv").exists()
