"""Differences from sd-scripts, each as a kind: without a reason there is none, and with one it is
named.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from datasetkit.core.install import install_command
from tests.trainer import tiny

torch = pytest.importorskip("torch")

from datasetkit import api  # noqa: E402
from datasetkit.captions.caption import parse  # noqa: E402
from datasetkit.captions.typography import (  # noqa: E402
    is_read_otherwise,
    plain_letters,
    with_plain_letters,
)
from datasetkit.captions.vocabulary import load  # noqa: E402
from datasetkit.core.errors import ConfigError, MissingExtra  # noqa: E402
from datasetkit.core.records import CaptionSyntax  # noqa: E402
from datasetkit.options.check import CheckOptions  # noqa: E402
from datasetkit.options.train import TrainOptions  # noqa: E402
from trainer.config import translate  # noqa: E402
from trainer.data import interpolation, pixels  # noqa: E402
from trainer.data.captions import CaptionSettings, sample  # noqa: E402
from trainer.optimizers import schedule_options  # noqa: E402
from trainer.plan import run_checks  # noqa: E402
from trainer.plan.plan import TrainImage, find_subsets, make_plan  # noqa: E402

# ---- captions that no option changes
# --------------------------------------------------------------------------------------------------

WRITTEN = [
    "a crowd of 1,000 at 10,5 km",
    "(a),(b),c",
    "a,,b, ,c,",
    "{red|blue} hair, \\(x\\)",
    "1girl ,solo",
]


def images(folder, options) -> list[TrainImage]:
    return list(make_plan(find_subsets(folder, options)[0], options).images)


@pytest.mark.parametrize("text", WRITTEN)
def test_a_caption_that_no_option_changes_is_trained_as_it_is_in_the_file(text, tmp_path):
    folder = tiny.save_images(tmp_path / "data" / "train" / "2_sks", [(64, 64)])
    (folder / "1.txt").write_text(f"  {text} \r\n", encoding="utf-8")
    options = tiny.options(tmp_path / "model", tmp_path / "out", shuffle_caption=False)
    [image] = images(tmp_path / "data", options)
    assert image.caption == text
    for kept in (CaptionSettings(), CaptionSettings(keep_tokens=2, keep_tokens_separator="|||")):
        assert sample(image.caption, kept, 1, Random(0)) == text


def test_prefix_and_suffix_do_not_change_the_caption_between_them():
    options = CaptionSettings(caption_prefix="sks,", caption_suffix="by night")
    assert sample("1,000 (a),(b)", options, 1, Random(0)) == "sks, 1,000 (a),(b) by night"


# ---- fractions of steps
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lr_warmup_steps", "lr_decay_steps"])
@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.29, 0.5, 0.999])
@pytest.mark.parametrize("total", [1, 9, 100, 333, 1999])
def test_a_fraction_of_the_steps_is_cut_off_and_not_rounded(name, fraction, total):
    """sd-scripts: `int(args.lr_warmup_steps * num_training_steps)`."""
    options = TrainOptions(**{name: fraction})
    schedule = schedule_options.schedule(options, total)
    assert max(schedule.warmup, schedule.decay) == int(fraction * total)


# ---- pixels
# --------------------------------------------------------------------------------------------------

SIZES = [(301, 233), (64, 64), (40, 90), (257, 64)]
BY_OPENCV = {
    "area": "INTER_AREA",
    "bicubic": "INTER_CUBIC",
    "bilinear": "INTER_LINEAR",
    "cubic": "INTER_CUBIC",
    "linear": "INTER_LINEAR",
    "nearest": "INTER_NEAREST_EXACT",
}


def noisy_images(folder: Path) -> Path:
    tiny.save_images(folder / "train" / "1_sks", SIZES)
    for n, (width, height) in enumerate(SIZES, 1):
        noise = np.random.default_rng(n).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(noise).save(folder / "train" / "1_sks" / f"{n}.png")
    return folder


def cropped(whole: np.ndarray, image: TrainImage) -> np.ndarray:
    (left, top), (width, height) = image.bucket.crop, image.bucket.bucket
    return whole[top : top + height, left : left + width]


@pytest.mark.parametrize("name", BY_OPENCV)
def test_pixels_are_those_of_opencv_byte_by_byte(name, tmp_path):
    """sd-scripts: cv2.resize of the whole image, then the crop."""
    cv2 = pytest.importorskip("cv2", reason="the extra `opencv` is not installed")
    folder = noisy_images(tmp_path / "data")
    options = tiny.options(tmp_path, tmp_path, resolution=64, resize_interpolation=name)
    for image in images(folder, options):
        rgb = np.asarray(Image.open(image.path))
        whole = cv2.resize(rgb, image.bucket.resized, interpolation=getattr(cv2, BY_OPENCV[name]))
        wanted = cropped(whole, image)
        for flip, expected in ((False, wanted), (True, wanted[:, ::-1])):
            assert np.array_equal(pixels.read(image, image.bucket.crop, flip=flip), expected)


@pytest.mark.parametrize(
    ("name", "filter"),
    [("lanczos", Image.Resampling.LANCZOS), ("box", Image.Resampling.BOX)],
)
def test_pixels_are_those_of_pillow_byte_by_byte(name, filter, tmp_path):
    folder = noisy_images(tmp_path / "data")
    options = tiny.options(tmp_path, tmp_path, resolution=64, resize_interpolation=name)
    for image in images(folder, options):
        whole = np.asarray(Image.open(image.path).resize(image.bucket.resized, filter))
        read = pixels.read(image, image.bucket.crop, flip=False)
        assert np.array_equal(read, cropped(whole, image))


def test_all_values_of_sd_scripts_are_known_and_no_other(tmp_path):
    for name in (*BY_OPENCV, "lanczos", "box"):
        assert TrainOptions(resize_interpolation=name).resize_interpolation == name
    with pytest.raises(ConfigError, match="resize_interpolation"):
        TrainOptions(resize_interpolation="area2")


def test_opencv_is_asked_for_before_anything_is_loaded(tmp_path, monkeypatch):
    folder = noisy_images(tmp_path / "data")
    monkeypatch.setattr(interpolation, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="needs OpenCV") as caught:
        images(folder, tiny.options(tmp_path, tmp_path, resize_interpolation="area"))
    assert install_command("opencv") in caught.value.hint
    assert images(folder, tiny.options(tmp_path, tmp_path, resize_interpolation="box"))


def test_a_subset_of_a_dataset_file_has_its_own_interpolation(tmp_path):
    noisy_images(tmp_path)
    file = tmp_path / "dataset.toml"
    file.write_text(
        """
