"""Every format that `dsk export` writes is read by the program it is for, with a text for every
image.
"""

from __future__ import annotations

import glob
import json
import tomllib
from pathlib import Path

import pytest

from datasetkit.core.errors import Exit
from tests.cli.conftest import write_image

NAMES = ("a", "b.v2", "c [1]", "日本", "d#?", 'say "hi"')


@pytest.fixture
def laid_out(dsk, here):
    """A dataset with masks, in which one training image and all reg images have no caption."""
    for n, name in enumerate(NAMES):
        image = write_image(here / "p" / f"{name}.png", 30 * n)
        if n:
            image.with_name(f"{name}.txt").write_text(f"sylvie, solo, pose {n}\n")
    write_image(here / "p" / "masks" / "a.png", 255)
    for n in range(2):
        write_image(here / "g" / f"{n}.png", 200 + n)
    assert dsk("layout", "sylvie=p", "--repeats", "3").code == Exit.DONE
    assert dsk("reg", "g", "--class", "1girl").code == Exit.DONE
    return here / "dataset"


def loaded(here: Path, *path: str, **arguments: object) -> list[str]:
    """Return the texts of the training split, as the library reads them."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    read = datasets.load_dataset(*path, cache_dir=str(here / "cache"), **arguments)
    return sorted(read["train"]["text"])


@pytest.mark.long
@pytest.mark.parametrize(
    ("path", "arguments", "with_reg"),
    [
        (["imagefolder"], {"data_dir": "dataset"}, False),
        (["imagefolder"], {"data_dir": "dataset/train"}, False),
        (["imagefolder"], {"data_files": {"train": "dataset/**"}}, True),  # diffusers' scripts
        (["dataset"], {}, False),
        (["imagefolder"], {"data_files": "dataset/train/**"}, False),
    ],
)
def test_the_datasets_library_reads_a_text_for_every_image(
    path, arguments, with_reg, dsk, here, laid_out
):
    assert dsk("export", "dataset", "--format", "imagefolder").code == Exit.DONE
    texts = ["sylvie", *(f"sylvie, solo, pose {n}" for n in range(1, len(NAMES)))]
    assert loaded(here, *path, **arguments) == sorted(texts + ["1girl", "1girl"] * with_reg)


def test_the_datasets_library_reads_a_regularisation_set(dsk, here, laid_out):
    dsk("export", "dataset", "--format", "imagefolder")
    assert loaded(here, "imagefolder", data_dir="dataset/reg") == ["1girl", "1girl"]


def test_the_datasets_library_reads_a_folder_of_images(dsk, here, laid_out):
    assert dsk("export", "p", "--format", "imagefolder").code == Exit.DONE
    assert len(loaded(here, "imagefolder", data_dir="p")) == len(NAMES)


def test_a_concept_named_like_a_split_is_named_with_a_call_that_loads_it(dsk, here, laid_out):
    dsk("layout", "my test=p", "--out", "other")
    ended = dsk("export", "other", "--format", "imagefolder")
    assert "my test" in ended.err and 'data_files="DIR/train/**"' in ended.err
    assert len(loaded(here, "imagefolder", data_files="other/train/**")) == len(NAMES)


@pytest.mark.parametrize("name", ["contest", "sylvie", "trainer", "10_developer"])
def test_other_names_are_no_splits(name, dsk, here, laid_out):
    dsk("layout", f"{name}=p", "--out", "other")
    assert "split" not in dsk("export", "other", "--format", "imagefolder").err


def test_metadata_that_would_lie_away_from_its_images_is_refused(dsk, here, laid_out):
    ended = dsk("export", "dataset", "--format", "imagefolder", "--out", "elsewhere")
    assert ended.code == Exit.USAGE
    assert "--out" in ended.err and not (here / "elsewhere").exists()


def test_meta_json_has_a_text_for_every_image_that_sd_scripts_finds_by_its_key(dsk, laid_out):
    """As its documentation has it: the key is the path below `image_dir` without a suffix."""
    assert dsk("export", "dataset", "--format", "meta").code == Exit.DONE
    entries = json.loads((laid_out / "meta.json").read_text(encoding="utf-8"))
    for key, entry in entries.items():
        folder, stem = (laid_out / key).parent, Path(key).name
        assert list(folder.glob(f"{glob.escape(stem)}.png"))
        assert entry.get("caption") or entry["tags"]
    assert len(entries) == len(NAMES)
    assert entries["train/3_sylvie/a"] == {"tags": "sylvie"}


@pytest.mark.parametrize("concept", ["sylvie", "a [b]", "it's", "日本", "x#y = 1"])
def test_the_toml_library_of_sd_scripts_reads_what_ours_reads(concept, dsk, here, laid_out):
    toml = pytest.importorskip("toml")
    folder = here / "other" / "train" / f"2_{concept}"
    for n in range(2):
        write_image(folder / f"{n}.png", n).with_suffix(".txt").write_text(f"x, tag {n}\n")
    (here / "dsk.toml").write_text(
        '[train]\nnetwork_args = ["conv_dim=4"]\nresolution = [512, 768]\n'
    )
    assert dsk("export", "other").code == Exit.DONE
    for name in ("dataset.toml", "config.toml"):
        text = (here / "other" / name).read_text(encoding="utf-8")
        assert toml.loads(text) == tomllib.loads(text)
    [dataset] = toml.loads((here / "other/dataset.toml").read_text(encoding="utf-8"))["datasets"]
    [subset] = dataset["subsets"]
    assert (here / "other" / subset["image_dir"]).is_dir()
    assert subset["class_tokens"] == concept and subset["num_repeats"] == 2
