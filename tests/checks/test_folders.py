"""The checks of folders: every form that trainers ignore or misread, and numbers that do not fit
together.
"""

import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasetkit import api
from datasetkit.checks import registry
from datasetkit.checks.folders import proper_name
from datasetkit.core.errors import ConfigError, DatasetError
from datasetkit.dataset.layout import Concept, parse
from datasetkit.verbs.shared.folders_to_check import find_folders
from tests.checks import test_captions, test_images
from tests.checks.folders import caption, findings, laid_out, names, sound, write_image
from tests.checks.test_captions import PIXELS


@pytest.fixture
def root(tmp_path):
    return laid_out(tmp_path / "set")


def images(folder, number: int, first: int = 60) -> None:
    for seed in range(first, first + number):
        write_image(folder / f"{seed}.png", seed)


def older(path, than) -> None:
    time = than.stat().st_mtime_ns - 10**9
    os.utime(path, ns=(time, time))


def say(folder, text: str) -> None:
    for path in sorted(folder.glob("*.png")):
        caption(path, text)


def latents(folder, *, stale: bool) -> None:
    """Write the cache of an image, made before or after it."""
    cache = folder / "a_0512x0512_sd.npz"
    cache.write_bytes(b"PK")
    older(*((cache, folder / "a.png") if stale else (folder / "a.png", cache)))


# check: what is done to the dataset so that it is found, what nearly does it, the folder or file
# that is found
CASES = {
    "caption-kind": (
        lambda r: say(r / "train" / "3_sks", "sks, A girl in a red scarf stands, smiling."),
        lambda r: say(r / "train" / "3_sks", "sks, 1girl, a tag of so many words, solo, smile"),
        "3_sks",
    ),
    "folder-name": (
        lambda r: images(r / "train" / "3-dog", 2),
        lambda r: (r / "train" / "notes").mkdir(),
        "3-dog",
    ),
    "unseen": (
        lambda r: images(r / "train" / "3_sks" / "more", 2),
        lambda r: images(r / "train" / "3_sks" / "masks", 2),
        "more",
    ),
    "folder-empty": (
        lambda r: (r / "train" / "4_dog").mkdir(),
        lambda r: (r / "train" / ".cache").mkdir(),
        "4_dog",
    ),
    "same-stem": (
        lambda r: write_image(r / "train" / "3_sks" / "b.jpg", 70),
        lambda r: write_image(r / "reg" / "1_girl" / "b.jpg", 70),
        "b.png",
    ),
    "concept-is-tag": (
        lambda r: (r / "train" / "3_sks").rename(r / "train" / "3_hat"),
        lambda r: (r / "train" / "3_sks").rename(r / "train" / "3_sks hat"),
        "3_hat",
    ),
    "name-only": (
        lambda r: [caption(r / "train" / "3_sks" / f"{s}.png", "1girl, smile") for s in "abcd"],
        lambda r: [caption(r / "train" / "3_sks" / f"{s}.png", "1girl, sks") for s in "abcd"],
        "3_sks",
    ),
    "reg-surplus": (
        lambda r: images(r / "reg" / "1_girl", 9),
        lambda r: images(r / "reg" / "1_girl", 8),
        "1_girl",
    ),
    "latents": (
        lambda r: latents(r / "train" / "3_sks", stale=True),
        lambda r: latents(r / "train" / "3_sks", stale=False),
        "a_0512x0512_sd.npz",
    ),
}
# Has its own test below: it needs a source.
WITH_SOURCE = {"differs"}


def test_every_check_has_a_positive_and_a_negative_case():
    cases = [*test_images.CASES, *test_captions.CASES, *CASES, *WITH_SOURCE]
    assert sorted(cases) == sorted(registry.CHECKS)


@pytest.mark.long
def test_a_clean_folder_and_a_clean_dataset_have_no_findings(root, tmp_path):
    for folder in (sound(tmp_path / "imgs"), root):
        result = api.check(folder, api.CheckOptions())
        assert result.findings == ()
        assert result.quiet == len(registry.CHECKS)
        assert result.images == (8 if folder == root else 4)


