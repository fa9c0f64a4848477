"""The shipped tables: every line of the groups and of the implications means something."""

import pytest

from datasetkit.captions.caption import normal_form
from datasetkit.captions.implications import close_chains, load_implications, read_implications
from datasetkit.captions.selectors import glob_pattern, load_groups, read_groups
from datasetkit.captions.vocabulary import PERSON_COUNT, load
from datasetkit.core.errors import ConfigError

GROUPS = load_groups()
FORMS = {
    normal_form(name): category
    for name, category in zip(load().names, load().categories, strict=True)
}


def members(name: str) -> set[str]:
    return {form for form, category in FORMS.items() if GROUPS[name].matches(form, category)}


def test_the_groups_are_the_documented_ones():
    assert list(GROUPS) == ["face", "hair", "eyes", "background", "clothes", "count", "meta"]
    assert all(group.description and group.tags for group in GROUPS.values())


@pytest.mark.parametrize("name", GROUPS)
def test_every_tag_of_a_group_is_in_the_vocabulary_once(name):
    group = GROUPS[name]
    assert [tag for tag in group.tags if tag not in load()] == []
    assert len({normal_form(tag) for tag in group.tags}) == len(group.tags)


@pytest.mark.parametrize("name", GROUPS)
def test_every_glob_and_exception_of_a_group_matches_a_tag(name):
    group = GROUPS[name]
    together = glob_pattern(group.globs)
    caught = [form for form in FORMS if group.globs and together.match(form)]
    assert [glob for glob in group.globs if not any(map(glob_pattern([glob]).match, caught))] == []
    assert [
        glob for glob in group.exceptions if not any(map(glob_pattern([glob]).match, caught))
    ] == []


@pytest.mark.parametrize("name", GROUPS)
def test_the_plain_words_of_a_group_are_not_in_the_vocabulary(name):
    assert [word for word in GROUPS[name].words if word in load()] == []
    assert all(GROUPS[name].matches(normal_form(word), None) for word in GROUPS[name].words)


@pytest.mark.parametrize("name", GROUPS)
def test_no_group_matches_a_character_or_a_rating(name):
    assert {FORMS[form] for form in members(name)} == {"general"}


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        (
            "face",
            ["lips", "nose", "teeth", "blue eyes", "freckles"],
            ["open mouth", "smile", "tongue out", "closed eyes"],
        ),
        (
            "hair",
            ["blonde hair", "twin braids", "ahoge"],
            ["facial hair", "hair ornament", "adjusting hair", "hair bow"],
        ),
        (
            "eyes",
            ["red eyes", "heterochromia", "tareme"],
            ["closed eyes", "covered eyes", "hair between eyes"],
        ),
        (
            "background",
            ["outdoors", "white background", "blue sky"],
            ["solo", "sitting", "greyscale"],
        ),
        (
            "clothes",
            ["school uniform", "short sleeves", "hat"],
            ["holding hat", "clothes lift", "unworn hat", "bed"],
        ),
        ("count", ["1girl", "6+boys", "solo"], ["girl on top", "dual persona"]),
        ("meta", ["watermark", "twitter username", "2021"], ["sketch", "39", "text background"]),
    ],
)
def test_a_group_holds_what_its_name_says_and_no_more(name, inside, outside):
    assert all(form in FORMS for form in (*inside, *(set(outside) - {"greyscale"})))
    assert set(inside) <= members(name)
    assert not set(outside) & members(name)


def test_all_person_counts_of_the_vocabulary_are_in_the_count_group():
    assert {form for form in FORMS if PERSON_COUNT.match(form)} <= members("count")


def test_every_implication_joins_two_tags_of_the_vocabulary_once():
    pairs = load_implications("common")
    assert len(pairs) >= 150
    assert [tag for pair in pairs for tag in pair if tag not in load()] == []
    assert len(set(pairs)) == len(pairs)


def test_the_shipped_implications_are_acyclic_and_follow_chains():
    closed = set(close_chains(load_implications("common")))
    assert all(specific != general for specific, general in closed)
    assert {
        ("baseball cap", "hat"),
        ("cat ears", "animal ears"),
        ("black bikini", "swimsuit"),
    } <= closed
    assert {(a, d) for a, b in closed for c, d in closed if b == c} <= closed


@pytest.mark.parametrize(
    "pair",
    [
        ("covered eyes", "red eyes"),
        ("white background", "simple background"),
        ("unworn hat", "hat"),
    ],
)
def test_tags_that_merely_share_words_are_not_implications(pair):
    assert pair not in close_chains(load_implications("common"))


def test_none_means_no_implications():
    assert load_implications("none") == ()


def test_a_table_of_the_user_is_read(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('\ufeff[redundant]\n"hat" = ["fez"]\n', encoding="utf-8")
    assert load_implications(str(path)) == (("fez", "hat"),)


@pytest.mark.parametrize(
    "text",
    [
        "[redundant",
        'hat = ["fez"]',
        "[redundant]\nhat = 'fez'",
        "[redundant]\nhat = [1]",
        '[redundant]\nhat = [""]',
    ],
)
def test_a_malformed_table_is_refused_with_its_file_name(text):
    with pytest.raises(ConfigError, match=r"mine\.toml") as caught:
        read_implications(text, source="mine.toml")
    assert "redundant" in caught.value.hint


@pytest.mark.parametrize("spec", ["missing.toml", "Common"])
def test_a_missing_table_is_refused(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_implications(spec)


def test_a_table_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe[")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_implications(str(path))


@pytest.mark.parametrize(
    "pairs", [[("a", "A")], [("a", "b"), ("b", "a")], [("a", "b"), ("b", "c"), ("c", "a")]]
)
def test_circular_implications_are_refused(pairs):
    with pytest.raises(ConfigError, match="circular"):
        close_chains(pairs)


@pytest.mark.parametrize(
    "text",
    [
        "[a",
        "a = 1",
        "[a]\nglob = []",
        "[a]\ntags = 'x'",
        "[a]\ntags = [1]",
        "[a]\nincludes = ['b']",
    ],
)
def test_malformed_groups_are_refused(text):
    with pytest.raises(ConfigError, match=r"my\.toml"):
        read_groups(text, source="my.toml")
