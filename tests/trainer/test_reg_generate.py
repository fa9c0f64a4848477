"""`dsk reg generate`: a base model generates a regularisation set, resumes, and records its
settings.
"""

import json

import pytest
from PIL import Image

from datasetkit import api
from datasetkit.cli.main import run
from datasetkit.core.errors import (
    ConfigError,
    DatasetError,
    InputError,
    ModelFileError,
    PlanConflict,
)
from datasetkit.dataset.buckets import select
from datasetkit.dataset.reg_prompts import usable_size
from datasetkit.options.reg import RegGenerateOptions
from datasetkit.options.train import TrainOptions
from datasetkit.project.session import RunContext
from tests.trainer import tiny
from trainer.config import of_project
from trainer.monitor import image_generator
from trainer.plan.plan import find_subsets


def options(**more):
    given = {"base": "tiny", "class_name": "1girl", "count": 3, "steps": 2, "cfg": 1.0, **more}
    return RegGenerateOptions(**given)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A laid-out dataset of four images in two shapes, for a resolution of 64."""
    monkeypatch.chdir(tmp_path)
    tiny.save_images(
        tmp_path / "ds" / "train" / "6_sks", [(128, 128), (192, 128), (128, 128), (128, 128)]
    )
    (tmp_path / "dsk.toml").write_text(
        "[train]\nresolution = 64\nmin_bucket_reso = 32\nmax_bucket_reso = "
        "128\nbucket_reso_steps = 16\n"
        'mixed_precision = "no"\n',
        encoding="utf-8",
    )
    return tmp_path


def made(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def size(path):
    with Image.open(path) as image:
        return image.size


class Stopped(BaseException):
    """A kill, at a moment of the test's choice."""


class Stopping:
    """A reporter that ends the drawing after so many images."""

    def __init__(self, after):
        self.left = after

    def start(self, label, total):
        self.counts = label == "generating"

    def advance(self, n=1):
        self.left -= self.counts
        if self.left == 0:
            raise Stopped

    def note(self, text):
        pass

    def phase(self, name):
        pass

    def finish(self):
        pass

    def warn(self, message):
        pass


def test_a_set_is_drawn_balanced_captioned_and_found_by_the_trainer(here):
    result = api.generate_reg(here / "ds", options())
    folder = here / "ds" / "reg" / "8_1girl"
    assert (result.folder, result.repeats, result.train_samples, result.used) == (folder, 8, 24, 3)
    names = [f"1girl_000{n}{suffix}" for n in (1, 2, 3) for suffix in (".json", ".png", ".txt")]
    assert list(made(folder)) == names
    assert (folder / "1girl_0002.txt").read_text() == "1girl\n"
    sizes = [size(folder / f"1girl_000{n}.png") for n in (1, 2, 3)]
    rules = TrainOptions(
        resolution=64, min_bucket_reso=32, max_bucket_reso=128, bucket_reso_steps=16
    ).bucket_rules()
    buckets = [select(rules, *seen).bucket for seen in ((128, 128), (192, 128), (128, 128))]
    assert sizes == [usable_size(bucket) for bucket in buckets] and len(set(sizes)) == 2
    assert len({(folder / f"1girl_000{n}.png").read_bytes() for n in (1, 3)}) == 2
    subsets, _ = find_subsets(here / "ds", of_project(api.find_config(here), {}))
    assert [(s.name, s.repeats) for s in subsets if s.is_reg] == [("1girl", 8)]


