"""A plan opens each image once: what the project has recorded is not read again."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasetkit.captions import grammar, tokens
from datasetkit.captions.caption import decode_caption
from datasetkit.core.errors import ConfigError
from datasetkit.core.files import in_natural_order, natural_key
from datasetkit.core.records import CaptionSyntax
from datasetkit.images import pixels
from datasetkit.project.session import RunContext
from datasetkit.project.store import Store
from datasetkit.verbs import train as verb
from datasetkit.verbs.shared import training_plan
from tests.cli.conftest import snapshot
from tests.trainer import tiny
from trainer.data import captions
from trainer.data.captions import CaptionSettings
from trainer.plan import read_images, stored_images
from trainer.plan.plan import find_subsets, make_plan


@pytest.fixture
def folder(tmp_path):
    """A dataset of five images with a store, as `dsk layout` leaves it."""
    concept = tmp_path / "data" / "train" / "2_sks"
    tiny.save_images(concept, [(64, 64), (96, 64), (64, 96), (64, 64), (80, 64)])
    for path in concept.glob("*.png"):
        path.with_suffix(".txt").write_text(f"sks, tag {path.stem}\n")
    Store.open(tmp_path / "data").close()
    return tmp_path / "data"


@pytest.fixture
def options(tmp_path):
    return tiny.options(tmp_path / "model", tmp_path / "out", resolution=64)


def planned(folder, options, **how):
    return make_plan(find_subsets(folder, options)[0], options, **how)


def refuse(*_, **__):
    raise AssertionError("an image was opened")


def test_the_second_plan_opens_no_image_and_is_the_same(folder, options, monkeypatch):
    first = planned(folder, options, record=stored_images.write)
    for name in ("probe", "load"):
        monkeypatch.setattr(pixels, name, refuse)
    monkeypatch.setattr(read_images, "image_id", refuse)
    assert planned(folder, options) == first and first.is_whole


def test_a_changed_image_is_read_again(folder, options):
    first = planned(folder, options, record=stored_images.write)
    changed = first.images[0].path
    Image.new("RGB", (64, 64), (9, 9, 9)).save(changed)
    cut = first.images[1].path
    cut.write_bytes(cut.read_bytes()[:-40])
    again = planned(folder, options)
    assert [image.path for image in again.images] == [p.path for p in first.images if p.path != cut]
    assert again.images[0].id != first.images[0].id and again.images[1:] == first.images[2:]
    assert [failed.path for failed in again.failed] == [cut]


def test_a_caption_is_always_read(folder, options):
    first = planned(folder, options, record=stored_images.write)
    first.images[0].path.with_suffix(".txt").write_text("other\n")
    assert planned(folder, options).images[0].caption == "other"


def test_a_size_alone_is_not_enough_for_a_run(folder, options, monkeypatch):
    planned(folder, options, record=stored_images.write)
    with Store.open(folder) as store:
        store.database.execute("DELETE FROM measurements")
    monkeypatch.setattr(pixels, "load", refuse)
    with pytest.raises(AssertionError, match="an image was opened"):
        planned(folder, options)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE files SET width = 'x'", "UPDATE files SET id = x'00'",
        "UPDATE files SET height = -1", "PRAGMA user_version = 99", "UPDATE files SET stamp = 'x'",
        "DELETE FROM files",
    ],
)  # fmt: skip
def test_a_store_with_other_values_is_not_used(folder, options, change):
    first = planned(folder, options, record=stored_images.write)
    with Store.open(folder) as store:
        store.database.execute(change)
    assert planned(folder, options) == first


def test_a_plan_that_only_looks_writes_nothing_and_a_run_records(folder, options):
    before = snapshot(folder)
    training_plan.plan_run(folder, options)
    assert snapshot(folder) == before
    training_plan.plan_run(folder, options, context=RunContext())
    assert len(stored_images.read(folder / "train" / "2_sks")) == 5
    shutil.rmtree(folder / ".dsk")  # a dataset of nobody's project gets none
    before = snapshot(folder)
    training_plan.plan_run(folder, options, context=RunContext())
    assert snapshot(folder) == before


def test_a_look_at_very_many_images_reads_their_sizes(folder, options, monkeypatch):
    monkeypatch.setattr(read_images, "MOST_WHOLE", 3)
    whole = training_plan.plan_run(folder, options, context=RunContext(wait=True))
    with Store.open(folder) as store:
        store.database.execute("DELETE FROM measurements")
    looked = training_plan.plan_run(folder, options)
    assert looked.steps == whole.steps and looked.buckets == whole.buckets
    assert not looked.plan.is_whole and any(
        "only the size was read" in n for n in looked.plan.notices
    )
    with pytest.raises(ConfigError, match="without reading the images as a whole"):
        verb.train(looked, RunContext())
    held_out = replace(options, validation_split=0.3)
    assert training_plan.plan_run(folder, held_out).plan.is_whole


# ---- what is quick equals what it stands for

TEXTS = st.text(alphabet="ab1, ,\\{}|\n\r\t.é\u3000\ufeff&_", max_size=30)


@given(TEXTS, st.sampled_from(["tags", "sentence", "mixed"]), st.booleans())
def test_a_caption_of_one_line_needs_no_parser(text, kind, wildcard):
    syntax = CaptionSyntax(kind=kind, enable_wildcard=wildcard)
    data = text.encode()
    quick = read_images._one_line(data, syntax)
    if quick is not None:
        caption = decode_caption(Path("a.txt"), data, syntax)
        assert caption is not None and quick == read_images._as_written(caption)


@given(TEXTS)
def test_commas_separate_tags_as_they_always_did(text):
    pieces, start = [], 0
    for at, character in enumerate(text):
        match = re.compile(",").match(text, at)
        if character == "," and match is not None:
            splits = grammar._splits(text, match, grammar.PLAIN)
            if splits or not grammar._in_phrase(text, start, at):
                pieces.append(text[start:at])
                start = at + 1
    pieces.append(text[start:])
    assert grammar.comma_tags(text) == [tag for piece in pieces if (tag := piece.strip())]


@settings(deadline=None)  # the first example builds the tokenizer
@given(TEXTS.filter(str.strip), st.integers(0, 3), st.booleans())
def test_tags_are_counted_one_by_one_as_all_together(text, keep, wildcard):
    settings = CaptionSettings(shuffle_caption=True, keep_tokens=keep, enable_wildcard=wildcard)
    tags = captions.only_tags(text, settings)
    if tags is not None:
        longest = captions.longest(text, settings, tokens.count)
        assert tokens.count_tags(tags) == tokens.count(longest)


@given(st.lists(st.text(alphabet="aB019é-", max_size=4), unique=True))
def test_numbers_of_one_width_are_in_natural_order_as_they_are(names):
    assert in_natural_order(names, str) == sorted(names, key=natural_key)
    padded = [f"a{n:05d}.jpg" for n in (3, 20, 100, 99999)]
    assert in_natural_order(reversed(padded), str) == padded


def test_a_trigger_is_known_from_some_captions_and_counted_in_all(folder, options, monkeypatch):
    concept = folder / "train" / "2_sks"
    (concept / "3.txt").write_text("a, b, c, d, e, f, g, sks\n")
    shuffled = replace(options, shuffle_caption=True, keep_tokens=1)
    all_of_them = training_plan.plan_run(folder, shuffled)
    monkeypatch.setattr(training_plan, "_ENOUGH", 4)
    some = training_plan.plan_run(folder, shuffled)
    assert some.keep_tokens_lowered_by == all_of_them.keep_tokens_lowered_by == (concept / "3.png",)
