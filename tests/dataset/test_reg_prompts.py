"""Regularisation images to generate, and the records of them."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from datasetkit.core.records import Caption
from datasetkit.dataset import reg_prompts
from datasetkit.dataset.reg_prompts import RegImage, RegRecord, RegSettings

SETTINGS = RegSettings("1girl", "base", "ab" * 32, True, "lowres", 20, 7.0, "euler_a", 5, 2)
WANTED = RegImage(3, "1girl_0004", "1girl, smile", (384, 640), 8)


@given(
    st.integers(1, 30),
    st.integers(0, 30),
    st.lists(st.text(min_size=1), min_size=1),
    st.integers(0, 2**63 - 1),
)
def test_a_larger_set_keeps_the_images_of_a_smaller_one(count, more, prompts, seed):
    small = reg_prompts.images_to_generate("1girl", count, prompts, [(512, 512), (384, 640)], seed)
    large = reg_prompts.images_to_generate(
        "1girl", count + more, prompts, [(512, 512), (384, 640)], seed
    )
    assert large[:count] == small and len(large) == count + more
    assert len({one.stem for one in large}) == len({one.seed for one in large}) == len(large)


def test_prompts_and_sizes_alternate_and_sizes_are_usable():
    found = reg_prompts.images_to_generate("sks girl", 3, ["a", "b"], [(500, 333)], 7)
    assert [one.prompt for one in found] == ["a", "b", "a"]
    assert [one.size for one in found] == [(496, 328)] * 3
    assert reg_prompts.usable_size((80, 48)) == (104, 64) and reg_prompts.usable_size((64, 64)) == (
        64,
        64,
    )
    assert [one.stem for one in found] == ["sks_girl_0001", "sks_girl_0002", "sks_girl_0003"]
    assert [one.seed for one in found] == [7, 8, 9]


def test_the_class_replaces_the_trigger():
    caption = Caption(("SKS", "red hair", "1girl", "smile"))
    assert reg_prompts.reclassed(caption, ["sks"], "1girl") == Caption(
        ("1girl", "red hair", "smile")
    )
    assert reg_prompts.reclassed(Caption(()), ["sks"], "1girl") == Caption(("1girl",))


def test_a_record_has_the_settings_of_an_image():
    text = RegRecord(WANTED, SETTINGS, "datasetkit 1").text()
    told = reg_prompts.parse(text)
    assert told is not None and (told["index"], told["seed"], told["set_seed"]) == (3, 8, 5)
    assert (told["prompt"], told["size"], told["hash"], told["sampler"]) == (
        "1girl, smile", [384, 640], "ab" * 32, "euler_a",
    )  # fmt: skip
    assert json.loads(text)["program"] == "datasetkit 1"
    assert (
        reg_prompts.parse("{}") is None
        and reg_prompts.parse("no json") is None
        and reg_prompts.parse("[1]") is None
    )


def test_the_text_in_the_image_has_the_format_of_the_web_interfaces():
    assert RegRecord(WANTED, SETTINGS, "datasetkit 1").parameters() == (
        "1girl, smile\nNegative prompt: lowres\nSteps: 20, Sampler: Euler a, CFG scale: 7, "
        "Seed: 8, Size: 384x640, "
        "Model hash: ababababab, Model: base, Clip skip: 2, Version: datasetkit 1"
    )


def test_other_settings_are_named():
    told = reg_prompts.parse(RegRecord(WANTED, SETTINGS, "datasetkit 1").text())
    assert told is not None and reg_prompts.difference(told, SETTINGS) == ""
    other = RegSettings("1girl", "renamed", "ab" * 32, True, "lowres", 20, 7.0, "euler_a", 6, 2)
    assert reg_prompts.difference(told, other) == "set_seed was 5 and is 6"
    unloaded = replace(SETTINGS, model="", hash="")
    assert reg_prompts.difference(told, unloaded) == ""
    assert reg_prompts.difference(told, replace(SETTINGS, hash="cd" * 32)).startswith(
        "hash was abab"
    )
