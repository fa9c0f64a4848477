"""Backgrounds: the colours behind a cut-out subject, and the tags of its caption."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasetkit.captions import backgrounds
from datasetkit.captions.vocabulary import load
from datasetkit.core.errors import ConfigError
from datasetkit.vision import colours

TAGS = [
    "sks",
    "1girl",
    "smile",
    "forest",
    "white background",
    "blue sky",
    "simple background",
    "hat",
    "day",
]


@pytest.mark.parametrize("name", backgrounds.NAMED)
def test_every_named_colour_looks_like_its_name_and_has_a_tag(name):
    assert colours.name(backgrounds.NAMED[name]) == name
    assert f"{name} background" in load()


def test_every_basic_colour_name_has_its_tag():
    assert [name for name in colours.named_shades() if f"{name} background" not in load()] == []


@pytest.mark.parametrize(
    ("bg", "colour"),
    [
        ("white", (255, 255, 255)),
        ("#102030", (16, 32, 48)),
        ("#fA0", (255, 170, 0)),
        ("black", (0, 0, 0)),
    ],
)
def test_colours_by_name_and_by_number(bg, colour):
    backgrounds.require(bg)
    assert backgrounds.colour(bg, "any") == colour


@pytest.mark.parametrize("bg", ["", "gray", "#12", "#1234567", "#ggg", "White", "rgb(1,2,3)"])
def test_an_unknown_colour_is_refused(bg):
    with pytest.raises(ConfigError, match="is not a colour"):
        backgrounds.require(bg)


def test_a_random_colour_depends_on_the_image_only():
    several = {f"{n:016x}": backgrounds.colour("random", f"{n:016x}") for n in range(60)}
    assert several == {image: backgrounds.colour("random", image) for image in several}
    assert len(set(several.values())) > 6
    assert set(several.values()) <= set(backgrounds.NAMED.values())


def test_the_new_background_tags_replace_the_old_ones_in_position():
    assert backgrounds.reworded(
        ["sks", "1girl", "forest", "smile", "blue sky", "day"], "white"
    ) == (
        "sks",
        "1girl",
        "white background",
        "simple background",
        "smile",
    )


def test_a_caption_without_a_background_gets_one_at_its_end():
    assert backgrounds.reworded(["sks", "smile"], "grey") == (
        "sks",
        "smile",
        "grey background",
        "simple background",
    )


def test_a_trigger_is_kept_even_if_it_looks_like_a_background():
    assert backgrounds.reworded(["misty background", "smile"], "black")[0] == "misty background"
    assert backgrounds.reworded(["blue_sky", "smile"], "black")[0] == "black background"


@given(
    st.lists(st.sampled_from(TAGS), min_size=1, unique=True),
    st.sampled_from(sorted(backgrounds.NAMED)),
)
def test_exactly_one_background_is_left_and_a_second_run_changes_nothing(tags, name):
    once = backgrounds.reworded(tags, name)
    assert [tag for tag in once if tag.endswith("background")] == [
        f"{name} background",
        "simple background",
    ]
    assert not {"forest", "blue sky", "day"} & set(once)
    assert backgrounds.reworded(once, name) == once
    assert [tag for tag in once if tag in ("sks", "1girl", "smile", "hat")] == [
        tag for tag in tags if tag in ("sks", "1girl", "smile", "hat")
    ]