@pytest.mark.long
def test_each_image_tells_where_it_is_from(here):
    api.generate_reg(here / "ds", options(negative="frown", seed=40, cfg=3.0))
    folder = here / "ds" / "reg" / "8_1girl"
    told = json.loads((folder / "1girl_0003.json").read_text(encoding="utf-8"))
    assert (told["prompt"], told["negative"], told["seed"]) == ("1girl", "frown", 42)
    assert (told["model"], told["steps"], told["cfg"]) == ("tiny", 2, 3.0)
    assert len(told["hash"]) == 64 and told["sampler"] == "ddim" and len(told["size"]) == 2
    with Image.open(folder / "1girl_0003.png") as image:
        text = str(image.info["parameters"])
    assert (
        text.startswith("1girl\nNegative prompt: frown\nSteps: 2, ")
        and f"Model hash: {told['hash'][:10]}" in text
    )
    assert str(here) not in text + json.dumps(told)


@pytest.mark.long
def test_a_stopped_set_goes_on_and_is_what_it_would_have_been(here, monkeypatch):
    api.generate_reg(here / "ds", options(size=(64, 64)))
    whole = made(here / "ds" / "reg" / "8_1girl")
    tiny.copy_folder(here / "ds" / "train", here / "again" / "train")
    with pytest.raises(Stopped):
        api.generate_reg(here / "again", options(size=(64, 64)), RunContext(reporter=Stopping(2)))
    # The third one was begun: its record is there, and it is not.
    (here / "again" / "reg" / "8_1girl" / "1girl_0003.json").write_bytes(whole["1girl_0003.json"])
    drawn = []
    draw = image_generator.ImageGenerator.generate

    def noting(self, prompt):
        drawn.append(prompt)
        return draw(self, prompt)

    monkeypatch.setattr(image_generator.ImageGenerator, "generate", noting)
    result = api.generate_reg(here / "again", options(size=(64, 64)))
    assert [prompt.seed for prompt in drawn] == [2] and result.kept == 2
    assert made(here / "again" / "reg" / "8_1girl") == whole
    monkeypatch.setattr(
        image_generator, "load", None
    )  # nothing is left to draw, so nothing is loaded
    assert api.generate_reg(here / "again", options(size=(64, 64))).generated == ()


@pytest.mark.long
def test_a_set_that_grows_is_balanced_anew(here):
    api.generate_reg(here / "ds", options(size=(64, 64), count=1))
    assert (here / "ds" / "reg" / "24_1girl").is_dir()
    first = made(here / "ds" / "reg" / "24_1girl")
    result = api.generate_reg(here / "ds", options(size=(64, 64), count=2))
    assert [p.name for p in (here / "ds" / "reg").iterdir()] == ["12_1girl"]
    assert (len(result.generated), result.kept) == (1, 1)
    assert first.items() <= made(here / "ds" / "reg" / "12_1girl").items()


@pytest.mark.long
def test_captions_are_drawn_with_the_class_for_the_trigger(here):
    result = api.generate_reg(
        here / "ds", options(from_captions=True, trigger=("sks",), size=(64, 64), count=5)
    )
    folder = result.folder
    captions = [(folder / f"1girl_000{n}.txt").read_text() for n in range(1, 6)]
    assert captions[:2] == ["1girl, tag 1, red hair, smile\n", "1girl, tag 2, red hair, smile\n"]
    assert captions[4] == captions[0]
    assert (
        json.loads((folder / "1girl_0002.json").read_text())["prompt"]
        == "1girl, tag 2, red hair, smile"
    )


def test_undo_takes_the_set_away(here):
    api.generate_reg(here / "ds", options(size=(64, 64), count=1))
    api.undo(here / "ds")
    assert not (here / "ds" / "reg").exists()


def test_other_things_in_the_folder_are_left_alone(here):
    folder = here / "ds" / "reg" / "8_1girl"
    tiny.save_images(folder, [(64, 64)])
    before = made(folder)
    with pytest.raises(PlanConflict, match=r"has other files: 1\.png"):
        api.generate_reg(here / "ds", options())
    assert made(folder) == before


def test_images_of_other_settings_are_refused(here):
    api.generate_reg(here / "ds", options(size=(64, 64), count=1))
    with pytest.raises(PlanConflict, match="steps was 2 and is 3"):
        api.generate_reg(here / "ds", options(size=(64, 64), count=2, steps=3))
    assert (here / "ds" / "reg" / "24_1girl").is_dir()


