"""What rules do to a caption, and which rules are refused."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.captions.caption import normal_form, parse
from datasetkit.captions.rules import (
    Exclude,
    Implies,
    Replace,
    Trigger,
    apply,
    build,
    escape_brackets,
    load_groups,
    load_implications,
    summary,
)
from datasetkit.captions.rulesets import split_replace
from datasetkit.captions.vocabulary import load
from datasetkit.core.errors import ConfigError

VOCABULARY = load()


def rules(trigger=(), additional=(), exclude=(), replace=(), implies=()):
    return build(
        trigger, additional, exclude, replace, implies, vocabulary=VOCABULARY, groups=load_groups()
    )


def run(tags, **given_rules):
    return apply(rules(**given_rules), tags, category=VOCABULARY.category).tags


# Tags that rules are likely to trip over, in several spellings, beside ones that nobody knows.
POOL = (
    "1girl", "solo", "lips", "Lips", "nose", "red hair", "red_hair", "black hair", "covered eyes",
    "red eyes", "hat", "baseball cap", "smile", "explicit", "hatsune miku", "@_@", "?", "!?", "v",
    "w", "x", "!", "sks", "SKS", "my dog", "fate (series)", r"fate \(series\)", "black bikini",
    "bikini", "swimsuit", "_", "white background", "photo",
)  # fmt: skip
PAIRS = (
    ("baseball cap", "hat"),
    ("black bikini", "bikini"),
    ("bikini", "swimsuit"),
    ("photo", "v"),
    ("grin", "smile"),
)
some_tags = st.lists(
    st.sampled_from(POOL) | st.text("ab_ ", min_size=1, max_size=4).filter(str.strip), max_size=14
)
some_rules = st.fixed_dictionaries(
    {
        "trigger": st.lists(st.sampled_from(["sks", "Sks", "MikamiYua", "my_dog"]), max_size=2),
        "additional": st.lists(
            st.sampled_from(["photo", "solo", "sks", "White_Background"]), max_size=2
        ),
        "exclude": st.lists(
            st.sampled_from(
                [
                    "lips",
                    "*_hair",
                    "@face",
                    "@clothes",
                    "category:rating",
                    "?",
                    "*",
                    "s*",
                    "@count",
                    "v",
                ]
            ),
            max_size=4,
        ),
        "replace": st.lists(
            st.sampled_from(["smile=grin", "red hair=lips", "nose=sks", "x=photo", "v=V"]),
            max_size=2,
        ),
        "implies": st.sampled_from([(), PAIRS]),
    }
)


@given(some_tags, some_rules)
@settings(max_examples=300, deadline=None)
def test_triggers_then_additional_tags_begin_every_caption_once(tags, wishes):
    ruled = rules(**wishes)
    after = apply(ruled, tags, category=VOCABULARY.category).tags
    leading = (*ruled.triggers, *ruled.additional)
    assert after[: len(leading)] == leading
    assert ruled.keep_tokens == len(leading)
    assert {normal_form(tag) for tag in (*wishes["trigger"], *wishes["additional"])} == set(
        map(normal_form, leading)
    )
    forms = [normal_form(tag) for tag in after]
    assert len(set(forms)) == len(forms)


@given(some_tags, some_rules)
@settings(max_examples=300, deadline=None)
def test_a_second_run_changes_nothing(tags, wishes):
    ruled = rules(**wishes)
    once = apply(ruled, tags, category=VOCABULARY.category).tags
    twice = apply(ruled, once, category=VOCABULARY.category).tags
    assert twice == once


@given(some_tags, some_rules)
@settings(max_examples=300, deadline=None)
def test_the_rest_keeps_its_order_and_its_spelling(tags, wishes):
    ruled = rules(**wishes | {"replace": []})
    rest = apply(ruled, tags, category=VOCABULARY.category).tags[ruled.keep_tokens :]
    source = iter(tags)
    assert all(
        tag in source for tag in rest
    )  # a subsequence: `in` consumes the iterator up to the hit


@given(some_tags)
@settings(max_examples=100, deadline=None)
def test_without_rules_only_repetitions_are_removed(tags):
    after = run(tags)
    assert {normal_form(tag) for tag in after} == {normal_form(tag) for tag in tags}


def test_rules_apply_in_the_documented_order():
    # The new tag is excluded; the excluded cap still makes `hat` redundant; the trigger comes last
    # and stands first.
    after = run(
        ["old", "hat", "baseball cap", "smile"],
        trigger=["sks"],
        additional=["photo"],
        exclude=["lips", "baseball cap"],
        replace=["old=lips"],
        implies=[("baseball cap", "hat")],
    )
    assert after == ("sks", "photo", "smile")


@pytest.mark.parametrize(
    ("selector", "kept"),
    [
        ("@_@", ("?", "!?", "??", "lips", "v")),
        ("?", ("@_@", "!?", "??", "lips", "v")),
        ("!?", ("@_@", "?", "??", "lips", "v")),
        ("@face", ("@_@", "?", "!?", "??", "v")),
        ("v", ("@_@", "?", "!?", "??", "lips")),
        ("l?ps", ("@_@", "?", "!?", "??", "v")),
        ("*", ()),
    ],
)
def test_an_exact_tag_wins_before_a_group_or_a_glob(selector, kept):
    assert run(["@_@", "?", "!?", "??", "lips", "v"], exclude=[selector]) == kept


@pytest.mark.parametrize(
    "selector", ["eyes", "ed eyes", "red", "[r]ed eyes", ".*eyes", "red|covered", "hair", "w"]
)
def test_no_selector_matches_a_part_of_a_tag_or_as_a_regex(selector):
    tags = ("covered eyes", "red eyes", "red hair", "blue eyes")
    assert run(tags, exclude=[selector]) == tags


def test_red_eyes_are_kept_beside_covered_eyes():
    tags = ("covered eyes", "red eyes")
    assert run(tags, exclude=["covered eyes"]) == ("red eyes",)
    assert run(tags, implies=load_implications("common")) == tags


def test_short_tags_are_kept_until_they_are_named():
    tags = ("v", "w", "x", "?", "!", ":d", ";)", "39")
    assert (
        run(tags, exclude=["lips", "@face", "@meta", "*_hair"], implies=load_implications("common"))
        == tags
    )
    assert run(tags, exclude=["w", "!"]) == ("v", "x", "?", ":d", ";)", "39")


def test_a_glob_matches_whole_tags_in_any_spelling_and_has_no_other_special_characters():
    tags = ("Red_Hair", "hair", "red hair ornament", "a[b]c", "abc", "hatsune miku (append)")
    assert run(tags, exclude=["*_HAIR"]) == tags[1:]
    assert run(tags, exclude=["a[b]*"]) == (*tags[:3], *tags[4:])
    assert run(tags, exclude=[r"* \(append\)"]) == tags[:5]


def test_a_glob_of_many_stars_is_fast():
    assert run(["a" * 5_000], exclude=["*a" * 30 + "*b"]) == ("a" * 5_000,)


def test_a_category_is_excluded_as_a_whole():
    tags = ["explicit", "hatsune miku", "smile", "my dog"]
    assert run(tags, exclude=["category:rating"]) == ("hatsune miku", "smile", "my dog")
    assert run(tags, exclude=["Category: Character"]) == ("explicit", "smile", "my dog")


def test_globs_groups_and_categories_never_drop_leading_tags():
    after = run(
        ["lips", "smile"],
        trigger=["hatsune miku"],
        additional=["lips"],
        exclude=["*", "@face", "category:character"],
    )
    assert after == ("hatsune miku", "lips")


def test_implications_never_drop_an_additional_tag_but_count_it_as_present():
    pairs = [("baseball cap", "hat"), ("smile", "face")]
    assert run(["baseball cap", "hat"], additional=["hat"], implies=pairs) == (
        "hat",
        "baseball cap",
    )
    assert run(["hat", "dog"], additional=["baseball cap"], implies=pairs) == (
        "baseball cap",
        "dog",
    )


def test_implications_follow_chains():
    assert run(["black bikini", "swimsuit"], implies=load_implications("common")) == (
        "black bikini",
    )


def test_a_trigger_moves_to_the_front_in_its_own_spelling():
    assert run(["smile", "mikamiyua", "hat", "MIKAMIYUA"], trigger=["MikamiYua"]) == (
        "MikamiYua",
        "smile",
        "hat",
    )


def test_known_tags_are_written_as_the_vocabulary_spells_them_and_triggers_as_they_are():
    after = run(
        ["hat"], trigger=["my_dog"], additional=["White_Background"], replace=["hat=Long_Hair"]
    )
    assert after == ("my_dog", "white background", "long hair")


def test_replacing_is_one_simultaneous_pass():
    assert run(["smile", "hat"], replace=["smile=hat", "hat=smile"]) == ("hat", "smile")
    chain = rules(replace=["smile=hat", "hat=bow"])
    assert apply(chain, ["smile"], category=VOCABULARY.category).tags == ("hat",)
    assert "chain" in chain.warnings[0]


def test_a_replacement_that_is_already_present_is_not_repeated():
    assert run(["grin", "smile"], replace=["smile=grin"], trigger=["sks"]) == ("sks", "grin")


@pytest.mark.parametrize(
    ("entry", "sides"),
    [
        ("smile=grin", ("smile", "grin")),
        ("=_==smile", ("=_=", "smile")),
        ("smile==_=", ("smile", "=_=")),
        (":>==_=", (":>", "=_=")),
        (":>===_=", (":>=", "=_=")),
        ("my dog=_=", ("my dog", "_=")),
        ("=_==my dog", ("=_=", "my dog")),
        ("a=b=c", ("a", "b=c")),
        (" smile = grin ", ("smile", "grin")),
    ],
)
def test_a_replacement_is_split_into_known_tags(entry, sides):
    assert split_replace(entry, VOCABULARY) == sides


@pytest.mark.parametrize(
    "entry", ["smile", "smile=", "=grin", "=", "=_=", "*_hair=hair", "@face=x", "a=b,c", "a=b\nc"]
)
def test_a_malformed_replacement_is_refused(entry):
    with pytest.raises(ConfigError):
        rules(replace=[entry])


def test_a_tag_has_one_replacement():
    with pytest.raises(ConfigError, match="two replacements"):
        rules(replace=["smile=grin", "Smile=smirk"])
    assert len(rules(replace=["smile=grin", "Smile=Grin"]).replace) == 1


@pytest.mark.parametrize(
    "tag",
    [
        "",
        " ",
        "a,b",
        "a\nb",
        " a",
        "a ",
        "a  b",
        "a\x00b",
        "\ufeffa",
        "a\u202eb",
        "\u200da",
        "_",
        "a\x85b",
        "\ud800",
    ],
)
def test_a_leading_tag_that_a_caption_cannot_hold_is_refused(tag):
    for place in ("trigger", "additional"):
        with pytest.raises(ConfigError) as caught:
            rules(**{place: [tag]})
        assert caught.value.hint


@given(st.text(max_size=8))
@settings(max_examples=300, deadline=None)
def test_every_accepted_trigger_survives_the_file(name):
    try:
        ruled = rules(trigger=[name])
    except ConfigError:
        return
    after = apply(ruled, ["smile"], category=VOCABULARY.category).tags
    assert parse(", ".join(after) + "\n").tags == after


@pytest.mark.parametrize(
    "wishes",
    [
        {"trigger": ["sks"], "exclude": ["SKS"]},
        {"additional": ["white background"], "exclude": ["white_background"]},
        {"trigger": ["sks"], "replace": ["sks=dog"]},
        {"additional": ["smile"], "replace": ["Smile=grin"]},
    ],
)
def test_rules_that_contradict_each_other_are_refused(wishes):
    with pytest.raises(ConfigError, match="would remove"):
        rules(**wishes)


@pytest.mark.parametrize(
    ("selector", "near"),
    [
        ("@hairs", "@hair"),
        ("@clothing", "@clothes"),
        ("category:ratings", "category:rating"),
        ("@", "@face"),
    ],
)
def test_an_unknown_group_or_category_is_refused_with_the_nearest(selector, near):
    with pytest.raises(ConfigError) as caught:
        rules(exclude=[selector])
    assert near in caught.value.hint


def test_an_empty_selector_is_refused():
    with pytest.raises(ConfigError):
        rules(exclude=[" "])


def test_a_trigger_in_the_vocabulary_is_a_warning():
    assert "'smile'" in rules(trigger=["smile"]).warnings[0]
    assert rules(trigger=["MikamiYua"]).warnings == ()


def test_a_rule_set_is_false_only_without_rules_and_survives_pickling():
    assert not rules()
    ruled = rules(
        trigger=["sks"],
        exclude=["*_hair", "@face"],
        replace=["smile=grin"],
        implies=[("fez", "hat")],
    )
    copy = pickle.loads(pickle.dumps(ruled))
    assert ruled and copy == ruled
    tags = ["red hair", "smile", "fez", "hat", "lips"]
    assert apply(copy, tags, category=VOCABULARY.category).tags == ("sks", "grin", "fez")


def hits(captions, **wishes):
    ruled = rules(**wishes)
    done = [apply(ruled, tags, category=VOCABULARY.category) for tags in captions]
    return {hit.rule: hit for hit in summary(ruled, [result.fired for result in done])}


def test_each_rule_counts_once_per_caption_even_where_rules_overlap():
    rule_hits = hits(
        [["lips", "nose", "smile"], ["lips", "Lips"], ["dog", "fez", "hat"]],
        trigger=["sks"],
        exclude=["@face", "lips"],
        replace=["smile=grin"],
        implies=[("fez", "hat"), ("a", "b")],
    )
    assert {rule: hit.captions for rule, hit in rule_hits.items()} == {
        Trigger("sks"): 3,
        Exclude("@face"): 2,
        Exclude("lips"): 2,
        Replace("smile", "grin"): 1,
        Implies("fez", "hat"): 1,
    }
    assert all(hit.warning is None for hit in rule_hits.values())


def test_a_trigger_that_is_already_first_changes_nothing():
    assert hits([["sks", "smile"], ["smile", "sks"]], trigger=["sks"])[Trigger("sks")].captions == 1


@pytest.mark.parametrize(
    ("selector", "part"),
    [
        ("eyes", "@eyes"),
        ("Hair", "@hair"),
        ("blonde", "'blonde hair'"),
        ("lip", "'lips'"),
        ("lips", "but in no caption"),
        ("*_lips", "'lips'"),
        ("@meta", "no caption has a tag of this group or category"),
        ("category:rating", "no caption has a tag of this group or category"),
    ],
)
def test_a_rule_that_matched_nothing_suggests_what_was_meant(selector, part):
    warning = hits([["smile"]], exclude=[selector])[Exclude(selector)].warning
    assert warning is not None
    assert part in warning


def test_a_replacement_that_matched_nothing_warns_but_leading_tags_and_implications_do_not():
    rule_hits = hits(
        [["sks", "photo"]],
        trigger=["sks"],
        additional=["photo"],
        replace=["smiel=grin"],
        implies=[("a", "b")],
    )
    assert [rule for rule, hit in rule_hits.items() if hit.warning] == [Replace("smiel", "grin")]
    assert Implies("a", "b") not in rule_hits


def test_escaping_brackets_twice_is_escaping_them_once():
    once = escape_brackets(["fate (series)", r"fate \(series\)", "\\o/", ":("])
    assert once == (r"fate \(series\)", r"fate \(series\)", "\\o/", r":\(")
    assert escape_brackets(once) == once
    assert [normal_form(tag) for tag in once[:2]] == ["fate (series)"] * 2


@pytest.mark.parametrize(
    ("exclude", "asked"),
    [(["lips", "*_hair"], False), (["lips", "category:rating"], True), (["@face"], True)],
)
def test_categories_are_looked_up_only_for_rules_that_depend_on_them(exclude, asked):
    """Ten thousand captions have a quarter of a million tags."""
    seen = []

    def category(tag):
        seen.append(tag)
        return VOCABULARY.category(tag)

    after = apply(rules(exclude=exclude), ["lips", "red hair", "solo"], category=category).tags
    assert "solo" in after and "lips" not in after
    assert bool(seen) is asked