[general]
resize_interpolation = "area"
[[datasets]]
[[datasets.subsets]]
image_dir = "train/1_sks"
class_tokens = "sks"
[[datasets.subsets]]
image_dir = "train/1_sks"
class_tokens = "girl"
is_reg = true
resize_interpolation = "box"
"""
    )
    subsets = translate(None, file, {}).subsets
    assert [subset.interpolation for subset in subsets] == ["area", "box"]


# ---- files
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "named"), [("kohya", 0), ("diffusers", 1), ("both", 1)])
def test_the_plan_says_that_a_file_for_diffusers_is_for_diffusers_alone(form, named):
    lines = run_checks.notices(TrainOptions(lora_format=form), None)
    assert sum("for diffusers alone" in line for line in lines) == named


# ---- letters that sd-scripts makes plain
# --------------------------------------------------------------------------------------------------

PLAIN = {
    "don’t": "don't",
    "“a red hat”": '"a red hat"',
    "ﬁne ﬂower": "fine flower",
    "１girl": "1girl",
    "Ｈｅｌｌｏ　Ｗｏｒｌｄ": "Hello World",
    "cafÃ© itâ€™s": "café it's",
    "sylvie （dress）": "sylvie (dress)",
    "＾o＾": "^o^",
}
KEPT = [
    "^_^", ">_<", "＞_＜", "´ω｀", "(｡◕‿◕｡)", "初音ミク", "ﾊﾂﾈﾐｸ", "Ａ子", "你好，“世界”！",
    "п’ять", "Привет, «мир»", "pokémon", "naïve", "straße", "½ ★ ♥", "a – b…", "안녕“하세요”",
]  # fmt: skip


@pytest.mark.parametrize("text", PLAIN)
def test_letters_of_latin_captions_become_those_that_sd_scripts_reads(text):
    assert plain_letters(text) == PLAIN[text]
    assert plain_letters(PLAIN[text]) == PLAIN[text]
    assert is_read_otherwise(parse(text))


@pytest.mark.parametrize("text", KEPT)
def test_emoticons_and_captions_in_other_scripts_stay(text):
    assert with_plain_letters(parse(text)).text() == parse(text).text()
    assert not is_read_otherwise(parse(text))


def test_no_tag_is_split_and_no_wildcard_is_made():
    for text in ("ｗｗｗ，２", "｛red｜blue｝ hat"):
        assert len(with_plain_letters(parse(text)).tags) == 1
        assert "," not in with_plain_letters(parse(text)).text()
    assert with_plain_letters(parse("｛a｜b｝")).text() == "｛a｜b｝"
    weighted = parse("（hat：1.2）", CaptionSyntax(weighted_captions=True))
    assert with_plain_letters(weighted).text() == "（hat：1.2）"


def test_no_label_of_the_vocabulary_is_changed():
    assert [tag for tag in load().names if plain_letters(tag) != tag] == []


def test_check_fixes_letters_and_leaves_the_trigger_and_the_rest_of_the_text(tmp_path):
    folder = tiny.save_images(tmp_path / "imgs", [(64, 64)] * 2)
    (folder / "1.txt").write_text("kit’su,  don’t look ,1girl\r\n", encoding="utf-8", newline="")
    (folder / "2.txt").write_text("kit’su, 初音ミク！, ^_^", encoding="utf-8")
    options = CheckOptions(only=("letters",), trigger=("kit’su",))
    result = api.check(folder, options, fix=True)
    assert [(f.path.name, f.fixed) for f in result.findings] == [("1.png", True)]
    assert "`don’t` is not `don't`" in result.findings[0].reason
    assert (folder / "1.txt").read_bytes() == "kit’su,  don't look ,1girl\r\n".encode()
    assert (folder / "2.txt").read_text(encoding="utf-8") == "kit’su, 初音ミク！, ^_^"
    api.undo(folder)
    assert "don’t" in (folder / "1.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["don’t", "a &quot;hat&quot;", "cafÃ©"])
def test_the_plan_counts_captions_that_sd_scripts_reads_otherwise(text, tmp_path):
    folder = tiny.save_images(tmp_path / "data" / "train" / "1_sks", [(64, 64)] * 3)
    options = tiny.options(tmp_path, tmp_path)
    plan = make_plan(find_subsets(tmp_path / "data", options)[0], options)
    assert not any("curly" in notice for notice in plan.notices)
    (folder / "2.txt").write_text(f"sks, {text}", encoding="utf-8")
    plan = make_plan(find_subsets(tmp_path / "data", options)[0], options)
    [notice] = [notice for notice in plan.notices if "curly" in notice]
    assert "in 1 caption:" in notice and "dsk check" in notice
    assert plan.images[1].caption == f"sks, {text}"


# ---- images without a caption
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "caption"), [("", ""), ('class_tokens = ""', ""), ('class_tokens = "a dog"', "a dog")]
)
@pytest.mark.parametrize("name", ["img", "10_sks dog"])
def test_a_subset_without_class_tokens_has_empty_captions_and_the_plan_says_so(
    name, line, caption, tmp_path
):
    tiny.save_images(tmp_path / name, [(64, 64)], captions=False)
    file = tmp_path / "dataset.toml"
    file.write_text(f'[[datasets]]\n[[datasets.subsets]]\nimage_dir = "{name}"\n{line}\n')
    translated = translate(None, file, {"max_train_steps": 1})
    plan = make_plan(translated.subsets, translated.options)
    assert [image.caption for image in plan.images] == [caption]
    [notice] = [notice for notice in plan.notices if "without a caption" in notice]
    assert ("gets an empty one" in notice) == (caption == "")


# ---- names of folders
# --------------------------------------------------------------------------------------------------

AS_SD_SCRIPTS = {
    "007_zero": (7, "zero"),
    "2_3_four": (2, "3_four"),
    " 4_space": (4, "space"),
    "10_": (10, ""),
    "+5_plus": (5, "plus"),
    "１２_wide": (12, "wide"),
    "3_plain": (3, "plain"),
}
IGNORED = ["0_none", "-2_less", "3 kitsu", "noprefix"]


def test_a_file_of_sd_scripts_trains_the_folders_that_sd_scripts_reads(tmp_path):
    """sd-scripts: `int` of the text before the first `_`; the rest is the caption."""
    for name in (*AS_SD_SCRIPTS, *IGNORED):
        tiny.save_images(tmp_path / "img" / name, [(64, 64)], captions=False)
    (tmp_path / "img" / "6_link").symlink_to(tmp_path / "img" / "3_plain")
    file = tmp_path / "config.toml"
    file.write_text('train_data_dir = "img"\n')
    translated = translate(file, None, {"max_train_steps": 1})
    read = {subset.folder.name: (subset.repeats, subset.name) for subset in translated.subsets}
    assert read == AS_SD_SCRIPTS
    for name in AS_SD_SCRIPTS:
        named = [n for n in translated.notices if n.startswith(name) and "as sd-scripts" in n]
        assert len(named) == (name != "3_plain")
    for name in (*IGNORED, "6_link"):
        assert any(notice.startswith(name) for notice in translated.notices)
    plan = make_plan(translated.subsets, translated.options, notices=translated.notices)
    assert {image.path.parent.name: image.caption for image in plan.images} == {
        name: caption for name, (_, caption) in AS_SD_SCRIPTS.items()
    }


def test_a_dataset_of_dsk_keeps_to_plain_names_and_says_how_trainers_read_others(tmp_path):
    """`dsk plan-repeats` counts the same; a second number is mostly a slip."""
    for name in ("3_plain", "2_3_four"):
        tiny.save_images(tmp_path / "train" / name, [(64, 64)])
    subsets, notices = find_subsets(tmp_path, tiny.options(tmp_path, tmp_path))
    assert [subset.folder.name for subset in subsets] == ["3_plain"]
    assert any("trainers read 2 x `3_four`" in notice for notice in notices)