def test_a_folder_without_a_training_set_gets_one_repeat(here):
    result = api.generate_reg(here / "fresh", options(count=1))
    assert (result.folder, result.train_samples) == (here / "fresh" / "reg" / "1_1girl", 0)
    assert size(result.folder / "1girl_0001.png") == (64, 64)


@pytest.mark.parametrize(
    ("given", "error", "reported"),
    [
        ({"base": ""}, ConfigError, "needs a base model"),
        ({"class_name": ""}, ConfigError, "needs a class"),
        ({"class_name": "a/b"}, ConfigError, "no valid folder name"),
        ({"base": "nowhere/at/all/here"}, (ConfigError, ModelFileError), "nowhere"),
        ({"from_captions": True}, ConfigError, "no trigger"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(here, given, error, reported):
    with pytest.raises(error, match=reported):
        api.generate_reg(here / "ds", options(**given))
    assert not (here / "ds" / "reg").exists()


def test_captions_need_a_training_set(here):
    with pytest.raises(DatasetError, match="no training folders"):
        api.generate_reg(here / "fresh", options(from_captions=True, trigger=("sks",)))
    assert not (here / "fresh").exists()


@pytest.mark.parametrize(
    "given", [{"count": 0}, {"steps": 0}, {"sampler": "best"}, {"size": (60, 64)}, {"seed": -1}]
)
def test_numbers_have_ranges(given):
    with pytest.raises(ConfigError):
        options(**given)


def test_a_link_is_not_written_through(here):
    (here / "elsewhere").mkdir()
    (here / "ds" / "reg").symlink_to(here / "elsewhere")
    with pytest.raises(InputError, match="symbolic link"):
        api.generate_reg(here / "ds", options())
    assert not list((here / "elsewhere").iterdir())


@pytest.mark.long
def test_the_command_draws_and_says_what(here, capsys):
    line = [
        "reg",
        "generate",
        "ds",
        "--base",
        "tiny",
        "--class",
        "1girl",
        "--steps",
        "2",
        "--cfg",
        "1",
        "--size",
        "64",
    ]
    assert run([*line, "--count", "2", "--dry-run"]) == 0
    assert "would generate 2 images" in capsys.readouterr().out
    assert sorted(path.name for path in here.rglob("*") if path.is_dir()) == [
        "6_sks",
        "ds",
        "train",
    ]
    assert run([*line, "--count", "2"]) == 0
    reported = capsys.readouterr().out
    assert "generated 2 images" in reported and "2 x 12 = 24 samples for 24 of training" in reported
    assert run([*line, "--count", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["kept"] == 2
    assert run([*line, "--count", "0"]) == 2
    assert "count = 0 is out of range" in capsys.readouterr().err
    assert run([*line[:-2], "--size", "big"]) == 2
    assert "write 512 or 512x768" in capsys.readouterr().err
    assert run(["reg", "nowhere", "--class", "1girl"]) == 10  # the other command is still there


@pytest.mark.long
def test_a_caption_that_is_written_while_images_are_generated_is_kept_and_named(here):
    first = api.generate_reg(here / "ds", options(count=2))
    image = first.generated[1]
    image.unlink()
    image.with_suffix(".txt").write_text("MY PRECIOUS EDIT\n", encoding="utf-8")
    again = api.generate_reg(here / "ds", options(count=2))
    assert again.generated == (image,)
    assert [failed.path for failed in again.failed] == [image.with_suffix(".txt")]
    assert image.with_suffix(".txt").read_text(encoding="utf-8") == "MY PRECIOUS EDIT\n"
    api.undo(here / "ds")
    assert image.with_suffix(".txt").read_text(encoding="utf-8") == "MY PRECIOUS EDIT\n"
