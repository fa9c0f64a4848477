"""Names that another system refuses are never given, and names that it takes for one are two to
nobody: layout, check, the planner and the trainer compare them with one function. A dataset that a
web interface of sd-scripts laid out is read like one of `dsk layout`.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from datasetkit import api
from datasetkit.core.errors import ConfigError
from datasetkit.core.files import fold
from datasetkit.dataset.layout import Concept, parse
from datasetkit.dataset.naming import name_fault, require_names
from datasetkit.images.listing import same_names
from datasetkit.outputs.folder import unique_name
from datasetkit.verbs.shared.folders_to_check import find_folders
from tests.cli.conftest import write_image

BASE = "pretrained_model_name_or_path=tiny"

REFUSED = (
    "a:b", "what?", "a*", 'a"b', "<sks>", "a>b", "a|b", "con", "AUX.x", "com1", "LPT²", "CONIN$",
    "x.", "x ", "a\tb", "a\x00b", "a/b", "a\\b", "",
)  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_windows_refuses_has_a_reason(name):
    assert name_fault(name)


@pytest.mark.long
@pytest.mark.parametrize("name", ["a:b", "what?", 'a"b', "a|b", "com1", "x."])
def test_no_command_gives_such_a_name(dsk, here, name):
    write_image(here / "imgs" / "a.png")
    (here / "imgs" / "a.txt").write_text("x, 1girl\n")
    write_image(here / "dataset" / "train" / "1_x" / "a.png")
    before = sorted(here.rglob("*"))
    for command in (
        ("layout", f"{name}=imgs"),
        ("layout", f"5_{name}=imgs"),
        ("layout", "x=imgs", "--out", name),
        ("rename", "imgs", name),
        ("resize", "imgs", name),
        ("resize", "imgs", f"new/{name}/more"),
        ("reg", "imgs", "--class", name, "--out", "dataset"),
        ("report", "imgs", "--out", name),
        ("export", "imgs", "--out", name),
        ("check", "imgs", "--csv", f"{name}/found.csv"),
    ):
        ended = dsk(*command)
        assert ended.code == 2 and "hint: " in ended.err, command
    (here / "dsk.toml").write_text(f"[[concept]]\nname = '{name}'\nfolder = 'imgs'\n")
    assert dsk("layout").code == 2
    assert dsk("run", "dsk.toml").code == 2
    (here / "dsk.toml").unlink()
    assert [path for path in sorted(here.rglob("*")) if ".dsk" not in path.parts] == before


def test_init_writes_a_name_that_layout_takes(dsk, here):
    write_image(here / "imgs" / "a.png")
    assert dsk("init", "--images", "imgs", "--trigger", "<sks>").code == 0
    text = (here / "dsk.toml").read_text(encoding="utf-8")
    assert 'name = "concept"' in text and 'trigger = ["<sks>"]' in text


def test_names_that_exist_are_left_as_they_are(tmp_path):
    (tmp_path / "a:b").mkdir()
    require_names(tmp_path / "a:b", tmp_path / "a:b" / "out", tmp_path / ".hidden")
    with pytest.raises(ConfigError):
        require_names(tmp_path / "a:b" / "c:d" / "out")
    assert parse("10_re:zero") == Concept(10, "re:zero")  # laid out on Linux by another program


ALIKE = (
    ("B.JPG", "b.jpg"),
    ("B.JPG", "b.png"),
    ("a.jpg", "a.png"),
    ("a.jpeg", "a.jpg"),
    ("\u00e9.png", "e\u0301.png"),
    ("\u00c9.png", "e\u0301.jpg"),
    ("Stra\u00dfe.png", "STRASSE.png"),
    ("\ufb01n.png", "FIN.png"),
)


def two_images(here: Path, names: tuple[str, str]) -> None:
    for shade, name in enumerate(names):
        for folder in (here / "imgs", here / "set" / "train" / "2_x"):
            image = write_image(folder / name, shade * 90)
            image.with_suffix(".txt").write_text("x, 1girl\n")


def left_out(dsk, *command: str) -> list[str]:
    ended = dsk(*command, "--json")
    assert ended.code == (3 if ended.json["failed"] else 0), (command, ended.err)
    assert all("dsk rename" in failed["hint"] for failed in ended.json["failed"])
    return [Path(failed["path"]).name for failed in ended.json["failed"]]


@pytest.mark.parametrize("names", ALIKE, ids=ascii)
def test_layout_and_reg_leave_out_what_check_finds(dsk, here, names):
    two_images(here, names)
    found = api.check(here / "imgs", api.CheckOptions(only=("same-stem",))).findings
    assert len(found) == 1 and found[0].path.name in names
    assert left_out(dsk, "layout", "x=imgs") == [found[0].path.name]
    assert len(list((here / "dataset" / "train").glob("*/*.txt"))) == 1
    assert left_out(dsk, "reg", "imgs", "--class", "girl") == [found[0].path.name]


@pytest.mark.parametrize(
    "command",
    [
        ("tag", "imgs"), ("rules", "imgs", "--exclude", "solo"), ("report", "imgs"),
        ("export", "imgs"), ("plan-repeats", "imgs"), ("plan-repeats", "set"),
        ("train", "set", "--dry-run", "--set", BASE),
    ],
    ids=" ".join,
)  # fmt: skip
def test_every_command_leaves_out_an_image_that_would_share_a_caption(dsk, here, command):
    two_images(here, ("a.jpg", "a.png"))
    assert left_out(dsk, *command) == ["a.png"]


def test_names_that_this_disk_tells_apart_are_two_here(dsk, here):
    two_images(here, ("B.jpg", "b.jpg"))
    if len(list((here / "imgs").glob("*.jpg"))) == 1:
        pytest.skip("this disk ignores case")
    for command in (
        ("tag", "imgs"),
        ("plan-repeats", "set"),
        ("train", "set", "--dry-run", "--set", BASE),
    ):
        assert left_out(dsk, *command) == []


def test_names_that_this_disk_takes_for_one_are_one(tmp_path):
    """A hard link plays the disk: the same file by both names."""
    write_image(tmp_path / "B.jpg")
    write_image(tmp_path / "b.png")
    (tmp_path / "b.jpg").hardlink_to(tmp_path / "B.jpg")
    images = [tmp_path / "B.jpg", tmp_path / "b.png"]
    assert same_names(images) == {images[1]: images[0]}


def test_check_finds_nothing_where_layout_refuses_nothing(dsk, here):
    for name in ("a.png", "b.png", "a_2.png", "a b.png", "ä.png", "a.b.png"):
        write_image(here / "imgs" / name, 7)
    assert api.check(here / "imgs", api.CheckOptions(only=("same-stem",))).findings == ()
    assert dsk("layout", "x=imgs").code == 0


@pytest.mark.parametrize("names", [("a.jpg", "a.png"), ("a.jpeg", "a.jpg")], ids=ascii)
def test_outputs_of_two_images_of_one_name_get_two_names_and_a_warning(dsk, here, names):
    for shade, name in enumerate(names):
        write_image(here / "imgs" / name, shade * 90)
    ended = dsk("resize", "imgs", "out")
    assert ended.code == 0 and "images of one name, which share a caption" in ended.err
    assert "dsk rename makes the names unique" in ended.err
    assert api.check(here / "out", api.CheckOptions(only=("same-stem",))).findings == ()
    assert len([p for p in (here / "out").iterdir() if p.is_file()]) == 2


def test_two_concepts_whose_names_some_disks_take_for_one_are_refused(dsk, here):
    write_image(here / "a" / "a.png")
    write_image(here / "b" / "b.png")
    assert dsk("layout", "Cat=a", "cat=b").code == 2


# ---- laid out by another program
# --------------------------------------------------------------------------------------------------


@pytest.fixture
def kohya(here):
    """A dataset as the web interface of sd-scripts lays it out."""
    for n in range(3):
        image = write_image(here / "kohya" / "img" / "40_sks girl" / f"{n}.png", n)
        image.with_suffix(".txt").write_text("sks girl, solo\n")
        write_image(here / "kohya" / "reg" / "1_girl" / f"{n}.png", 100 + n)
    for name in ("log", "model"):
        (here / "kohya" / name).mkdir()
    return here / "kohya"


@pytest.mark.long
@pytest.mark.parametrize("place", [".", "img"])
def test_a_dataset_with_img_and_reg_is_read_like_one_with_train_and_reg(dsk, kohya, place):
    folder = kohya / place
    plan = api.plan_training(folder)
    assert [(u.subset.name, u.subset.is_reg) for u in plan.subsets] == [
        ("sks girl", False), ("girl", True),
    ]  # fmt: skip
    checked = api.check(folder, api.CheckOptions())
    assert [(p.name, p.repeats, p.is_reg) for p in checked.places] == [
        ("sks girl", 40, False), ("girl", 1, True),
    ]  # fmt: skip
    assert not [f for f in checked.findings if f.check in ("folder-name", "unseen")]
    planned = api.plan_repeats(folder, api.PlanRepeatsOptions())
    assert planned.origin == "laid out" and planned.plan.reg is not None
    assert api.report(folder, api.ReportOptions(out=str(kohya / "report"))).images == 3
    ended = dsk("export", folder, "--out", kohya)
    assert ended.code == 0
    text = (kohya / "dataset.toml").read_text(encoding="utf-8")
    assert 'image_dir = "img/40_sks girl"' in text and 'image_dir = "reg/1_girl"' in text


def test_a_folder_of_images_named_img_is_a_folder_of_images(dsk, here):
    write_image(here / "photos" / "img" / "a.png")
    write_image(here / "photos" / "b.png")
    write_image(here / "photos" / "reg" / "1_girl" / "b.png", 5)
    assert api.check(here / "photos", api.CheckOptions()).images == 1
    assert api.check(here / "photos" / "img", api.CheckOptions()).images == 1
    shutil.rmtree(here / "photos" / "img")
    assert dsk("check", "photos").code == 0


def test_a_reg_set_is_made_for_it_in_place(dsk, kohya, here):
    shutil.rmtree(kohya / "reg")
    write_image(here / "girls" / "g.png")
    assert dsk("reg", "girls", "--class", "girl", "--out", kohya).code == 0
    assert (kohya / "reg" / "120_girl").is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("name", ["a:b", "what?", "<sks>", "a|b"])
def test_repeats_of_an_existing_folder_change_whatever_its_concept_is_called(dsk, here, name):
    write_image(here / "dataset" / "train" / f"1_{name}" / "a.png")
    ended = dsk("plan-repeats", "dataset", "--steps", "50", "--apply")
    assert ended.code == 0, ended.err
    assert [path.name for path in (here / "dataset" / "train").iterdir()] == [f"5_{name}"]
    assert dsk("undo", "dataset", "--yes").code == 0
    assert (here / "dataset" / "train" / f"1_{name}" / "a.png").is_file()


@pytest.mark.parametrize(("train", "reg"), [("IMG", "REG"), ("Img", "Reg"), ("TRAIN", "Reg")])
def test_the_folders_of_a_dataset_are_read_in_any_case(train, reg, dsk, here):
    for folder in (f"{train}/2_sks", f"{reg}/1_1girl"):
        path = write_image(here / "dataset" / folder / "a.png", len(folder))
        path.with_suffix(".txt").write_text("sks, 1girl\n")
    for where in ("dataset", f"dataset/{train}"):
        plan = dsk("plan-repeats", where, "--json").result["plan"]
        assert plan["concepts"][0]["repeats"] == 2 and plan["reg"], where
    assert [f.is_reg for f in find_folders(Path("dataset")).folders] == [False, True]
    base = ("--set", "pretrained_model_name_or_path=tiny")
    assert dsk("train", "dataset", "--dry-run", *base).code == 0


def test_a_plain_folder_in_capitals_is_no_dataset(dsk, here):
    write_image(here / "IMG" / "a.png")
    write_image(here / "IMG" / "old" / "b.png")
    assert dsk("check", "IMG", "--json").code in (0, 3)
    assert "IMG" in dsk("check", ".").err


@pytest.mark.long
@pytest.mark.parametrize(
    ("below", "hint"),
    [
        ("new/train/2_sks", "new"),
        ("new/IMG/2_sks", "new"),
        ("new/2_sks", "new"),
        ("a/new/train/2_sks", "a/new"),
        ("photos", "photos"),
        ("a/photos", "a/photos"),
    ],
)
def test_a_folder_above_a_dataset_names_it(below, hint, dsk, here):
    image = write_image(here / "top" / below / "a.png")
    image.with_suffix(".txt").write_text("sks, 1girl, solo\n")
    for command in ("check", "report", "export", "plan-repeats"):
        ended = dsk(command, "top")
        assert ended.code == 10
        named = re.search(r"these hold some: (\S+?)[;\s]", ended.err + " ")
        assert named and named[1].endswith(f"top/{hint}"), ended.err
        assert dsk(command, named[1]).code == 0


# ---- outputs on a disk that ignores case


def test_outputs_whose_names_differ_in_case_are_two_files_on_any_disk(dsk, here):
    for name in ("imgs/a.png", "imgs/A.bmp", "imgs/b.png"):
        image = here / name
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), len(name)).save(image)
    assert dsk("resize", "imgs", "out", "--max", "32").code == 0
    made = [p for p in (here / "out").rglob("*") if p.suffix == ".png" and ".dsk" not in p.parts]
    folded = {fold(str(path.with_suffix(""))) for path in made}
    assert len(made) == len(folded) == 3
    assert dsk("resize", "imgs", "out", "--max", "32").code == 0  # and nothing moves
    assert {p for p in (here / "out").rglob("*.png") if ".dsk" not in p.parts} == set(made)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.png", "A.png"], ["a.png", "A_2.png"]),
        (["a.png", "A.jpg", "a.jpg"], ["a.png", "A_2.jpg", "a_3.jpg"]),
        (["\u00e9.png", "E\u0301.png"], ["\u00e9.png", "E\u0301_2.png"]),
        (["x/a.png", "X/A.png"], ["x/a.png", "X/A_2.png"]),
        (["a.png", "b.png"], ["a.png", "b.png"]),
    ],
)
def test_the_names_of_outputs_are_compared_as_disks_that_ignore_case_do(names, expected):
    taken: set[str] = set()
    assert [unique_name(Path(name), taken).as_posix() for name in names] == expected
