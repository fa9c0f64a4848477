"""Images in reach of a dataset that belong to no concept are counted and named by the plan, by the
code of `dsk check`; a regularisation folder without a concept is an error.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from datasetkit.core.errors import DatasetError, Exit
from datasetkit.options.train import TrainOptions
from trainer.plan.plan import find_subsets, make_plan

OPTIONS = TrainOptions(resolution=128, min_bucket_reso=64)


def images(folder: Path, count: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (128, 128), (40 * number, 90, 30)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("kitsu\n")
    return folder


@pytest.fixture
def data(here: Path) -> Path:
    images(here / "ds" / "train" / "1_kitsu", 2)
    return here / "ds"


def notices(data: Path) -> str:
    subsets, lines = find_subsets(data, OPTIONS)
    return "\n".join(make_plan(subsets, OPTIONS, notices=lines).notices)


UNREACHED = {
    "beside the concept": ("train", "3 images beside the concept folders"),
    "below the concept": ("train/1_kitsu/more", "3 images in a subfolder"),
    "deep below the concept": ("train/1_kitsu/more/of", "3 images in a subfolder"),
    "beside train": ("", "3 images beside train/"),
    "concept beside train": ("5_fox", "3 images beside train/"),
    "reg by another name": ("Regularisation/1_girl", "3 images beside train/"),
}


@pytest.mark.parametrize("row", UNREACHED)
def test_plan_and_check_count_and_name_them(dsk, data, row):
    where, words = UNREACHED[row]
    images(data / where, 3)
    assert words in notices(data) and str(Path("ds") / Path(where).parts[0] if where else "ds") in (
        notices(data)
    )
    found = dsk("check", "ds", "--only", "unseen", "--json").result["findings"]
    assert [words.split(" ", 2)[2] in item["reason"] for item in found] == [True]


def test_images_beside_the_reg_concepts_are_named(data):
    images(data / "reg" / "1_girl", 2)
    images(data / "reg", 4)
    assert "4 images beside the concept folders" in notices(data)


def test_masks_and_all_concepts_give_no_notice(data):
    images(data / "train" / "1_kitsu" / "masks", 2)
    images(data / "reg" / "1_girl", 2)
    assert "images" not in notices(data).replace("regularisation images", "")


@pytest.mark.parametrize("where", ["reg", "reg/girl", "reg/0_girl", "reg/1 girl"])
def test_regularisation_without_a_concept_is_an_error_with_a_hint_that_works(dsk, data, where):
    folder = images(data / where, 5)
    ended = dsk("train", "ds", "--dry-run")
    assert ended.code == Exit.DATASET and "reg has no <repeats>_<class> folder" in ended.err
    assert "reg/1_girl" in ended.err
    target = data / "reg" / "1_girl"
    target.mkdir()
    for path in folder.glob("*.*"):
        path.rename(target / path.name)
    subsets, _ = find_subsets(data, OPTIONS)
    assert [subset.name for subset in subsets if subset.is_reg] == ["girl"]


def test_empty_reg_is_no_error(data):
    (data / "reg").mkdir()
    assert notices(data) == ""


@pytest.mark.parametrize("given", ["ds/train/1_kitsu", "."])
def test_concept_folder_as_the_dataset_gets_the_folder_above_as_its_hint(data, monkeypatch, given):
    if given == ".":
        monkeypatch.chdir(data / "train" / "1_kitsu")
    with pytest.raises(DatasetError) as caught:
        find_subsets(Path(given), OPTIONS)
    assert "name the folder above it" in caught.value.hint
    above = Path(caught.value.hint.rpartition(", ")[2])
    assert find_subsets(above, OPTIONS)[0][0].name == "kitsu"


def test_train_data_dir_that_is_a_concept_folder_gets_that_hint_too(dsk, here, data):
    (here / "config.toml").write_text("train_data_dir = 'ds/train/1_kitsu'\n")
    ended = dsk("train", "--config-file", "config.toml", "--dry-run")
    assert ended.code == Exit.DATASET and "name the folder above it" in ended.err


def test_images_without_any_concept_folder_get_a_hint_that_works(here):
    images(here / "photos", 2)
    with pytest.raises(DatasetError) as caught:
        find_subsets(here / "photos", OPTIONS)
    assert "photos/1_name" in caught.value.hint


def test_subfolder_that_another_subset_trains_is_reached(dsk, here):
    images(here / "a", 2)
    images(here / "a" / "more", 1)
    images(here / "a" / "rest", 4)
    (here / "dataset.toml").write_text(
        "[general]\nresolution = 128\nmin_bucket_reso = 64\n[[datasets]]\n"
        "[[datasets.subsets]]\nimage_dir = 'a'\n[[datasets.subsets]]\nimage_dir = 'a/more'\n"
    )
    ended = dsk("train", "--dataset-config", "dataset.toml", "--dry-run", "--set",
                "pretrained_model_name_or_path=tiny")  # fmt: skip
    assert "a/rest: 4 images in a subfolder" in ended.err and "a/more" not in ended.err
