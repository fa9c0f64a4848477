"""No file of a folder is passed over in silence: what is not read is counted and named by every
command, and an image is never called clean, stray or missing because of its suffix.
"""

from __future__ import annotations

import os
import shutil
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from datasetkit import api
from datasetkit.core import file_kinds
from datasetkit.core.errors import InputError
from datasetkit.core.install import install_command
from datasetkit.images import listing, pixels
from datasetkit.images.listing import list_images
from datasetkit.options.train import TrainOptions
from datasetkit.project.store import Store
from datasetkit.verbs.review.dataset import ReviewDataset
from tests.cli.conftest import write_image
from tests.heif import HEIC
from tests.regressions import bombs
from trainer.plan.plan import find_subsets, make_plan

BASE = "pretrained_model_name_or_path=tiny"

MP4 = b"\0\0\0\x18ftypisom\0\0\0\0isomiso2"
JXL = b"\0\0\0\x0cJXL \r\n\x87\n"


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch):
    """Let Pillow be without its plugins, as it is without the extra `formats`."""
    monkeypatch.setattr(file_kinds, "has_plugin", lambda kind: False)
    monkeypatch.setattr(pixels, "has_plugin", lambda kind: False)
    for cached in (file_kinds.readable_suffixes, pixels._load_plugin):
        cached.cache_clear()
    yield
    for cached in (file_kinds.readable_suffixes, pixels._load_plugin):
        cached.cache_clear()


def jpeg(shade: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (64, 48), (shade, 9, 9)).save(file, "JPEG")
    return file.getvalue()


LEFT_OUT = {
    "IMG_0001.HEIC": (HEIC, "HEIC"),
    "IMG_0002.heif": (HEIC, "HEIC"),
    "x.jxl": (JXL, "JXL"),
    "clip.mp4": (MP4, "video"),
    "clip2.MOV": (b"", "video"),
    "photos.zip": (b"PK\3\4", "archive"),
    "raw.CR2": (b"II*\0", "camera raw"),
    "layers.psd": (b"8BPS", "PSD"),
    "noext": (jpeg(1), "JPEG without a suffix"),
    "half.crdownload": (jpeg(2), "JPEG named .crdownload"),
    "b.jpg_large": (jpeg(3), "JPEG named .jpg_large"),
    "phone": (HEIC, "HEIC without a suffix"),
    "film.dat": (MP4, "video"),
    ".hidden.png": (b"", "hidden image"),
    "Thumbs.db": (b"", "system file"),
    "desktop.ini": (b"", "system file"),
    "._a.jpg": (b"", "system file"),
    ".DS_Store": (b"", "system file"),
}
TAKEN = ("a.jpg", "b.jfif", "c.jpe", "d.jfi", "e.pjpeg", "f.JFIF", "g.apng")
SYSTEM_FOLDERS = ("@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", "lost+found", ".thumbnails")


def mixed(folder: Path) -> Path:
    """A folder with a file of every kind; the images that can be read have captions."""
    folder.mkdir(parents=True)
    for number, name in enumerate(TAKEN):
        (folder / name).write_bytes(jpeg(20 * number))
        (folder / name).with_suffix(".txt").write_text("sylvie, 1girl, solo\n")
    for name, (data, _) in LEFT_OUT.items():
        (folder / name).write_bytes(data)
    for name in SYSTEM_FOLDERS:
        (folder / name / "a.jpg").mkdir(parents=True)
        (folder / name / "a.jpg" / "SYNOPHOTO_THUMB_1.jpg").write_bytes(jpeg(99))
        (folder / name / "IMG.jpg").write_bytes(jpeg(98))
    (folder / "notes.md").write_text("not an image")
    (folder / "meta.json").write_text("{}")
    return folder


def named(items) -> dict[str, str]:
    return {item.path.name: item.kind for item in items}


