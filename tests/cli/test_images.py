"""`dsk cutout` and `dsk faces` on the command line, and as steps of a run."""

import json
import re
import sys
from dataclasses import fields

import pytest
from PIL import Image

from datasetkit.core.install import install_command
from datasetkit.options import toml
from datasetkit.options.declare import declared
from datasetkit.options.images import FacesOptions
from datasetkit.stages import cutout as stage
from datasetkit.verbs import cutout as cutting
from datasetkit.vision import faces, subject
from tests.cli.commands import commands, options
from tests.cli.conftest import captions, snapshot, write_image
from tests.extras import require_rembg
from tests.safety.finders import DETECTOR, MiddleFace, MiddleSubject

SIZE = (300, 240)


@pytest.fixture(autouse=True)
def middle(monkeypatch):
    """Let subjects and faces be in the middle of every image, at once."""
    monkeypatch.setattr(stage, "SubjectFinder", MiddleSubject)
    monkeypatch.setattr(cutting, "require_rembg", lambda: None)
    monkeypatch.setitem(faces.DETECTORS, "blazeface", MiddleFace)
    monkeypatch.setitem(faces.DETECTORS, DETECTOR, MiddleFace)


@pytest.fixture
def imgs(here):
    for n in (1, 2, 3):
        write_image(here / "imgs" / f"a{n}.png", 40 * n, SIZE).with_suffix(".txt").write_text(
            "sks, lips, forest\n"
        )
    return here / "imgs"