@pytest.mark.parametrize("check", CASES)
def test_a_folder_is_found(check, root):
    spoil, _, found = CASES[check]
    spoil(root)
    assert names(root, check) == {found}


@pytest.mark.parametrize("check", CASES)
def test_a_folder_just_within_the_limit_is_not_found(check, root):
    _, nearly, _ = CASES[check]
    nearly(root)
    assert findings(root, check) == ()


def reason(folder, check: str, **options: object) -> str:
    (found,) = findings(folder, check, **options)
    return found.reason


# ---- names
# --------------------------------------------------------------------------------------------------

MISREAD = {
    "10-foo": "the number is not followed by an underscore; trainers ignore it; did you mean "
    "10_foo?",
    "10 foo": "the number is not followed by an underscore; trainers ignore it; did you mean "
    "10_foo?",
    "foo": "there is no number of repeats before the first underscore; trainers ignore it",
    "0_foo": "the repeats are less than 1; trainers ignore it",
    "-1_foo": "the repeats are less than 1; trainers ignore it",
    "1_000_x": "the concept begins with a second number; trainers read 1 x `000_x`",
    "05_foo": "or a leading zero; trainers read 5 x `foo`; did you mean 5_foo?",
    "\uff11\uff10_foo": "the number has other characters than digits, or a leading zero; trainers "
    "read 10 x `foo`; did you mean 10_foo?",
    "7_": "no concept follows the number; trainers read 7 x ``",
    "7": "no concept follows the number; trainers read 7 x ``",
}


@pytest.mark.parametrize("name", MISREAD)
def test_each_name_that_trainers_ignore_or_misread_is_reported(name, root):
    images(root / "train" / name, 1)
    assert reason(root, "folder-name").endswith(MISREAD[name])


def test_misread_folders_are_checked_and_ignored_ones_are_not(root):
    for name in ("05_misread", "ignored"):
        images(root / "train" / name, 1, first=60 if name == "ignored" else 61)
    found = {p.parent.name for p in (f.path for f in findings(root, "caption-missing"))}
    assert found == {"05_misread"}


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=12)
)
def test_a_suggested_name_is_valid(name):
    better = proper_name(name)
    assert better is None or (better != name and isinstance(parse(better), Concept))


def test_a_linked_folder_is_reported_and_not_entered(root, tmp_path):
    images(tmp_path / "elsewhere", 2)
    (root / "train" / "4_dog").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert "is a symbolic link" in reason(root, "folder-name")
    assert findings(root, "caption-missing") == ()


def test_names_are_reported_even_if_no_folder_is_a_concept(tmp_path):
    images(tmp_path / "train" / "10-foo", 2)
    assert names(tmp_path, "folder-name") == {"10-foo"}


def test_a_folder_without_images_is_not_a_dataset(tmp_path):
    with pytest.raises(DatasetError):
        api.check(tmp_path, api.CheckOptions())
    with pytest.raises(DatasetError):
        api.check(tmp_path / "nowhere", api.CheckOptions())


def test_images_beside_and_below_the_folders_are_counted(root):
    images(root / "train", 3)
    images(root / "train" / "3_sks" / "a" / "b", 2)
    message = {f.path.name: f.reason for f in findings(root, "unseen")}
    assert message == {
        "train": "3 images beside the concept folders: trainers search only these",
        "a": "2 images in a subfolder: trainers do not search it",
    }


def test_in_a_plain_folder_recursive_looks_below(tmp_path):
    sound(tmp_path)
    images(tmp_path / "sub", 1)
    assert names(tmp_path, "unseen") == {"sub"}
    assert findings(tmp_path, "unseen", recursive=True) == ()
    assert names(tmp_path, "caption-missing", recursive=True) == {"60.png"}


# ---- numbers
# --------------------------------------------------------------------------------------------------


