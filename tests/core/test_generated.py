"""Generated pictures: what is drawn, and what is told of it."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from datasetkit.core import generated
from datasetkit.core.captions import Caption
from datasetkit.core.generated import Record, Settings, Wanted

SETTINGS = Settings("1girl", "base", "ab" * 32, True, "lowres", 20, 7.0, "euler_a", 5, 2)
WANTED = Wanted(3, "1girl_0004", "1girl, smile", (384, 640), 8)


@given(st.integers(1, 30), st.integers(0, 30), st.lists(st.text(min_size=1), min_size=1), st.integers(0, 2**63 - 1))
def test_a_set_that_grows_keeps_what_it_has(count, more, prompts, seed):
    small = generated.wanted("1girl", count, prompts, [(512, 512), (384, 640)], seed)
    large = generated.wanted("1girl", count + more, prompts, [(512, 512), (384, 640)], seed)
    assert large[:count] == small and len(large) == count + more
    assert len({one.stem for one in large}) == len({one.seed for one in large}) == len(large)


def test_prompts_and_sizes_take_turns_and_can_be_drawn():
    found = generated.wanted("sks girl", 3, ["a", "b"], [(500, 333)], 7)
    assert [one.prompt for one in found] == ["a", "b", "a"]
    assert [one.size for one in found] == [(496, 328)] * 3
    assert generated.fitted((80, 48)) == (104, 64) and generated.fitted((64, 64)) == (64, 64)
    assert [one.stem for one in found] == ["sks_girl_0001", "sks_girl_0002", "sks_girl_0003"]
    assert [one.seed for one in found] == [7, 8, 9]


def test_the_class_stands_in_place_of_the_trigger():
    caption = Caption(("SKS", "red hair", "1girl", "smile"))
    assert generated.reclassed(caption, ["sks"], "1girl") == Caption(("1girl", "red hair", "smile"))
    assert generated.reclassed(Caption(()), ["sks"], "1girl") == Caption(("1girl",))


def test_a_record_tells_where_a_picture_is_from():
    text = Record(WANTED, SETTINGS, "datasetkit 1").text()
    told = generated.parse(text)
    assert told is not None and (told["index"], told["seed"], told["set_seed"]) == (3, 8, 5)
    assert (told["prompt"], told["size"], told["hash"], told["sampler"]) == (
        "1girl, smile", [384, 640], "ab" * 32, "euler_a",
    )  # fmt: skip
    assert json.loads(text)["program"] == "datasetkit 1"
    assert generated.parse("{}") is None and generated.parse("no json") is None and generated.parse("[1]") is None


def test_the_text_in_the_picture_is_that_of_user_interfaces():
    assert Record(WANTED, SETTINGS, "datasetkit 1").parameters() == (
        "1girl, smile\nNegative prompt: lowres\nSteps: 20, Sampler: euler_a, CFG scale: 7, Seed: 8, Size: 384x640, "
        "Model hash: ababababab, Model: base, Clip skip: 2, Version: datasetkit 1"
    )


def test_other_settings_are_named():
    told = generated.parse(Record(WANTED, SETTINGS, "datasetkit 1").text())
    assert told is not None and generated.differing(told, SETTINGS) == ""
    other = Settings("1girl", "renamed", "ab" * 32, True, "lowres", 20, 7.0, "euler_a", 6, 2)
    assert generated.differing(told, other) == "set_seed was 5 and is 6"
    unloaded = replace(SETTINGS, model="", hash="")
    assert generated.differing(told, unloaded) == ""
    assert generated.differing(told, replace(SETTINGS, hash="cd" * 32)).startswith("hash was abab")
