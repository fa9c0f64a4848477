"""No command writes new images into a laid-out dataset unless the user names the folder, and text
can be erased without faces.
"""

from __future__ import annotations

import shlex

import pytest
from PIL import Image

from datasetkit.core.errors import Exit
from datasetkit.vision import faces
from tests.checks.folders import shapes, text_on
from tests.cli.conftest import snapshot, write_image
from tests.safety.finders import DETECTOR, MiddleFace

VERBS = {
    "resize": ["resize", "--max", "32"],
    "cutout": ["cutout"],
    "faces crop": ["faces", "crop"],
    "faces erase": ["faces", "erase"],
}


@pytest.fixture
def detectors(monkeypatch):
    """A detector that finds a face in the middle of every image."""
    monkeypatch.setitem(faces.DETECTORS, DETECTOR, MiddleFace)


def dataset(here, root="dataset/train"):
    folder = here / root / "20_mika"
    for n in range(2):
        write_image(folder / f"{n}.png", 50 * n + 9, (200, 150))
        (folder / f"{n}.txt").write_text("mika, smile\n")
    return folder


@pytest.mark.parametrize("root", ["dataset/train", "dataset/reg", "kohya/img", "kohya/REG"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_default_output_in_a_dataset_is_refused(verb, root, dsk, here):
    folder = dataset(here, root)
    before = snapshot(here)
    for arguments in ([], ["--dry-run"], ["--json"]):
        ended = dsk(*VERBS[verb], folder, *arguments)
        assert ended.code == Exit.USAGE
        assert "would train it too" in ended.err
    assert snapshot(here) == before


@pytest.mark.parametrize("verb", ["resize", "faces crop", "faces erase"])
def test_the_folder_that_the_hint_names_is_taken_and_is_not_trained(verb, dsk, here, detectors):
    folder = dataset(here)
    more = ["--detector", DETECTOR] if "faces" in verb else []
    more += ["--min-size", "16"] if verb == "faces crop" else []
    refused = dsk(*VERBS[verb], folder, *more)
    source, out = shlex.split(refused.err.rsplit(": ", 1)[1])
    assert dsk(*VERBS[verb], source, out, *more).code == Exit.DONE
    assert len(list((here / out).glob("*.png"))) == 2
    assert [p.name for p in (here / "dataset" / "train").iterdir() if p.is_dir()] == ["20_mika"]


@pytest.mark.parametrize("folder", ["pics", "20_mika", "2020_trip", "train"])
def test_other_folders_have_a_default_output(folder, dsk, here):
    write_image(here / folder / "a.png", 3, (80, 60))
    assert dsk("resize", folder, "--max", "32").code == Exit.DONE
    assert (here / f"{folder}-32" / "a.png").is_file()


def test_a_run_on_concepts_in_a_dataset_names_its_own_folders(dsk, here):
    dataset(here)
    (here / "dsk.toml").write_text(
        '[run]\nsteps = ["resize"]\n[[concept]]\nfolder = "dataset/train/20_mika"\nname = "mika"\n'
    )
    assert dsk("run", "dsk.toml").code == Exit.DONE


def test_text_alone_is_erased_and_faces_stay(dsk, here, detectors):
    """The detector of the test finds a face in every image; it must not be asked."""
    image = text_on(shapes(2))
    (here / "pics").mkdir()
    image.save(here / "pics" / "a.png")
    shapes(3).save(here / "pics" / "b.png")
    (here / "pics" / "a.txt").write_text("mika, smile, watermark, hat\n")
    (here / "pics" / "b.txt").write_text("mika, smile\n")
    ended = dsk("faces", "erase", "pics", "--only", "text", "--detector", DETECTOR)
    assert ended.code == Exit.DONE
    assert "1 line of text in 2 images" in ended.out and "face" not in ended.out.split(";")[0]
    out = here / "pics-erased"
    assert (out / "a.txt").read_text() == "mika, smile, hat\n"
    assert (out / "b.png").read_bytes() == (here / "pics" / "b.png").read_bytes()
    with Image.open(out / "a.png") as erased:
        middle = (erased.width // 2, erased.height // 2)
        assert erased.getpixel(middle) == image.getpixel(middle)
        assert erased.convert("L").getextrema()[1] == 255
    assert "text" not in dsk("check", "pics-erased", "--only", "text").out.split("\n")[0]


def test_faces_alone_are_erased_though_a_file_asks_for_text_too(dsk, here, detectors):
    (here / "pics").mkdir()
    text_on(shapes(2)).save(here / "pics" / "a.png")
    (here / "dsk.toml").write_text("[faces]\ntext = true\n")
    both = dsk("faces", "erase", "pics", "both", "--detector", DETECTOR)
    assert "1 face and 1 line of text" in both.out
    alone = dsk("faces", "erase", "pics", "alone", "--only", "faces", "--detector", DETECTOR)
    assert "1 face in 1 image" in alone.out


@pytest.mark.long
def test_the_advice_of_check_about_text_can_be_followed_in_a_dataset(dsk, here):
    """Word for word: the sheet first, then the erasing, then the layout of what it made."""
    folder = here / "pics"
    folder.mkdir()
    text_on(shapes(2)).save(folder / "a.png")
    shapes(3).save(folder / "b.png")
    dsk("layout", "20_mi ka=pics")
    advice = next(
        line.split("  ")[-1] for line in dsk("check", "dataset", "--only", "text").out.splitlines()
        if "--only text" in line
    )  # fmt: skip
    look, erase, _ = (part.strip() for part in advice.split(";"))
    assert "--sheet check.png" in look and "--only text" in erase
    assert dsk(*shlex.split(look.removesuffix(" shows it"))[1:]).code == Exit.DONE
    assert (here / "check.png").is_file()
    assert dsk(*shlex.split(erase)[1:]).code == Exit.DONE
    assert [p.name for p in (here / "dataset" / "train").iterdir()] == ["20_mi ka"]
    out = shlex.split(erase)[-3]
    dsk("layout", f"20_mi ka={out}")
    assert "0 findings" in dsk("check", "dataset", "--only", "text").out


def test_the_default_output_of_the_folder_above_has_its_name(dsk, here, monkeypatch):
    write_image(here / "pics" / "a.png", 3, (80, 60))
    (here / "pics" / "more").mkdir()
    monkeypatch.chdir(here / "pics" / "more")
    assert dsk("resize", "..", "--max", "32").code == Exit.DONE
    assert (here / "pics-32" / "a.png").is_file()