def test_surplus_regularisation_images_are_counted(root):
    # 4 images x 3 repeats are 12 samples; TRAINING 2.4: 13 regularisation images are matched up
    # to the 12th.
    images(root / "reg" / "1_girl", 9)
    found = reason(root, "reg-surplus")
    assert found == (
        "1 of 13 images are never used: they make 13 samples, training has 12; use fewer images, "
        "or more training repeats"
    )


def test_the_repeats_that_use_all_regularisation_images_are_named(root):
    (root / "reg" / "1_girl").rename(root / "reg" / "6_girl")
    assert reason(root, "reg-surplus").endswith(
        "they make 24 samples, training has 12; 3 repeats would use them all"
    )


def test_latents_of_a_missing_image_are_reported(root):
    folder = root / "train" / "3_sks"
    latents(folder, stale=False)
    (folder / "gone.npz").write_bytes(b"PK")
    assert {f.path.name: f.reason for f in findings(root, "latents")} == {
        "gone.npz": "its image is gone"
    }


# ---- a laid-out set and its source
# ----------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path):
    """A folder and the dataset that was laid out of it."""
    (tmp_path / "dsk.toml").write_text("", encoding="utf-8")
    sound(tmp_path / "imgs")
    api.layout((f"3_sks={tmp_path / 'imgs'}",), api.LayoutOptions(out=str(tmp_path / "dataset")))
    return tmp_path


def test_captions_that_differ_from_their_source_are_found(project):
    assert findings(project / "dataset", "differs") == ()
    caption(project / "imgs" / "b.png", "sks, 1girl, smile, hat, outdoors")
    found = reason(project / "dataset", "differs")
    assert found == "differs from the caption of its source in imgs"
    api.layout((f"3_sks={project / 'imgs'}",), api.LayoutOptions(out=str(project / "dataset")))
    assert findings(project / "dataset", "differs") == ()


def test_a_caption_edited_in_the_layout_is_found(project):
    caption(project / "dataset" / "train" / "3_sks" / "c.png", "sks, hat")
    assert names(project / "dataset", "differs") == {"c.png"}


def test_a_missing_source_is_ignored(project):
    shutil.rmtree(project / "imgs")
    assert findings(project / "dataset", "differs") == ()


# ---- which folders are looked at
# ------------------------------------------------------------------------------------


def test_a_dsk_toml_names_the_concepts_and_their_triggers(tmp_path):
    sound(tmp_path / "one")
    sound(tmp_path / "two", 21)
    (tmp_path / "dsk.toml").write_text(
        '[run]\nsteps = ["tag"]\n'
        '[[concept]]\nfolder = "one"\ntrigger = ["sks"]\n[[concept]]\nfolder = "two"\ntrigger '
        '= ["other"]\n',
        encoding="utf-8",
    )
    to_check = find_folders(tmp_path)
    assert [(place.folder.name, place.triggers) for place in to_check.folders] == [
        ("one", ("sks",)),
        ("two", ("other",)),
    ]
    missing = findings(tmp_path, "trigger-missing")
    assert {f.path.parent.name for f in missing} == {"two"} and len(missing) == 4


def test_a_relative_folder_works_like_an_absolute_path(root, monkeypatch):
    monkeypatch.chdir(root)
    images(root / "train" / "3-dog", 1)
    (root / "train" / "3_sks" / "b.txt").unlink()
    result = api.check(type(root)(), api.CheckOptions(skip=PIXELS))
    assert {(f.check, f.path.as_posix()) for f in result.findings} == {
        ("folder-name", "train/3-dog"),
        ("caption-missing", "train/3_sks/b.png"),
    }


@pytest.mark.parametrize("options", [{"only": ("blured",)}, {"skip": ("blured",)}])
def test_an_unknown_check_is_refused_with_the_nearest(options, root):
    with pytest.raises(ConfigError) as raised:
        api.check(root, api.CheckOptions(**options))
    assert raised.value.hint == "did you mean 'blurred'?"
