"""Captions of each kind from the first command to the last: no command takes a sentence apart."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from datasetkit.captions.caption import file_text, parse, read_caption, with_sentence
from datasetkit.project.caption_syntax import syntax_of
from tests.cli.conftest import write_image
from tests.taggers.test_florence2 import TINY

SENTENCE = "A girl in a red scarf smiles, and the wall is blue."


CONFIG = """
[train]
shuffle_caption = true
caption_tag_dropout_rate = 0.1
[[concept]]
folder = "fox"
trigger = ["kitsu"]
captions = "mixed"
[[concept]]
folder = "dog"
trigger = ["rex"]
captions = "sentence"
[[concept]]
folder = "cat"
trigger = ["tom"]
"""


def test_an_export_for_sd_scripts_keeps_sentences_whole(dsk, here):
    (here / "dsk.toml").write_text(CONFIG)
    texts = {
        "fox": f"kitsu, 1girl, smile\n{SENTENCE}\n",
        "dog": f"rex, {SENTENCE}\n",
        "cat": "tom, cat, asleep\n",
    }
    for folder, text in texts.items():
        for n in range(2):
            image = write_image(here / folder / f"{n}.png", 40 * n + len(folder))
            image.with_suffix(".txt").write_text(text)
    assert dsk("layout").code == 0
    ended = dsk("export", "dataset")
    assert ended.code == 0 and ".kohya" in ended.err
    [block] = tomllib.loads((here / "dataset/dataset.toml").read_text())["datasets"]
    rows = {row["class_tokens"]: row for row in block["subsets"]}
    assert rows["kitsu"]["caption_extension"] == ".kohya"
    assert rows["kitsu"]["keep_tokens_separator"] == "|||"
    assert rows["rex"]["shuffle_caption"] is False
    assert rows["rex"]["caption_tag_dropout_rate"] == 0
    assert "shuffle_caption" not in rows["tom"] and "caption_extension" not in rows["tom"]
    laid_out = Path(here / "dataset" / rows["kitsu"]["image_dir"])
    assert (laid_out / "0.kohya").read_text() == f"kitsu ||| 1girl, smile ||| {SENTENCE}\n"
    assert (laid_out / "0.txt").read_text() == texts["fox"]
    assert not list(here.glob("dataset/train/*_tom/*.kohya"))
    assert dsk("check", "dataset").code in (0, 1, 3)
    plan = dsk("train", "--dry-run", "--dataset-config", "dataset/dataset.toml", "--set",
               "pretrained_model_name_or_path=tiny")  # fmt: skip
    assert plan.code == 0, plan.err
    assert dsk("undo", "dataset").code == 0 and not (laid_out / "0.kohya").exists()


def test_a_layout_outside_of_the_project_names_the_kind_that_is_lost(dsk, here):
    (here / "project").mkdir()
    (here / "project" / "dsk.toml").write_text('[dataset]\ncaptions = "mixed"\n')
    image = write_image(here / "project" / "set" / "a.png", 50)
    image.with_suffix(".txt").write_text(f"kitsu, 1girl\n{SENTENCE}\n")
    ended = dsk("layout", "kitsu=project/set", "--out", "elsewhere", "--repeats", "1")
    assert ended.code == 0 and '[dataset] captions = "mixed"' in ended.err
    assert (here / "elsewhere/train/1_kitsu/a.txt").read_text() == f"kitsu, 1girl\n{SENTENCE}\n"
    ended = dsk("layout", "kitsu=project/set", "--out", "project/dataset", "--repeats", "1")
    assert ended.code == 0 and "captions are of the kind" not in ended.err


# ---- from the first command to the last

TAGGED = "kitsu, 1girl, solo, long hair, lips, nose, blue eyes, =_=, baseball cap, hat"
PROJECT = """
[dataset]
captions = "{kind}"
[[concept]]
name = "kitsu"
folder = "photos"
trigger = ["kitsu"]
[caption]
model_dir = "{captioner}"
beams = 1
[train]
resolution = 128
min_bucket_reso = 64
max_bucket_reso = 256
optimizer_type = "AdamW"
mixed_precision = "no"
network_dim = 4
max_train_epochs = 2
save_state = true
save_every_n_epochs = 1
train_batch_size = 2
shuffle_caption = true
caption_tag_dropout_rate = 0.2
pretrained_model_name_or_path = "tiny"
"""
# What the file is after `dsk tag`, after the sentence is written, and after the rules.
STEPS = {
    "tags": (f"{TAGGED}\n", None, "kitsu, 1girl, solo, long hair, nose, blue eyes, =_=\n"),
    "sentence": (None, f"kitsu, {SENTENCE}\n", f"kitsu, {SENTENCE}\n"),
    "mixed": (
        f"{TAGGED}\n",
        f"{TAGGED}\n{SENTENCE}\n",
        f"kitsu, 1girl, solo, long hair, nose, blue eyes, =_=\n{SENTENCE}\n",
    ),
}


def write_sentence(path: Path) -> None:
    syntax = syntax_of(path.parent)
    caption = read_caption(path.with_suffix(".png"), syntax) or parse("", syntax)
    if caption.syntax.kind != "tags":
        path.write_text(file_text(with_sentence(with_trigger(caption), SENTENCE)))


def with_trigger(caption):
    return caption if caption.tags else parse("kitsu", caption.syntax)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from tests.trainer import tiny

    return tiny.save_small(tmp_path_factory.mktemp("model"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mixed", "tags", "sentence"])
def test_a_kind_of_captions_from_tagging_to_export(kind, dsk, here, model):
    from tests.trainer import tiny
    from tests.web.client import review

    tagged, captioned, ruled = STEPS[kind]
    (here / "dsk.toml").write_text(PROJECT.format(kind=kind, captioner=TINY))
    (here / "tiny").symlink_to(model)
    tiny.save_images(here / "photos", [(128, 128), (192, 128), (128, 192), (128, 128)],
                     captions=False)  # fmt: skip
    photos = sorted((here / "photos").glob("*.png"))
    captions = [path.with_suffix(".txt") for path in photos]

    def texts() -> set[str | None]:
        return {path.read_text() if path.exists() else None for path in captions}

    assert dsk("tag", "photos", "--tagger", "basic").code == 0
    assert {text and text.replace(", white background", "") for text in texts()} == {tagged}
    # The random model of the tests writes no words: a person corrects what it wrote.
    if kind != "tags":
        assert dsk("caption", "photos").code == 0
        described = {text or "" for text in texts()}
        assert all(text.startswith("kitsu, ") and text.endswith("\n") for text in described)
        assert {text.count("\n") for text in described} == {1 if kind == "sentence" else 2}
        assert all(not tagged or text.startswith(tagged[:40]) for text in described)
    for path in captions:
        write_sentence(path)
    if captioned:
        assert {text.replace(", white background", "") for text in texts() if text} == {captioned}
    # A second run of the tagger keeps the sentences.
    before = texts()
    assert dsk("tag", "photos", "--tagger", "basic").code == 0 and texts() == before
    given = ("--exclude", "lips,white background,*cap,hat,*scarf*")
    assert dsk("rules", "photos", *given, "--replace", "smiles=grins").code == 0
    assert texts() == {ruled}
    assert dsk("check", "photos", "--fix").code in (0, 1) and texts() == {ruled}
    with review(here / "photos") as page:
        page.do(remove=["=_="])
    ruled = ruled.replace(", =_=", "")
    assert texts() == {ruled}
    assert dsk("layout", "--repeats", "1").code == 0
    [folder] = (here / "dataset" / "train").iterdir()
    assert {path.read_text() for path in folder.glob("*.txt")} == {ruled}
    assert dsk("train", "dataset").code == 0
    ended = dsk("train", "dataset", "--resume")
    assert ended.code == 0, ended.err
    metadata = lora_metadata(here / "output")
    frequency = json.loads(metadata["ss_tag_frequency"])
    assert not any("scarf" in tag for tags in frequency.values() for tag in tags)
    for format in ("kohya", "imagefolder", "meta"):
        assert dsk("export", "dataset", "--format", format).code == 0
    lines = (here / "dataset/train/metadata.jsonl").read_text().splitlines()
    assert {json.loads(line)["text"] for line in lines} == {", ".join(ruled.split("\n")[:-1])}
    entries = json.loads((here / "dataset/meta.json").read_text())
    assert len(entries) == 4
    has_sentence = [SENTENCE in entry.get("caption", "") for entry in entries.values()]
    assert all(has_sentence) == any(has_sentence) == (kind != "tags")


def lora_metadata(folder: Path) -> dict[str, str]:
    from safetensors import safe_open

    newest = max(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    with safe_open(newest, "np") as file:
        return dict(file.metadata())


# ---- on one line, for OneTrainer

TEXTS = (f"kitsu, 1girl, smile\n{SENTENCE}\n", f"{SENTENCE}\nkitsu, 1girl\n", "kitsu, 1girl\n")
JOINED = [
    f"kitsu, 1girl, smile, {SENTENCE}\n",
    f"{SENTENCE} kitsu, 1girl\n",
    "kitsu, 1girl\n",
]


def mixed_dataset(here: Path, more: str = "") -> Path:
    (here / "dsk.toml").write_text(
        '[dataset]\ncaptions = "mixed"\n[[concept]]\nfolder = "fox"\n'
        f'trigger = ["kitsu"]\nrepeats = 2\n[train]\nshuffle_caption = true\n{more}'
    )
    for n, text in enumerate(TEXTS):
        write_image(here / "fox" / f"{n}.png", 40 * n).with_suffix(".txt").write_text(text)
    return here / "fox"


def captions_below(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.rglob("*.txt"))]


def test_the_steps_that_export_names_give_onetrainer_all_of_a_caption(dsk, here):
    fox = mixed_dataset(here)
    assert dsk("layout").code == 0
    assert captions_below(here / "dataset") == list(TEXTS)
    ended = dsk("export", "dataset", "--format", "onetrainer")
    assert ended.code == 0 and "of 2 images" in ended.err and "--one-line" in ended.err
    for _ in range(2):
        assert dsk("layout", "--one-line", "--out", "onetrainer").code == 0
    assert captions_below(here / "onetrainer") == JOINED and captions_below(fox) == list(TEXTS)
    assert dsk("history", "onetrainer", "--json").out.count('"layout"') == 2
    ended = dsk("export", "onetrainer", "--format", "onetrainer")
    assert ended.code == 0 and "at random" not in ended.err
    [concept] = json.loads((here / "onetrainer/onetrainer-concepts.json").read_text())
    assert concept["path"].endswith("onetrainer/train/2_kitsu")
    assert concept["text"]["enable_tag_shuffling"] is False


def test_captions_on_one_line_are_those_of_their_sources(dsk, here):
    mixed_dataset(here)
    assert dsk("layout", "--one-line").code == 0
    checked = dsk("check", "dataset", "--json", "--only", "differs")
    assert checked.result["findings"] == []
    plan = dsk("train", "dataset", "--dry-run", "--json", "--set",
               "pretrained_model_name_or_path=tiny")  # fmt: skip
    assert plan.result["plan"]["captions"]["differing"] == []
    (here / "dataset/train/2_kitsu/0.txt").write_text(JOINED[1])
    checked = dsk("check", "dataset", "--json", "--only", "differs")
    assert len(checked.result["findings"]) == 1


def test_lines_that_are_separate_captions_stay_on_lines_of_their_own(dsk, here):
    mixed_dataset(here, "enable_wildcard = true\n")
    assert dsk("layout", "--one-line").code == 0
    assert captions_below(here / "dataset") == list(TEXTS)
    ended = dsk("export", "dataset", "--format", "onetrainer")
    assert ended.code == 0 and "at random" not in ended.err