@pytest.mark.parametrize("recursive", [False, True])
def test_each_file_is_an_image_a_caption_another_file_or_left_out_with_a_kind(tmp_path, recursive):
    folder = mixed(tmp_path / "mixed")
    listed = list_images(folder, recursive=recursive)
    assert {path.name for path in listed.images} == set(TAKEN)
    assert {path.suffix for path in listed.captions} == {".txt"}
    assert {path.name for path in listed.other} == {"notes.md", "meta.json"}
    kinds = {name: kind for name, (_, kind) in LEFT_OUT.items()}
    assert named(listed.left_out) == kinds | dict.fromkeys(SYSTEM_FOLDERS, "system folder")
    assert listed.failed == ()
    people = [item for item in listed.left_out if item.group != "system"]
    assert all(item.advice for item in people)
    counted = len((*listed.images, *listed.captions, *listed.other, *listed.left_out))
    assert counted == len(list(folder.iterdir()))


COMMANDS = (
    ("rename", "mixed", "x", "--dry-run"),
    ("resize", "mixed"),
    ("cutout", "mixed", "--dry-run"),
    ("tag", "mixed"),
    ("tag", "mixed", "-r"),
    ("rules", "mixed", "--exclude", "solo"),
    ("check", "mixed"),
    ("check", "mixed", "--as", "sd-scripts"),
    ("layout", "sylvie=mixed"),
    ("report", "mixed"),
    ("export", "mixed"),
    ("import", "mixed"),
    ("plan-repeats", "mixed"),
    ("check", "laid-out"),
    ("report", "laid-out"),
    ("export", "laid-out"),
    ("plan-repeats", "laid-out"),
    ("train", "laid-out", "--dry-run", "--set", BASE),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_counts_what_it_leaves_out_and_says_what_to_do(dsk, here, command):
    mixed(here / "mixed")
    mixed(here / "laid-out" / "train" / "2_sylvie")
    ended = dsk(*command)
    assert ended.code == 0, ended.err
    [line] = [line for line in ended.err.splitlines() if " left out: " in line]
    assert line.startswith("warning: 14 files left out: ")
    for part in ("3 videos", "2 HEIC", "1 JXL", "1 JPEG without a suffix", "1 archive"):
        assert part in line
    assert install_command("formats") in line and "djxl" in line
    assert "6 system folders" in ended.err
    data = dsk(*command, "--json")
    assert {item["kind"] for item in data.json["unused_files"]} >= {"HEIC", "JXL", "video"}
    assert any("14 files left out" in text for text in data.json["warnings"])


@pytest.mark.parametrize("folder", ["imgs", "laid-out"])
def test_nothing_is_said_where_nothing_is_left_out(dsk, here, folder):
    write_image(here / "imgs" / "a.png")
    write_image(here / "laid-out" / "train" / "1_x" / "a.png")
    ended = dsk("check", folder, "--json")
    assert ended.json["unused_files"] == [] and "left out" not in ended.err


@pytest.mark.parametrize(
    "command",
    [
        ("tag", "only"), ("resize", "only"), ("rename", "only", "x"), ("check", "only"),
        ("layout", "x=only"), ("report", "only"), ("plan-repeats", "only"), ("import", "only"),
        ("rules", "only", "--exclude", "x"), ("export", "only"),
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_a_folder_without_a_readable_image_names_what_is_there(dsk, here, command):
    (here / "only").mkdir()
    for name in ("a.HEIC", "b.heic", "c.jxl"):
        (here / "only" / name).write_bytes(HEIC)
    ended = dsk(*command)
    assert ended.code == 10
    assert "holds no images" in ended.err and "it has 2 HEIC, 1 JXL" in ended.err
    assert f"hint: HEIC: {install_command('formats')} reads it" in ended.err
    assert "djxl (libjxl) converts it to PNG" in ended.err


def test_training_names_a_folder_without_a_readable_image(dsk, here):
    write_image(here / "set" / "train" / "2_good" / "a.png")
    (here / "set" / "train" / "3_phone").mkdir(parents=True)
    (here / "set" / "train" / "3_phone" / "a.HEIC").write_bytes(HEIC)
    ended = dsk("train", "set", "--dry-run", "--set", BASE)
    assert ended.code == 0 and "3_phone has no images; 1 file left out: 1 HEIC" in ended.err
    for command in ("plan-repeats", "report", "export", "check"):
        write_image(here / "set" / "train" / "2_good" / "a.png")
        (here / "set" / "train" / "2_good" / "a.txt").write_text("x\n")
        assert "1 file left out: 1 HEIC (a.HEIC)" in dsk(command, "set").err
    shutil.rmtree(here / "set" / "train" / "2_good")
    alone = dsk("train", "set", "--dry-run", "--set", BASE)
    assert alone.code == 10 and "1 HEIC" in alone.err


def test_check_reports_them_and_never_calls_their_captions_stray(dsk, here):
    folder = mixed(here / "mixed")
    for name in ("IMG_0001.txt", "clip.txt", "noext.txt", "raw.caption", "x.jxl.txt"):
        (folder / name).write_text("sylvie, 1girl, solo\n")
    (folder / "of nothing.txt").write_text("my own words\n")
    result = api.check(folder, api.CheckOptions(only=("unsupported", "caption-stray")))
    found: dict[str, set[str]] = {"unsupported": set(), "caption-stray": set()}
    for finding in result.findings:
        found[finding.check].add(finding.path.name)
    assert found["caption-stray"] == {"of nothing.txt"}
    assert found["unsupported"] == {
        name for name, (_, kind) in LEFT_OUT.items() if kind != "system file"
    }
    assert "remove" not in next(s.step for s in result.summaries if s.check == "caption-stray")
    assert dsk("check", folder, "--only", "unsupported", "--strict").code == 20


@pytest.mark.parametrize(
    ("data", "what"),
    [(HEIC, "it is HEIC"), (JXL + bytes(50), "it is JXL"), (MP4 + bytes(50), "it is video")],
)
def test_a_file_with_the_suffix_of_another_kind_is_named_by_its_content(tmp_path, data, what):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(InputError, match=what) as error:
        pixels.probe(tmp_path / "a.jpg")
    assert error.value.hint


def test_a_text_or_a_side_car_is_not_taken_for_an_image(tmp_path):
    for name, data in {
        "BMP.readme": b"BMW is a car, and this is a text of a few words",
        "a.jpg.part": b"", "tags": b"1girl, solo", "a.foo": b"\xff", "b.foo": b"RIFF....",
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(data)
    os.mkfifo(tmp_path / "pipe")
    listed = list_images(tmp_path)
    assert listed.left_out == () and len(listed.other) == 6


@pytest.mark.parametrize("name", ["zeros.jpg", "chunks.png", "pages.tif", "hole.gif"])
def test_listing_costs_a_few_bytes_of_a_hostile_file(tmp_path, name):
    path = tmp_path / Path(name).with_suffix(".unknown")
    bombs.BOMBS[name][0](path)
    [item] = list_images(tmp_path).left_out
    assert item.group == "name"


def test_first_bytes_are_read_only_where_the_name_does_not_tell(tmp_path, monkeypatch):
    for name in ("a.jpg", "a.txt", "b.caption", "c.json", "d.npz", "e.heic", "f.mp4", "g.unknown"):
        (tmp_path / name).write_bytes(b"x")
    read: list[str] = []

    def first_bytes(entry):
        read.append(entry.name)
        return b""

    monkeypatch.setattr(listing, "_first_bytes", first_bytes)
    list_images(tmp_path)
    assert read == ["g.unknown"]


def test_planner_and_trainer_count_the_same_images(dsk, here):
    folder = mixed(here / "set" / "train" / "2_sylvie")
    for name in ("a.png", "b.png", "z.png", "z.webp"):
        write_image(folder / name, 7)
    subsets, _ = find_subsets(here / "set", TrainOptions())
    plan = make_plan(subsets, TrainOptions())
    planned = api.plan_repeats(here / "set", api.PlanRepeatsOptions())
    assert len(plan.images) == planned.plan.concepts[0].images == len(TAKEN) + 1
    assert {f.path.name for f in plan.failed} == {f.path.name for f in planned.failed}


@pytest.mark.parametrize("name", SYSTEM_FOLDERS)
def test_folders_of_systems_are_no_concepts_and_hold_no_images_to_search(dsk, here, name):
    write_image(here / "set" / "train" / "2_x" / "a.png")
    write_image(here / "set" / "train" / name / "b.png")
    write_image(here / "set" / "train" / "2_x" / name / "c.png")
    result = api.check(here / "set", api.CheckOptions(only=("unseen", "folder-name")))
    assert result.findings == () and result.images == 1
    ended = dsk("train", "set", "--dry-run", "--set", BASE)
    assert ended.code == 0 and "trainers ignore" not in ended.err


def test_the_review_page_says_what_is_left_out(tmp_path):
    folder = mixed(tmp_path / "mixed")
    dataset = ReviewDataset(folder)
    with Store.open_copy(folder) as store:
        dataset.load(store)
    assert {image.path.name for image in dataset.all()} == set(TAKEN)
    assert named(dataset.left_out)["IMG_0001.HEIC"] == "HEIC"
    assert file_kinds.summary(dataset.left_out).startswith("14 files left out: ")


def test_images_that_cannot_be_read_are_found_where_trainers_do_not_look(here):
    write_image(here / "set" / "train" / "2_x" / "a.png")
    for name in ("2_x/more", "3-phone", "."):
        (here / "set" / "train" / name).mkdir(exist_ok=True)
        (here / "set" / "train" / name / "b.HEIC").write_bytes(HEIC)
    result = api.check(here / "set", api.CheckOptions(only=("unseen", "folder-name")))
    assert {(f.check, f.path.name) for f in result.findings} == {
        ("unseen", "more"), ("unseen", "train"), ("folder-name", "3-phone"),
    }  # fmt: skip


# ---- subfolders that are not searched
# --------------------------------------------------------------------------------------------------


SUBFOLDERS = "2 subfolders with images not searched: more, old"
VERBS = [
    ("tag", "imgs", "--tagger", "basic"),
    ("rules", "imgs", "--trigger", "sks"),
    ("import", "imgs"),
    ("resize", "imgs"),
    ("rename", "imgs", "x"),
    ("faces", "list", "imgs"),
    ("faces", "crop", "imgs"),
    ("layout", "2_sks=imgs"),
    ("plan-repeats", "imgs"),
    ("report", "imgs"),
    ("export", "imgs"),
    ("reg", "imgs", "--class", "1girl"),
]


def with_subfolders(here: Path) -> None:
    for name in ("a.png", "more/b.png", "old/2019/may/c.jpg"):
        write_image(here / "imgs" / name, len(name), (64, 64))
    (here / "imgs" / "a.txt").write_text("sks, 1girl\n")
    for name in ("masks", ".hidden", "empty"):
        (here / "imgs" / name).mkdir()
    write_image(here / "imgs" / "masks" / "a.png")
    (here / "imgs" / "a.json").write_text('{"tags": "1girl"}')
    write_image(here / "dataset" / "train" / "1_sks" / "a.png")


@pytest.mark.parametrize("command", VERBS, ids=" ".join)
def test_every_command_names_the_subfolders_that_it_does_not_search(command, dsk, here):
    with_subfolders(here)
    ended = dsk(*command, "--json")
    assert ended.code in (0, 3), ended.err
    [line] = [line for line in ended.json["warnings"] if "subfolder" in line]
    assert line.startswith(SUBFOLDERS)
    assert {Path(i["path"]).name for i in ended.json["unused_files"]} == {"more", "old"}


@pytest.mark.long
def test_searched_subfolders_are_not_named_nor_are_those_that_dsk_makes(dsk, here):
    with_subfolders(here)
    assert SUBFOLDERS in dsk("tag", "imgs", "--tagger", "basic").err
    assert "not searched" not in dsk("tag", "imgs", "-r", "--tagger", "basic").err
    assert "not searched" not in dsk("check", "imgs").err  # it is a finding there
    write_image(here / "new" / "a.png", 7, (64, 64)).with_suffix(".txt").write_text("sks, hat\n")
    os.chdir(here / "new")
    for command in (
        ("resize", ".", "out"),
        ("layout", "2_sks=."),
        ("export", "dataset"),
        ("report", ".", "--plot"),
        ("rules", ".", "--trigger", "sks"),
    ):
        ended = dsk(*command)
        assert ended.code == 0 and "not searched" not in ended.err, (command, ended.err)


def test_a_run_in_the_folder_of_images_names_none_of_its_own_folders(dsk, here):
    write_image(here / "imgs" / "a.png", 7, (64, 64))
    dsk("init", "imgs", "--trigger", "sks")
    for _ in range(2):
        assert "not searched" not in dsk("run", "imgs").err
