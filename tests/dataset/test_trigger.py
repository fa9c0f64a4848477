"""The trigger of a folder: inferred from captions, from its name, and what a store may say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datasetkit.dataset.trigger import (
    KnownTrigger,
    inferred,
    kept_first,
    known_trigger,
    possible_trigger,
)
from datasetkit.project.store import Store
from tests.old_stores import make_store


def tags(*texts: str) -> list[tuple[str, ...]]:
    return [tuple(text.split(", ")) for text in texts]


@pytest.mark.parametrize(
    ("texts", "triggers"),
    [
        (["sks, 1girl", "sks, hat", "sks, smile"], ("sks",)),
        (["sks, mrs x, hat", "sks, mrs x, smile", "sks, mrs x"], ("sks", "mrs x")),
        (["sks, 1girl", "Sks, hat", "sks, smile", "1girl", "hat"], ("sks",)),  # 3 of 5 are 60 %
        (["sks, 1girl", "sks, hat", "sks", "1girl", "hat", "smile"], ()),  # 3 of 6 are not
        (["sks, 1girl", "sks, hat"], ()),  # two captions say nothing
        (["1girl, sks", "1girl, sks", "1girl, sks"], ()),
        (["hand, sks, hat", "hand, sks, smile", "sks, 1girl", "sks, solo"], ("sks",)),
        ([], ()),
    ],
)
def test_a_trigger_is_inferred_from_the_start_of_most_captions(texts, triggers):
    assert inferred(tags(*texts)) == triggers


@pytest.mark.parametrize(
    ("folder", "texts", "words", "source"),
    [
        # A name in the vocabulary is no inferred word, but it is the folder's.
        ("8_hatsune miku", ["hatsune miku, solo", "hatsune miku, hat"], "hatsune miku", "folder"),
        ("8_hatsune_miku", ["hatsune miku, solo", "hatsune miku"], "hatsune_miku", "folder"),
        ("8_hatsune miku", ["solo, hatsune miku", "solo"], "", ""),
        ("hatsune miku", ["hatsune miku, solo", "hatsune miku"], "", ""),
        # The folder's name says which of two leading words is the trigger.
        ("8_sks", ["hand, sks, hat"] * 3, "sks", "captions"),
        ("8_sks", ["sks, hand, hat"] * 3, "sks, hand", "captions"),
        ("8_other", ["sks, hat"] * 3, "sks", "captions"),
    ],
)
def test_the_name_of_the_folder_is_the_last_resort(folder, texts, words, source, tmp_path):
    path = tmp_path / folder
    path.mkdir()
    expected = KnownTrigger(tuple(words.split(", ")) if words else (), source)
    assert known_trigger(path, tags(*texts)) == expected


def test_the_class_of_a_regularisation_set_is_not_a_trigger(tmp_path):
    path = tmp_path / "reg" / "1_1girl"
    path.mkdir(parents=True)
    assert known_trigger(path, tags("1girl, solo", "1girl, hat")) == KnownTrigger()
    assert known_trigger(path, tags(*["a girl, solo"] * 4)) == KnownTrigger()


def stored(folder: Path, words: object) -> KnownTrigger:
    text = words if isinstance(words, (str, bytes, int, type(None))) else json.dumps(words)
    with Store.open(folder) as store, store.transaction() as database:
        database.execute("INSERT INTO trigger_words (folder, words) VALUES (?, ?)", (b".", text))
    return known_trigger(folder, tags("solo, hat"))


def test_a_stored_trigger_is_read(tmp_path):
    assert stored(tmp_path, ["sks", "mrs x"]) == KnownTrigger(("sks", "mrs x"), "stored")


@pytest.mark.parametrize(
    "words",
    [
        ["a, b"],
        ["a\nb"],
        ["\x1b[31m"],
        [""],
        ["x" * 201],
        [f"w{n}" for n in range(21)],
        [1],
        {"a": 1},
        "not JSON",
        "[" * 100_000,
        b"\xff",
        7,
        None,
    ],
)
def test_what_dsk_cannot_have_stored_is_ignored(words, tmp_path):
    assert stored(tmp_path, words) == KnownTrigger()


def test_a_stored_trigger_gives_way_to_the_one_that_the_captions_have_now(tmp_path):
    """The images of a folder were exchanged, or another program renamed the trigger."""
    stored(tmp_path, ["sks"])
    assert known_trigger(tmp_path, tags("sks, hat", *["anna, hat"] * 3)).words == ("sks",)
    assert known_trigger(tmp_path, tags(*["anna, hat"] * 3)).words == ("anna",)
    assert known_trigger(tmp_path, []).words == ("sks",)


def test_a_store_of_an_earlier_version_has_no_triggers(tmp_path):
    make_store(tmp_path, 5)
    assert known_trigger(tmp_path, tags("solo")) == KnownTrigger()
    Store.open(tmp_path).close()
    assert stored(tmp_path, ["sks"]).words == ("sks",)


def test_a_store_that_cannot_be_read_says_nothing(tmp_path):
    (tmp_path / ".dsk").mkdir()
    (tmp_path / ".dsk" / "store.sqlite").write_bytes(b"x" * 4096)
    assert known_trigger(tmp_path, tags("sks, hat")) == KnownTrigger()


def test_a_possible_trigger_is_an_unknown_word_in_all_captions():
    texts = tags("1girl, sks, hat", "solo, sks", "sks, smile", "1girl, hat, sks")
    assert possible_trigger(texts, least=4) == "sks"
    assert possible_trigger(texts, least=5) == ""
    assert possible_trigger(tags("1girl, hat", "1girl, smile"), least=2) == ""


def test_a_rewritten_caption_keeps_its_trigger():
    forms = KnownTrigger(("Sks", "mrs x")).forms
    assert kept_first(forms, ("hat", "sks", "mrs_x"), ("solo", "sks")) == ("sks", "mrs_x", "solo")
    assert kept_first(forms, ("hat",), ("solo", "smile")) == ("solo", "smile")