COMMANDS = [
    ("cutout", "imgs"),
    ("cutout", "imgs", "out", "--bg", "random", "--feather", "2", "--keep-alpha"),
    ("faces", "list", "imgs", "--review", "sheet.png"),
    ("faces", "crop", "imgs", "out", "--min-size", "16"),
    ("faces", "erase", "imgs", "--fill", "paint"),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_dry_run_changes_nothing_and_the_command_something(dsk, imgs, arguments):
    before = snapshot(imgs.parent)
    ended = dsk(*arguments, "--dry-run", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["dry_run"] is True and snapshot(imgs.parent) == before
    ended = dsk(*arguments)
    assert ended.code == 0 and ended.out, ended.err
    assert snapshot(imgs.parent, all_of_it=False) != before


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_broken_image_is_named_and_json_is_one_document(dsk, imgs, arguments):
    (imgs / "broken.jpg").write_bytes(b"nothing")
    ended = dsk(*arguments)
    assert ended.code == 3 and "broken.jpg" in ended.err and "broken.jpg" not in ended.out
    ended = dsk(*arguments, "--json")
    assert ended.code == 3 and ended.json["verb"] == " ".join(
        arguments[: 1 + (arguments[0] == "faces")]
    )
    assert ended.out.isascii()


def test_cutout_says_what_it_did_with_model_and_licence(dsk, imgs):
    ended = dsk("cutout", "imgs", "cut")
    assert "cut out 3 images (u2netp, cpu) into cut; 0 up to date" in ended.out
    # The captions are an entry of their own, after that of the images.
    assert "(history 1; to undo: dsk undo cut --to 1)" in ended.out
    assert "(history 2; to undo: dsk undo cut)" in ended.out
    assert (
        "licence: Apache-2.0, shipped" in ended.out
        and "rewrote 3 captions to match the background" in ended.out
    )
    assert "cut: 3 images, all up to date" in dsk("cutout", "imgs", "cut").out


def test_the_dry_run_of_cutout_shows_each_captions_difference(dsk, imgs):
    ended = dsk("cutout", "imgs", "--dry-run")
    assert "a1.png: -forest +white background +simple background" in ended.out
    assert "would cut out 3 images into imgs-cutout; 0 up to date" in ended.out


def test_faces_list_as_json_has_boxes_and_scores(dsk, imgs):
    found = dsk("faces", "list", "imgs", "--json").result["images"]
    assert [one["path"] for one in found] == ["imgs/a1.png", "imgs/a2.png", "imgs/a3.png"]
    [face] = found[0]["faces"]
    assert (face["left"], face["top"], face["right"], face["bottom"]) == (120, 72, 180, 144)
    assert face["score"] == pytest.approx(0.9, abs=1e-3)


WRONG = [
    (("cutout", "imgs", "--bg", "gray"), 2, "is not a colour"),
    (("cutout", "imgs", "--min-area", "0.7"), 2, "min_area"),
    (("cutout", "imgs", "imgs"), 2, "the input folder itself"),
    (("cutout", "nowhere", "--model", "u2nett"), 2, "did you mean u2net"),
    (("cutout", "nowhere"), 10, "does not exist"),
    (("cutout", "empty"), 10, "holds no images"),
    (("faces", "crop", "imgs", "--threshold", "0.1"), 2, "threshold"),
    (("faces", "erase", "imgs", "--fill", "red"), 2, "--fill"),
    (("faces", "list", "nowhere"), 10, "does not exist"),
    (("faces", "list", "imgs", "--detector", "haar"), 2, "one of: blazeface"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "message"), WRONG, ids=[" ".join(wrong[0]) for wrong in WRONG]
)
def test_wrong_input_is_refused_with_a_line_and_a_hint(dsk, imgs, arguments, code, message):
    require_rembg()
    (imgs.parent / "empty").mkdir()
    ended = dsk(*arguments)
    assert ended.code == code and message in ended.err and ended.out == ""
    assert ended.err.startswith("error: ") and "hint: " in ended.err


def test_without_rembg_the_extra_is_named(dsk, imgs, monkeypatch):
    monkeypatch.setattr(cutting, "require_rembg", subject.require_rembg)
    monkeypatch.setitem(sys.modules, "rembg", None)
    ended = dsk("cutout", "imgs")
    assert ended.code == 12 and install_command("cutout", "cpu") in ended.err


def test_the_commands_of_faces_have_together_an_option_for_each_key_of_their_table():
    have = {
        o
        for name, command in commands().items()
        if name.startswith("faces ")
        for o in options(command)
    }
    keys = {f.name for f in fields(FacesOptions)} - {"do"}
    assert {"--" + key.replace("_", "-") for key in keys} <= have


def test_the_printed_defaults_of_cutout_and_faces_are_those_of_the_options():
    for name in ("cutout", "faces crop", "faces erase", "faces list"):
        tables = (name.split()[0], "executor")
        defaults = {d.name: d for table in tables for d in declared(toml.options_class(table))}
        for param in commands()[name].params:
            if isinstance(param.show_default, str) and param.name != "out":
                d = defaults[param.name]
                value = f"{d.default:g}" if isinstance(d.default, float) else str(d.default)
                assert param.show_default == (d.about.shown or value), (name, param.name)
                if param.name != "margin":
                    assert re.split("[,:]", param.show_default)[0] == value, (name, param.name)


# ---- in a run
# --------------------------------------------------------------------------------------------------

RUN = """\
[run]
steps = {steps}
[[concept]]
folder = "imgs"
trigger = ["sks"]
[faces]
do = "{do}"
min_size = 16
review = "faces.png"
[cutout]
bg = "black"
"""


def project(here, steps, do="erase"):
    (here / "dsk.toml").write_text(RUN.format(steps=json.dumps(steps), do=do), encoding="utf-8")
    for path in (here / "imgs").glob("*.txt"):
        path.unlink()


def test_each_step_takes_the_images_of_the_one_before_it(dsk, imgs):
    here = imgs.parent
    project(here, ["tag", "cutout", "resize", "faces", "layout"])
    ended = dsk("run")
    assert ended.code == 0, ended.err
    heads = [line for line in ended.out.splitlines() if line.startswith("== ")]
    assert heads == ["== faces sks", "== resize sks", "== cutout sks", "== tag sks", "== layout"]
    assert sorted(p.name for p in (here / "work").iterdir()) == [".faces", ".resize", "sks"]
    with Image.open(here / "work" / "sks" / "a3.png") as seen:
        assert seen.size == SIZE and seen.getpixel((0, 0)) == (0, 0, 0)  # cut out
        assert seen.getpixel((150, 108)) == (255, 255, 255)  # and before that, erased
    with Image.open(here / "work" / "sks" / "masks" / "a3.png") as mask:
        assert mask.getpixel((150, 108)) == 0 and mask.getpixel((150, 170)) == 255
    assert set(captions(here / "work" / "sks")) == {"a1", "a2", "a3"}
    assert (here / "faces.png").is_file()
    (laid,) = (here / "dataset" / "train").iterdir()
    assert sorted(p.name for p in (laid / "masks").iterdir()) == ["a1.png", "a2.png", "a3.png"]


def test_a_second_run_changes_nothing(dsk, imgs):
    here = imgs.parent
    project(here, ["faces", "resize", "cutout", "tag", "layout"])
    assert dsk("run").code == 0
    before = snapshot(here, all_of_it=False)
    history = dsk("history", "--json").result
    assert dsk("run").code == 0
    assert snapshot(here, all_of_it=False) == before
    assert dsk("history", "--json").result == history


def test_crops_are_a_step_too(dsk, imgs):
    here = imgs.parent
    project(here, ["faces", "tag"], do="crop")
    assert dsk("run").code == 0
    with Image.open(here / "work" / "sks" / "a1.png") as seen:
        assert seen.size == (144, 144)


def test_a_dry_run_of_a_fresh_project_foresees_its_first_step(dsk, imgs):
    here = imgs.parent
    project(here, ["faces", "resize", "cutout", "tag"])
    before = snapshot(here)
    ended = dsk("run", "--dry-run", "--json")
    assert ended.code == 0, ended.err
    assert [s["step"] for s in ended.result["steps"]] == ["faces"]
    assert (
        ended.result["unforeseen"] == ["resize sks", "cutout sks", "tag sks"]
        and snapshot(here) == before
    )


def test_taking_a_step_in_and_out_again_leaves_no_second_image_of_a_name(dsk, imgs):
    here = imgs.parent
    for path in imgs.glob("*.png"):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    for steps in (["resize", "tag"], ["resize", "cutout", "tag"], ["resize", "tag"]):
        project(here, steps)
        ended = dsk("run")
        assert ended.code == 0, ended.err
        names = {p.name for p in (here / "work" / "sks").rglob("*") if p.is_file()}
        suffix = ".png" if "cutout" in steps else ".jpg"
        assert {n for n in names if not n.endswith(".txt")} == {f"a{n}{suffix}" for n in (1, 2, 3)}
        assert len(captions(here / "work" / "sks")) == 3
    assert not list((here / "work" / "sks" / "masks").glob("*"))


def test_a_run_stops_before_its_first_step_where_rembg_is_missing(dsk, imgs, monkeypatch):
    project(imgs.parent, ["resize", "cutout"])
    monkeypatch.setattr(cutting, "require_rembg", subject.require_rembg)
    monkeypatch.setitem(sys.modules, "rembg", None)
    ended = dsk("run")
    assert ended.code == 12 and "== resize" not in ended.out


def test_a_run_stops_before_its_first_step_where_the_provider_is_missing(dsk, imgs):
    project(imgs.parent, ["resize", "cutout"])
    with (imgs.parent / "dsk.toml").open("a", encoding="utf-8") as file:
        file.write('provider = "directml"\n')  # in [cutout], its last table
    ended = dsk("run")
    assert (
        ended.code == 12 and "cannot run on directml" in ended.err and "== resize" not in ended.out
    )


def test_the_printed_undo_of_the_images_undoes_them(dsk, imgs, here):
    ended = dsk("faces", "erase", "imgs", "out", "--review", "faces.png")
    hint = next(line for line in ended.out.splitlines() if "wrote 3 images" in line)
    command = hint.rpartition("to undo: dsk ")[2].rstrip(")")
    assert dsk(*command.split()).code == 0
    assert not list((here / "out").glob("a*"))
