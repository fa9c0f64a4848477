"""Which tags to prune: the tables of a tutorial, and each category of suggestions."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.captions.caption import parse, with_source
from datasetkit.captions.pruning import TaggedImage, chosen, suggest, taken
from datasetkit.captions.vocabulary import load
from datasetkit.core.records import CaptionSyntax

VOCABULARY = load()
# The two tables of a tutorial for a person: * is what it deletes.
TUTORIAL = (
    "1girl, baseball cap, blue headwear*, cup, drink*, hand on own cheek, hand on own face*, hat*, "
    "head rest, jewelry, lips*, long hair, necklace, nose*, realistic, shirt, simple background, "
    "solo, upper body, white background*",
    "1girl, animal*, animal focus*, black eyes, black hair, cat, closed mouth, dog*, lips*, "
    "looking at viewer, shiba inu*, short hair, simple background, smile, solo, white background",
)
# What only the eye can know: the cup is not drunk from, the dog is a cat. The tutorial deletes the
# colour of the cap and one of two white backgrounds, and keeps `jewelry` beside `necklace`.
ONLY_THE_EYE = {"drink", "dog", "shiba inu", "animal focus"}
TUTORIAL_ALONE = {"blue headwear", "white background"}
HERE_ALONE = {"jewelry"}


def images(*captions, scores=()):
    return [
        TaggedImage(
            Path(f"{n}.png"),
            Path(),
            tuple(tag.strip() for tag in caption.split(",")),
            dict(scores[n]) if n < len(scores) else {},
        )
        for n, caption in enumerate(captions)
    ]


def rows(*captions, kind="character", triggers=(), scores=()):
    return suggest(images(*captions, scores=scores), kind, triggers, VOCABULARY)


def removed(table, why=None):
    return {
        row.tag
        for row in table
        if row.action == "remove" and why in (None, row.why) and (why or row.recommended)
    }


@pytest.mark.parametrize("number", [0, 1])
def test_the_tables_of_the_tutorial(number):
    caption = TUTORIAL[number]
    theirs = {tag.strip(" *") for tag in caption.split(",") if tag.endswith("*")}
    ours = removed(rows(caption.replace("*", "")))
    assert ours - theirs <= HERE_ALONE
    assert theirs - ours <= ONLY_THE_EYE | TUTORIAL_ALONE
    assert {"lips"} <= ours & theirs


def test_both_tables_as_one_dataset():
    table = rows(*(caption.replace("*", "") for caption in TUTORIAL))
    assert removed(table) == {"lips", "nose", "hat", "hand on own face", "animal", "jewelry"}
    kept = {row.tag for row in table if row.action == "keep"}
    assert {"black hair", "long hair", "closed mouth", "smile", "baseball cap"} <= kept


TEN = [f"sks, 1girl, blue eyes, long hair, smile, shirt, pose {n}" for n in range(10)]


def test_features_of_the_subject_are_fixed_where_most_images_have_them():
    assert removed(rows(*TEN, triggers={"sks"}), "fixed") == {"blue eyes", "long hair"}
    varied = [t.replace("long hair", "short hair") if n < 5 else t for n, t in enumerate(TEN)]
    table = rows(*varied, triggers={"sks"})
    assert removed(table, "fixed") == {"blue eyes"}
    assert {"long hair", "short hair", "smile"} <= {r.tag for r in table if r.why != "fixed"}


@pytest.mark.parametrize(
    ("kind", "fixed"),
    [
        ("character", {"lips", "blue eyes", "long hair", "large breasts"}),
        ("face", {"lips", "blue eyes", "long hair"}),
        ("garment", {"shirt", "pleated skirt"}),
        ("style", set()),
    ],
)
def test_what_is_fixed_depends_on_the_kind(kind, fixed):
    tags = "lips, blue eyes, long hair, large breasts, shirt, pleated skirt, smile, outdoors"
    table = rows(*[tags] * 6, kind=kind)
    assert removed(table, "fixed") == fixed


def test_a_trigger_is_never_in_the_table():
    table = rows(*TEN, triggers={"sks", "long hair"})
    assert not {"sks", "long hair"} & {row.tag for row in table}


def test_tags_of_nearly_all_images_are_shown_and_not_recommended():
    row = next(row for row in rows(*TEN, triggers={"sks"}) if row.tag == "smile")
    assert (row.why, row.action, row.recommended) == ("in all", "remove", False)
    assert len(row.images) == row.of == 10


def test_what_most_captions_have_is_offered_to_the_others():
    captions = [*TEN[:9], TEN[9].replace(", smile", ", full body")]
    table = rows(*captions, triggers={"sks"}, scores=[{}] * 9 + [{"smile": 2900}])
    row = next(row for row in table if row.action == "add")
    assert (row.tag, row.why, row.images) == ("smile", "missing", (Path("9.png"),))
    assert "9 of 10" in row.reason and "0.29" in row.reason and not row.recommended


def test_a_tag_of_one_caption():
    table = rows(*TEN, triggers={"sks"})
    assert "pose 3" in removed(table, "singleton")
    assert removed(rows(*TEN[:9], triggers={"sks"}), "singleton") == set()


def test_a_contradiction_goes_by_clear_scores():
    clear = rows("1girl, indoors, outdoors", scores=[{"indoors": 9000, "outdoors": 4000}])
    row = next(row for row in clear if row.why == "contradiction")
    assert (row.tag, row.recommended) == ("outdoors", True)
    unclear = rows("1girl, indoors, outdoors", scores=[{"indoors": 5000, "outdoors": 4500}])
    assert not next(row for row in unclear if row.why == "contradiction").recommended


def test_scores_that_hang_on_the_threshold():
    table = rows("1girl, cup", "1girl, hat", scores=[{"cup": 3600, "1girl": 9000}, {"hat": 6000}])
    row = next(row for row in table if row.why == "threshold")
    assert row.tag == "cup" and "0.36" in row.reason and not row.recommended


def test_each_tag_of_an_image_is_in_one_row():
    captions = [caption.replace("*", "") for caption in TUTORIAL] + TEN
    seen = set()
    for row in rows(*captions):
        for path in row.images:
            assert (path, row.tag) not in seen
            seen.add((path, row.tag))


def test_rows_are_taken_by_number_by_tag_or_at_once():
    table = rows(*(caption.replace("*", "") for caption in TUTORIAL))
    assert {row.tag for row in chosen(table, ["1", "hat"])} == {"lips", "hat"}
    assert {row.tag for row in chosen(table, ["recommended"])} == removed(table)
    assert chosen(table, []) == []
    with pytest.raises(KeyError):
        chosen(table, ["no such tag"])


def test_a_taken_row_changes_its_images_only_and_no_sentence():
    syntax = CaptionSyntax(kind="mixed")
    text = "sks, lips,  smile\nHer lips, red, smile.\n"
    caption = with_source(parse(text, syntax), text)
    table = rows("sks, lips, smile", "sks, solo", triggers={"sks"})
    row = next(row for row in table if row.tag == "lips")
    after = taken(caption, Path("0.png"), [row])
    assert after.source == "sks, smile\nHer lips, red, smile.\n"
    assert taken(caption, Path("1.png"), [row]) is caption


tags = st.sampled_from(VOCABULARY.names[:300])


@given(st.lists(st.lists(tags, min_size=1, max_size=8), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_what_is_not_in_a_taken_row_stays(captions):
    texts = [", ".join(dict.fromkeys(caption)) for caption in captions]
    members = [
        TaggedImage(Path(f"{n}.png"), Path(), parse(text).tags) for n, text in enumerate(texts)
    ]
    table = suggest(members, "character", (), VOCABULARY)
    wanted = chosen(table, ["all"])
    for member, text in zip(members, texts, strict=True):
        after = taken(parse(text), member.path, wanted)
        mine = {r.tag for r in wanted if r.action == "remove" and member.path in r.images}
        added = [r.tag for r in wanted if r.action == "add" and member.path in r.images]
        assert set(after.tags) == (set(parse(text).tags) - mine) | set(added)
