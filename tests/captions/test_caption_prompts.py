"""Prompts of models that follow instructions, and what they must not mention."""

import pytest

from datasetkit.captions import vocabulary
from datasetkit.captions.caption_prompts import PRESETS, VARIABLES, rendered, template_of, uses
from datasetkit.captions.exclusions import exclusions
from datasetkit.captions.selectors import load_groups
from datasetkit.core.errors import ConfigError

EMPTY = dict.fromkeys(VARIABLES, "")


def values(**given: str) -> dict[str, str]:
    return EMPTY | given


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_templates_and_say_nothing_of_what_is_empty(preset):
    template = template_of(preset)
    assert uses(template, "exclude")
    assert not uses(template, "trigger")  # it is put in front, and not asked of the model
    assert "{" not in rendered(template, EMPTY)
    assert "Do not mention" not in rendered(template, EMPTY)
    assert "hair, lips" in rendered(template, values(exclude="hair, lips"))


def test_values_are_text():
    template = template_of("Say {name} and {tags}.")
    text = rendered(template, values(name="{tags}", tags="a\\{b}"))
    assert text == "Say {tags} and a\\{b}."


def test_line_is_left_out_only_if_all_its_variables_are_empty():
    template = template_of("First line.\n{tags} and {name}.\nBy {trigger}.")
    assert rendered(template, values(name="x")) == "First line.\n and x."
    assert rendered(template, EMPTY) == "First line."


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r"Use \{json\} here", "Use {json} here"),
        ("A 100% plain prompt $x", "A 100% plain prompt $x"),
        (r"Back\\slash here", r"Back\slash here"),
    ],
)
def test_braces_can_be_text(text, shown):
    assert rendered(template_of(text), EMPTY) == shown


@pytest.mark.parametrize("text", ["oneword", "", "a {b} c", "a } c", "a { c", "a {tags c", "{} x"])
def test_what_is_not_a_prompt_is_refused_with_a_hint(text):
    with pytest.raises(ConfigError) as refused:
        template_of(text)
    assert refused.value.hint


# ---- what must not be mentioned


def looked_for(*exclude: str):
    return exclusions(exclude, vocabulary.load(), load_groups())


@pytest.mark.parametrize(
    ("exclude", "sentence", "mentioned"),
    [
        ("lips", "Her lips, lip and LIPS shine.", ("lips",)),
        ("hat", "That hatter has two hats and a hat.", ("hats", "hat")),
        ("long_hair", "She has long  hair.", ("long hair",)),
        ("*_hair", "Long hair, and a hairpin.", ("long hair",)),
        ("blue*", "A bluebird in a blue sky.", ("bluebird", "blue")),
        ("@hair", "Wet hair; a ponytail and red hair.", ("ponytail", "red hair")),
        ("@face", "A face with freckles, an open mouth.", ("face", "freckles", "mouth")),
        (":d", "She smiles :D", ()),
        ("category:rating", "A general view.", ()),
        ("长发", "一个长发女孩。", ("长发",)),
        ("шляпа", "Большая шляпа.", ("шляпа",)),
    ],
)
def test_words_are_found_as_words(exclude, sentence, mentioned):
    assert looked_for(exclude).mentioned(sentence) == mentioned


def test_nothing_is_looked_for_without_exclusions():
    assert looked_for().mentioned("anything at all") == ()
    assert looked_for("***").mentioned("anything at all") == ()


def test_prompt_names_groups_and_globs_as_words():
    assert looked_for("@hair", "*_eyes", "lips").words == ("hair", "eyes", "lips")


def test_unknown_group_is_refused():
    with pytest.raises(ConfigError, match="unknown group"):
        looked_for("@hairs_and_more")
