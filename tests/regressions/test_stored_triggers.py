"""A trigger that only a command stored is no part of a sentence, for every reader of captions."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path
from random import Random

import pytest

from datasetkit import api
from datasetkit.images.scan import scan
from datasetkit.project.caption_syntax import syntax_of
from datasetkit.project.store import Store
from datasetkit.project.stored_triggers import stored_triggers
from tests.cli.conftest import write_image
from tests.taggers.test_florence2 import TINY
from tests.web.client import review
from trainer.data.captions import CaptionSettings, sample

SENTENCE = "A girl in a red scarf smiles, and the wall is blue."
TAGS = "1girl, smile"


def dataset(folder: Path, *texts: str) -> Path:
    for n, text in enumerate(texts):
        write_image(folder / f"{n}.png", n, (64, 64)).with_suffix(".txt").write_text(text)
    return folder


def texts(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.glob("*.txt"))]


def declare(folder: Path, kind: str, more: str = "") -> None:
    (folder / "dsk.toml").write_text(f'[dataset]\ncaptions = "{kind}"\n{more}')


@pytest.fixture
def photos(here: Path, dsk) -> Path:
    """Sentences whose trigger is in no dsk.toml: `dsk rules` wrote and stored it."""
    declare(here, "sentence")
    folder = dataset(here / "photos", *[f"{SENTENCE}\n"] * 3)
    assert dsk("rules", "photos", "--trigger", "kitsu").code == 0
    assert texts(folder) == [f"kitsu, {SENTENCE}\n"] * 3
    return folder


def parsed(folder: Path) -> set[tuple[tuple[str, ...], tuple[str, ...]]]:
    with Store.open_copy(folder) as store:
        records = scan(folder, store).records
    return {(r.caption.tags, r.caption.sentences) for r in records if r.caption}


# ---- commands that store it


def test_caption_stores_its_trigger_apart_from_the_sentence(here):
    declare(here, "sentence")
    folder = here / "photos"
    write_image(folder / "a.png", 1, (64, 64))
    options = api.CaptionOptions(model_dir=str(TINY), beams=1, trigger=("kitsu",), workers=1)
    api.caption(folder, options)
    [(tags, sentences)] = parsed(folder)
    assert tags == ("kitsu",) and not sentences[0].startswith("kitsu")
    assert api.caption(folder, options).changes == ()


def test_tag_stores_its_trigger_before_a_mixed_caption(dsk, here):
    declare(here, "mixed")
    folder = dataset(here / "photos", *[f"{SENTENCE}\n"] * 2)
    assert dsk("tag", "photos", "--trigger", "kitsu", "--tagger", "basic").code == 0
    for path in folder.glob("*.txt"):  # a sentence before the tags
        path.write_text(f"kitsu, {SENTENCE}\n{TAGS}\n")
    assert parsed(folder) == {(("kitsu", "1girl", "smile"), (SENTENCE,))}


def test_the_page_stores_its_trigger_and_reads_the_captions_anew(here):
    declare(here, "sentence")
    folder = dataset(here / "photos", f"{SENTENCE}\n", f"kitsu, {SENTENCE}\n")
    with review(folder) as page:
        page.do(trigger=["kitsu"])
        assert texts(folder) == [f"kitsu, {SENTENCE}\n"] * 2
        page.do(replace=[["kitsu", "sks"]])
        assert texts(folder) == [f"sks, {SENTENCE}\n"] * 2
        page.do(remove=["sks"])
        assert texts(folder) == [f"{SENTENCE}\n"] * 2


# ---- commands that read it


def test_rules_replace_and_remove_it(dsk, photos):
    assert dsk("rules", "photos", "--replace", "kitsu=sks").code == 0
    assert texts(photos) == [f"sks, {SENTENCE}\n"] * 3
    assert stored_triggers([photos])[photos] == ("sks",)
    assert dsk("rules", "photos", "--additional", "photo").code == 0
    assert texts(photos) == [f"sks, photo, {SENTENCE}\n"] * 3
    assert dsk("rules", "photos", "--exclude", "sks").code == 0
    assert texts(photos) == [f"photo, {SENTENCE}\n"] * 3
    assert stored_triggers([photos])[photos] == ()


def test_undo_makes_it_a_part_of_the_sentence_again(dsk, photos):
    assert syntax_of(photos).leading == ("kitsu",)
    assert dsk("undo", "photos").code == 0
    assert syntax_of(photos).leading == ()
    (photos / "0.txt").write_text(f"kitsu, {SENTENCE}\n")
    assert dsk("rules", "photos", "--replace", "kitsu=sks").code == 0
    assert texts(photos)[0] == f"kitsu, {SENTENCE}\n"


def test_a_trigger_of_few_sentences_is_not_that_of_the_folder(dsk, here):
    declare(here, "sentence")
    folder = dataset(here / "photos", *[f"{SENTENCE}\n"] * 3, "A dog sleeps, and it rains.\n")
    assert dsk("rules", "photos", "--trigger", "rex", "--where", "caption:dog").code == 0
    assert stored_triggers([folder])[folder] == ()
    assert dsk("rules", "photos", "--trigger", "kitsu", "--where", "caption:girl").code == 0
    assert stored_triggers([folder])[folder] == ("kitsu",)


def test_the_phrases_of_a_report_do_not_have_it(dsk, photos):
    assert dsk("report", "photos", "--out", "report").code == 0
    with Path("report/phrases.csv").open(encoding="utf-8") as file:
        phrases = {row["phrase"] for row in csv.DictReader(file)}
    assert "red scarf" in phrases
    assert not any("kitsu" in phrase for phrase in phrases)


def test_suggestions_and_checks_know_it(dsk, photos):
    assert "kitsu" not in dsk("rules", "photos", "--suggest", "--json").out
    checked = dsk("check", "photos", "--json", "--only", "trigger-missing,trigger-first")
    assert checked.result["findings"] == []
    (photos / "1.txt").write_text(f"{SENTENCE}\n")
    checked = dsk("check", "photos", "--json", "--only", "trigger-missing")
    assert len(checked.result["findings"]) == 1


def test_layouts_exports_and_training_keep_it_apart(dsk, here):
    declare(here, "mixed", "[train]\nshuffle_caption = true\n")
    folder = dataset(here / "photos", *[f"{SENTENCE}\n{TAGS}\n"] * 3)
    assert dsk("rules", "photos", "--trigger", "kitsu").code == 0
    assert texts(folder) == [f"kitsu, {SENTENCE}\n{TAGS}\n"] * 3
    assert dsk("layout", "kitsu=photos", "--repeats", "1").code == 0
    laid_out = here / "dataset" / "train" / "1_kitsu"
    assert parsed(laid_out) == {(("kitsu", "1girl", "smile"), (SENTENCE,))}
    assert dsk("export", "dataset").code == 0
    assert (laid_out / "0.kohya").read_text() == f"kitsu, {SENTENCE} ||| {TAGS}\n"
    [subset] = tomllib.loads((here / "dataset/dataset.toml").read_text())["datasets"][0]["subsets"]
    assert subset["keep_tokens_separator"] == "|||"
    syntax = syntax_of(laid_out)
    settings = CaptionSettings(
        kind=syntax.kind, leading=syntax.leading, shuffle_caption=True, keep_tokens=2
    )
    text = f"kitsu, {SENTENCE}\na, b, c\n"
    drawn = {sample(text, settings, 1, Random(seed)) for seed in range(20)}
    assert drawn == {f"kitsu, {SENTENCE} a, b, c", f"kitsu, {SENTENCE} a, c, b"}


def test_a_declared_trigger_does_not_hide_the_stored_one(dsk, photos, here):
    declare(here, "sentence", '[tag]\ntrigger = ["sks"]\n')
    assert syntax_of(photos).leading == ("sks", "kitsu")
    assert dsk("rules", "photos", "--trigger", "sks", "--exclude", "kitsu").code == 0
    assert texts(photos) == [f"sks, {SENTENCE}\n"] * 3


def test_triggers_that_were_set_earlier_are_kept_apart_as_well(dsk, photos, here):
    for word in ("sks", "ohwx"):
        assert dsk("rules", "photos", "--trigger", word).code == 0
    assert texts(photos) == [f"ohwx, sks, kitsu, {SENTENCE}\n"] * 3
    assert stored_triggers([photos])[photos] == ("ohwx",)
    assert parsed(photos) == {(("ohwx", "sks", "kitsu"), (SENTENCE,))}
    assert dsk("report", "photos", "--out", "report").code == 0
    with Path("report/phrases.csv").open(encoding="utf-8") as file:
        phrases = {row["phrase"] for row in csv.DictReader(file)}
    assert "red scarf" in phrases
    assert not any(word in phrase for phrase in phrases for word in ("ohwx", "sks", "kitsu"))
    # Also where the last one is removed, and in what is made of the folder; an undone one is not
    # kept apart.
    assert dsk("rules", "photos", "--exclude", "ohwx").code == 0
    assert parsed(photos) == {(("sks", "kitsu"), (SENTENCE,))}
    assert dsk("resize", "photos", "small", "--max", "32").code == 0
    for _ in range(2):
        assert dsk("layout", "kitsu=photos", "--repeats", "1").code == 0
    for made in ("small", "dataset/train/1_kitsu"):
        assert parsed(here / made) == {(("sks", "kitsu"), (SENTENCE,))}
        assert stored_triggers([here / made])[here / made] == ()
    for _ in range(6):  # layout, resize, report, and three times rules
        assert dsk("undo").code == 0
    assert syntax_of(photos).leading == ("kitsu",)


# ---- where it is stored


def test_what_another_program_stored_is_read_at_once_and_later(here):
    declare(here, "sentence")
    folder = here / "photos"
    for word in ("one", "two", "three"):
        with Store.open(here) as store:
            store.put_triggers({folder: [word]})
        assert stored_triggers([folder])[folder] == (word,)
        assert syntax_of(folder).leading[0] == word


def test_a_settled_store_is_read_once(here, monkeypatch):
    from datasetkit.project import stored_triggers as module

    with Store.open(here) as store:
        store.put_triggers({here / "a": ["kitsu"]})
    monkeypatch.setattr(module, "_SETTLED_NS", -(10**9))
    assert stored_triggers([here / "a"]) == {here / "a": ("kitsu",)}
    monkeypatch.setattr(Store, "stored_triggers", lambda _: {})
    assert stored_triggers([here / "a"]) == {here / "a": ("kitsu",)}


@pytest.mark.parametrize(
    ("folder", "key"),
    [("8_sks", "sks"), ("12_sks girl", "sks girl"), ("sks", "sks"), ("_sks", "_sks"), ("8_", "8_")],
)
def test_repeats_are_no_part_of_the_folder_that_a_trigger_is_stored_for(here, folder, key):
    with Store.open(here) as store:
        store.put_triggers({here / key: ["kitsu"]})
    assert stored_triggers([here / folder])[here / folder] == ("kitsu",)
