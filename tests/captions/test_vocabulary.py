"""What the vocabulary knows about a tag, and what it suggests for one that it does not know."""

import hashlib
import pickle
import time
from importlib import resources

import pytest

from datasetkit.captions.caption import KAOMOJI
from datasetkit.captions.vocabulary import DATA_FILE, PERSON_COUNT, Vocabulary, load, read
from datasetkit.core.errors import ModelFileError

HEADER = "tag_id,name,category,count\n"


def test_the_shipped_file_is_the_published_one():
    data = resources.files("datasetkit").joinpath("data", DATA_FILE).read_bytes()
    assert (
        hashlib.sha256(data).hexdigest()
        == "113a49dcfdce42431e7e9fe929e8335d2aea73fba38c5975788c5675deb94ba4"
    )


def test_all_tags_are_read_with_their_categories():
    vocabulary = load()
    counts = {
        name: vocabulary.categories.count(name) for name in ("rating", "general", "character")
    }
    assert len(vocabulary.names) == 10_861
    assert counts == {"rating": 4, "general": 8_106, "character": 2_751}


def test_no_two_tags_share_a_normal_form():
    vocabulary = load()
    assert [vocabulary.rank(name) for name in vocabulary.names] == list(
        range(len(vocabulary.names))
    )


def test_names_have_spaces_except_kaomoji():
    assert {name for name in load().names if "_" in name} <= KAOMOJI


def test_the_quoted_field_and_the_backslashes_are_read():
    assert 'don\'t say "lazy"' in load()
    assert all(tag in load() for tag in ("\\m/", "\\||/", "\\o/", "\\n/", "double \\m/"))


@pytest.mark.parametrize("tag", ["v", "w", "x", "?", "!", ":d", ";)", "39", "@_@", "!?", "...?"])
def test_short_tags_are_tags(tag):
    assert load().category(tag) == "general"


@pytest.mark.parametrize("tag", ["eyes", "hair", "mouth", "", "_", "?!?"])
def test_an_unknown_tag_has_no_category_rank_or_spelling(tag):
    vocabulary = load()
    assert tag not in vocabulary
    assert (vocabulary.category(tag), vocabulary.rank(tag), vocabulary.spelling(tag)) == (
        None,
        None,
        None,
    )


def test_tags_are_found_in_any_spelling():
    vocabulary = load()
    assert vocabulary.category("Hatsune_Miku") == "character"
    assert vocabulary.category("explicit") == "rating"
    assert vocabulary.spelling("LOOKING_AT_VIEWER") == "looking at viewer"
    assert vocabulary.rank("1girl") == 4


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("blonde", "blonde hair"),
        ("blond hair", "blonde hair"),
        ("lip", "lips"),
        ("1girls", "1girl"),
        ("redhair", "red hair"),
        ("hair red", "red hair"),
        ("mouth", "open mouth"),
        ("looking at viewr", "looking at viewer"),
        ("White_Backgroud", "white background"),
        ("smile", "smile"),
        ("hiar", "long hair"),
        ("long hiar", "long hair"),
        ("smlie", "smile"),
        ("viewr", "facing viewer"),
        ("wihte background", "white background"),
        ("nekclace", "necklace"),
    ],
)
def test_the_nearest_tag_is_the_one_that_was_meant(written, meant):
    assert load().nearest(written) == (meant,)


def test_nearest_returns_at_most_n_and_none_where_nothing_is_near():
    assert len(load().nearest("blond hair", 3)) == 3
    assert load().nearest("qqqqqqqqqqqq") == ()
    assert load().nearest("") == load().nearest("smile", 0) == ()


def test_nearest_takes_less_than_half_a_second():
    start = time.perf_counter()
    load().nearest("looking over the left shoulder at viewers")
    assert time.perf_counter() - start < 0.5


def test_a_vocabulary_survives_pickling():
    small = Vocabulary(("smile", "hatsune miku"), ("general", "character"))
    copy = pickle.loads(pickle.dumps(small))
    assert copy == small
    assert copy.category("Smile") == "general"


@pytest.mark.parametrize("tag", ["1girl", "2boys", "6+girls", "1other", "6+others"])
def test_person_counts_are_recognised(tag):
    assert PERSON_COUNT.match(tag)


@pytest.mark.parametrize(
    "tag", ["multiple girls", "girl", "1girl sandwich", "cat girl", "6++girls", "39"]
)
def test_other_tags_are_not_person_counts(tag):
    assert not PERSON_COUNT.match(tag)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("name,category\n1girl,0\n", "tag_id"),
        (HEADER + "1,smile,7,12\n", "line 2"),
        (HEADER + "1,smile\n", "line 2"),
        (HEADER + "1,,0,12\n", "line 2"),
        ("", "tag_id"),
    ],
)
def test_a_malformed_label_file_is_refused_with_name_and_line(text, part):
    with pytest.raises(ModelFileError, match=r"labels\.csv") as caught:
        read(text, source="labels.csv")
    assert part in caught.value.message
